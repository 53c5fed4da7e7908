#!/usr/bin/python3
"""Writes the cases beside this file: the learning rates of PyTorch's own schedulers, step by step. Needs torch (1.13 made them)."""
import json
import warnings
from pathlib import Path

import torch
from torch.optim import lr_scheduler as s

FLAT = {"kind": "constant", "lr": 0.05}
CASES = {
    "constant": (3, 4, FLAT),
    "constant-warmup": (4, 5, {**FLAT, "warmup_epochs": 1.4}),
    "step": (6, 3, {"kind": "step", "lr": 0.1, "step_epochs": 2, "gamma": 0.3}),
    "step-warmup": (5, 7, {"kind": "step", "lr": 0.2, "step_epochs": 1, "gamma": 0.5, "warmup_epochs": 2}),
    "multi-step": (6, 3, {"kind": "multi_step", "lr": 0.1, "milestones": [2, 3, 5], "gamma": 0.2}),
    "multi-step-warmup": (5, 4, {"kind": "multi_step", "lr": 0.3, "milestones": [1, 4], "gamma": 0.5, "warmup_epochs": 2.5}),
    "cosine": (4, 6, {"kind": "cosine", "lr": 0.1, "min_lr": 0.001}),
    "cosine-warmup": (5, 4, {"kind": "cosine", "lr": 0.1, "min_lr": 0, "warmup_epochs": 1}),
    "one-cycle": (5, 8, {"kind": "one_cycle", "lr": 0.1}),
    "one-cycle-all": (3, 7, {"kind": "one_cycle", "lr": 0.4, "warmup_fraction": 0.45, "div_factor": 10, "final_div_factor": 100}),
    "one-cycle-short": (1, 3, {"kind": "one_cycle", "lr": 0.1}),
}


def schedulers(optimizer, epochs, steps, spec):
    """The schedulers whose factors multiply."""
    warm = round(spec.get("warmup_epochs", 0) * steps)
    rise = [s.LinearLR(optimizer, 0.01, 1, warm)] if warm else []
    if spec["kind"] == "step":
        return rise + [s.StepLR(optimizer, spec["step_epochs"] * steps, spec["gamma"])]
    if spec["kind"] == "multi_step":
        return rise + [s.MultiStepLR(optimizer, [epoch * steps for epoch in spec["milestones"]], spec["gamma"])]
    if spec["kind"] == "cosine":
        fall = s.CosineAnnealingLR(optimizer, epochs * steps - warm, spec["min_lr"])
        return [s.SequentialLR(optimizer, rise + [fall], [warm])] if warm else [fall]
    if spec["kind"] == "one_cycle":
        return [s.OneCycleLR(optimizer, spec["lr"], epochs * steps, pct_start=spec.get("warmup_fraction", 0.3), cycle_momentum=False,
                             div_factor=spec.get("div_factor", 25), final_div_factor=spec.get("final_div_factor", 1e4))]
    return rise


def rates(epochs, steps, spec):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=spec["lr"])
    chain = schedulers(optimizer, epochs, steps, spec)
    for _ in range(epochs * steps):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        for scheduler in chain:
            scheduler.step()


def main():
    warnings.simplefilter("ignore")
    for name, (epochs, steps, spec) in CASES.items():
        document = {"dataset": "shapes", "model": "resnet8", "epochs": epochs, "schedule": spec}
        case = {"spec": document, "steps_per_epoch": steps, "torch": torch.__version__, "lr": list(rates(epochs, steps, spec))}
        (Path(__file__).parent / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n")


main()
