#!/usr/bin/python3
"""Training speed on a GPU against PyTorch on the same one, measured in turn in the same run, and the time to an accuracy through the
daemon; writes build/bench-gpu.json. `make bench-gpu` runs it.

    gpu.py [--rounds N] [--seconds S] [--models M,...] [--batches N,...] [--precision P] [--python PATH] [--module PATH]
           [--archive FILE] [--accuracy A] [--epochs N] [--backend B] [--only speed|accuracy]

PATH is a Python whose PyTorch has CUDA (Debian's has not); without one only our side is measured, and that is said. The peer runs with
autocast in channels_last, eagerly and, from PyTorch 2 on, through torch.compile; the better one counts. Both sides end a step when its
loss is on the host. FILE is CIFAR-10 as an archive that `residuum dataset add` takes (or the environment's CIFAR10). "device" is the part of the step that the GPU's own clock saw; the rest is the host's. The time to an accuracy is
from a job's start to the end of the first epoch whose test accuracy reaches it, evaluation included.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from service import BUILD, ENDED, ROOT, Daemon  # noqa: E402  pylint: disable=wrong-import-position

SHAPE = "3x32x32"
THREADS = "1"
PATIENCE = 3600
HAS_CUDA = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
HAS_COMPILE = "import sys, torch; sys.exit(0 if hasattr(torch, 'compile') else 1)"


class Unusable(Exception):
    """What was asked for cannot be measured here, and why."""


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unusable((done.stderr.strip().splitlines() or [f"{command[0]} ended with code {done.returncode}"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def yes(python, program):
    try:
        return subprocess.run([python, "-c", program], capture_output=True, check=False).returncode == 0
    except OSError as why:
        print(f"bench-gpu: {python} cannot be run: {why.strerror}", file=sys.stderr)
        return False


def layouts(python):
    if not yes(python, HAS_CUDA):
        return []
    return ["channels_last"] + (["compiled"] if yes(python, HAS_COMPILE) else [])


def measure(args, model, batch, peers):
    """One row: medians over the rounds, ours and each of the peer's variants in turn."""
    found = {}
    for _ in range(args.rounds):
        ours = [BUILD / "bench_train", args.module, model, "train", args.precision, batch, THREADS, SHAPE, args.seconds]
        found.setdefault("ours", []).append(run(ours))
        for layout in peers:
            peer = [args.python, HERE / "peer_torch.py", model, "train", args.precision, layout, batch, THREADS, args.seconds, "cuda"]
            found.setdefault(layout, []).append(run(peer))
    row = {who: round(statistics.median(r["images_per_second"] for r in results), 1) for who, results in found.items()}
    steps = {key: statistics.median(r[key] for r in found["ours"]) for key in ("step_ms", "device_ms")}
    best = max((row[layout] for layout in peers), default=None)
    return row | steps | {"device": found["ours"][0]["device"], "ratio": round(row["ours"] / best, 3) if best else None}


def speed(args):
    peers = layouts(args.python)
    if not peers:
        print(f"bench-gpu: {args.python} has no PyTorch with CUDA, so there is no peer (--python PATH, or make bench-gpu TORCH=PATH)")
    rows = {}
    for model in args.models:
        for batch in args.batches:
            row = rows[f"{model}.{args.precision}.{batch}"] = measure(args, model, batch, peers)
            text = ", ".join(f"{who} {row[who]:.0f}" for who in ["ours", *peers])
            share = f"; step {row['step_ms']:.2f} ms, {row['device_ms']:.2f} of it on the GPU" if row["device_ms"] >= 0 else ""
            print(f"{model} batch {batch} on {row['device']}: images/s {text}, ratio {row['ratio'] or 'unknown'}{share}", flush=True)
    return rows


def seconds_between(begin, end):
    return (datetime.fromisoformat(end.replace("Z", "+00:00")) - datetime.fromisoformat(begin.replace("Z", "+00:00"))).total_seconds()


def bring(daemon, archive):
    """Has the archive imported as the data set cifar-10."""
    if not archive:
        raise Unusable("CIFAR-10 is not here: make bench-gpu CIFAR10=ARCHIVE")
    words_of = [BUILD / "residuum", "--server", daemon.url, "dataset", "add", archive, "--name", "cifar-10", "--wait", "--quiet"]
    done = subprocess.run(words_of, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unusable(done.stderr.strip())


def accuracy(args):
    """Trains ResNet-9 through the daemon on its GPU. Its rate is low as the net has no factor of 0.125 before the loss."""
    spec = {"dataset": "cifar-10", "model": "resnet9", "epochs": args.epochs, "batch_size": 512, "precision": args.precision,
            "backend": args.backend, "augment": {"crop": 4, "flip": True, "cutout": 8}, "label_smoothing": 0.1,
            "optimizer": {"nesterov": True, "weight_decay": 5e-4}, "schedule": {"kind": "one_cycle", "lr": 0.005}}
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(folder).start()
        try:
            daemon.wait_for_probe()
            bring(daemon, args.archive)
            answer = daemon.post("/v1/jobs", json=spec)
            if answer.status_code != 202:
                raise Unusable(answer.json()["detail"])
            job = daemon.wait_for(answer.json(), *ENDED, seconds=PATIENCE)
            epochs = daemon.get(f"/v1/jobs/{job['id']}/epochs?limit=1000").json()["items"]
        finally:
            daemon.stop()
    if job["state"] != "succeeded":
        raise Unusable(f"the job {job['state']}: {job['reason']['text']}")
    reached = next((e["epoch"] for e in epochs if e["test"]["accuracy"] >= args.accuracy), None)
    trained = sum(e["seconds"] for e in epochs[:reached]) if reached else None
    best = max(e["test"]["accuracy"] for e in epochs)
    text = f"in {trained:.1f} s, {reached} epochs" if reached else f"not reached in {args.epochs} epochs, best {100 * best:.2f} %"
    print(f"{100 * args.accuracy:.0f} % on CIFAR-10, ResNet-9 on {job['worker']['device']}: {text}")
    whole = seconds_between(job["started"], job["ended"])
    return {"device": job["worker"]["device"], "accuracy": args.accuracy, "seconds": trained, "epochs": reached, "best": best, "job_seconds": whole}


def words(text):
    return text.split(",")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--models", type=words, default=["resnet18", "resnet20"])
    parser.add_argument("--batches", type=words, default=["128", "512"])
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--python", default=os.environ.get("TORCH") or sys.executable)
    parser.add_argument("--module", default=BUILD / "backend-cudnn.so")
    parser.add_argument("--archive", default=os.environ.get("CIFAR10"))
    parser.add_argument("--backend", default="cudnn")
    parser.add_argument("--accuracy", type=float, default=0.94)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--only", choices=["speed", "accuracy"])
    return parser.parse_args()


def main():
    args, report = arguments(), {}
    for name, part in {"speed": speed, "accuracy": accuracy}.items():
        if args.only not in (None, name):
            continue
        try:
            report[name] = part(args)
        except Unusable as why:
            print(f"bench-gpu: {name} was not measured: {why}", file=sys.stderr)
    if not report:
        sys.exit("bench-gpu: nothing was measured")
    (ROOT / "build/bench-gpu.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
