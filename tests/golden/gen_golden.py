#!/usr/bin/python3
"""Makes the golden numbers of tests/golden: what PyTorch gives for ten training steps of each optimizer from weights and images of a
formula (formula.py).

    tests/golden/gen_golden.py          writes tests/golden/NAME.json for every row of CASES

Needs Debian's python3-torch (made with 1.13); the tests need only the files. PyTorch runs in double precision, so that the numbers are
those of the mathematics and not of one order of summation; weights, images and learning rates are rounded to f32 first, as the
modules get them. Sizes and learning rates are such that noise of 1e-7 on weights and images changes the results by about 1e-6, and
only seldom moves a pixel over the kink of a relu (with 32x32 images and a rate of 0.02, ResNet-20 comes out different by 4 % of
a change in PyTorch's own f32). The same is why two epsilons are larger than usual: with 1e-8, the sign of a gradient near zero decides
a whole step of Adam or RMSprop, and f32 may get it wrong. Tensors are stored as their change over the ten steps: its sum, its
Euclidean norm, some values.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import formula

STEPS, BATCH, CLASSES = 10, 8, 10
SAMPLES = 4
SGD = dict(kind="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4)
ADAM = dict(kind="adam", lr=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8)
RMSPROP = dict(kind="rmsprop", lr=0.001, alpha=0.9, epsilon=1e-8)
CASES = {
    "resnet8": dict(preset="resnet8", size=32, shortcut="A", optimizer=SGD),
    "resnet8-decay": dict(preset="resnet8", size=24, shortcut="B", optimizer=SGD | dict(lr=0.02, momentum=0.5, weight_decay=0.05)),
    "resnet20-nesterov": dict(preset="resnet20", size=16, shortcut="A", optimizer=SGD | dict(lr=0.005, nesterov=True)),
    "sgd-clipped": dict(preset="resnet8", size=16, shortcut="A", smoothing=0.1,
                        optimizer=SGD | dict(weight_decay=0.05, decay_weights_only=True, clip_norm=2)),
    "adam": dict(preset="resnet8", size=16, shortcut="A", optimizer=ADAM | dict(epsilon=1e-5, weight_decay=0.01)),
    "adam-clipped": dict(preset="resnet8", size=16, shortcut="B", average_decay=0.9, mixup=True,
                         optimizer=ADAM | dict(weight_decay=0.1, decay_weights_only=True, beta2=0.9, clip_norm=0.25)),
    "adamw": dict(preset="resnet8", size=16, shortcut="A", smoothing=0.2, mixup=True,
                  optimizer=ADAM | dict(kind="adamw", weight_decay=5, decay_weights_only=True)),
    "rmsprop": dict(preset="resnet8", size=16, shortcut="A", average_decay=0.75, optimizer=RMSPROP | dict(epsilon=1e-3, weight_decay=0.01)),
    "rmsprop-momentum": dict(preset="resnet8", size=16, shortcut="A",
                             optimizer=RMSPROP | dict(lr=0.0002, momentum=0.9, weight_decay=0.1, decay_weights_only=True, clip_norm=2)),
}


class Block(nn.Module):
    def __init__(self, channels_in, channels, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.more = stride, channels - channels_in
        changes = stride != 1 or channels_in != channels
        if changes and shortcut == "B":
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def skip(self, x):
        if hasattr(self, "downsample"):
            return self.downsample(x)
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.skip(x))


class CifarResNet(nn.Module):
    """He et al. 2015, section 4.2."""

    def __init__(self, depth, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for stage in range(3):
            blocks = []
            for i in range((depth - 2) // 6):
                blocks.append(Block(channels, 16 << stage, 2 if stage > 0 and i == 0 else 1, shortcut))
                channels = 16 << stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def tensors(model):
    return {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}


def summary(name, change):
    flat = change.flatten().numpy()
    at = sorted({int(i) for i in formula.mix(formula.name_seed(name) ^ 1, SAMPLES) % np.uint64(flat.size)})
    return {"name": name, "count": flat.size, "sum": float(flat.sum()), "norm": float(np.sqrt((flat * flat).sum())),
            "at": at, "values": [float(flat[i]) for i in at]}


def f32(value):
    return float(np.float32(value))


def new_optimizer(model, given):
    """The class of torch.optim with the numbers that a module gets: rounded to f32."""
    number = {name: f32(value) for name, value in given.items() if name != "kind"}
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    decay = number.get("weight_decay", 0.0)
    groups = [dict(params=weights, weight_decay=decay),
              dict(params=others, weight_decay=0.0 if given.get("decay_weights_only") else decay)]
    if given["kind"] == "sgd":
        return torch.optim.SGD(groups, lr=number["lr"], momentum=number["momentum"], nesterov=given.get("nesterov", False))
    if given["kind"] == "rmsprop":
        return torch.optim.RMSprop(groups, lr=number["lr"], alpha=number["alpha"], eps=number["epsilon"],
                                   momentum=number.get("momentum", 0.0))
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[given["kind"]](groups, lr=number["lr"], betas=(number["beta1"], number["beta2"]), eps=number["epsilon"])


def new_average(model, decay):
    """An average that starts as the model, buffers included."""
    decay = f32(decay)
    average = torch.optim.swa_utils.AveragedModel(model, avg_fn=lambda old, new, n: decay * old + (1 - decay) * new, use_buffers=True)
    average.update_parameters(model)  # the first call copies
    return average


def train(model, average, case):
    """The losses of all steps."""
    optimizer, losses = new_optimizer(model, case["optimizer"]), []
    shape = (3, case["size"], case["size"])
    for step in range(STEPS):
        target = formula.targets(step, BATCH, CLASSES, case.get("mixup"))
        logits = model(formula.images(step, BATCH, shape))
        loss = nn.functional.cross_entropy(logits, target, label_smoothing=f32(case.get("smoothing", 0)))
        optimizer.zero_grad()
        loss.backward()
        if "clip_norm" in case["optimizer"]:
            nn.utils.clip_grad_norm_(model.parameters(), f32(case["optimizer"]["clip_norm"]))
        optimizer.step()
        average.update_parameters(model)
        losses.append(loss.item())
    return losses


def evaluate(model, case):
    model.eval()
    with torch.no_grad():
        logits = model(formula.images(0, BATCH, (3, case["size"], case["size"])))
        loss = nn.functional.cross_entropy(logits, formula.labels(0, BATCH, CLASSES)).item()
    return {"loss": loss, "softmax": torch.softmax(logits[:2], 1).tolist()}


def run(case):
    model = CifarResNet(int(case["preset"].removeprefix("resnet")), case["shortcut"]).double()
    start = {name: formula.initial(name, tuple(value.shape)) for name, value in tensors(model).items()}
    model.load_state_dict(start, strict=False)
    average = new_average(model, case.get("average_decay", 0))
    losses = train(model, average, case)
    document = {"made_by": f"gen_golden.py with PyTorch {torch.__version__}", **case, "batch": BATCH, "losses": losses,
                "evaluation": evaluate(model, case),
                "changes": [summary(name, value.detach() - start[name]) for name, value in tensors(model).items()]}
    if "average_decay" in case:
        document["averages"] = [summary(name, value.detach() - start[name]) for name, value in tensors(average.module).items()]
    return document


def main():
    torch.set_num_threads(1)
    for name, case in CASES.items():
        document = run(case)
        lists = {"changes", "averages"} & document.keys()
        rows = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in document.items() if key not in lists]
        for key in sorted(lists):
            rows.append(f"{json.dumps(key)}: [\n  " + ",\n  ".join(json.dumps(row) for row in document[key]) + "]")
        path = Path(__file__).parent / f"{name}.json"
        path.write_text("{" + ",\n ".join(rows) + "}\n")
        print(path, document["losses"])


if __name__ == "__main__":
    sys.exit(main())
