"""What the client's tests share: the program, its environment, example documents."""
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / (os.environ.get("RESIDUUM_BUILD") or "build/release")
CLIENT = BUILD / "residuum"
JOB = "job_4hXw0rQm1c8ZtTqv9LxK2b"
PATH = f"/v1/jobs/{JOB}"
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
SLOWER = 6 if BUILD.name == "asan" else 1  # deadlines, not work
LIMIT = 60 * SLOWER  # seconds that any run of the client may take


def environment(**changes):
    kept = {k: v for k, v in os.environ.items() if k not in ("RESIDUUM_SERVER", "NO_COLOR", "COLUMNS", "TERM", "http_proxy")}
    kept.update({"TERM": "xterm", **changes})
    return kept


def job(state="queued", **changes):
    document = {
        "id": JOB, "state": state, "owner": "local", "name": "first", "attempt": 0, "epochs_done": 0, "epochs": 2, "position": None,
        "device": None, "worker": None, "reason": None, "cancel_requested": False, "created": "2026-11-24T06:50:28.123456Z",
        "started": None, "ended": None, "cursor": 10, "links": {"self": PATH},
        "spec": {"name": "first", "dataset": "fashion-mnist", "model": {"preset": "resnet20", "width": 1}, "epochs": 2, "seed": 1,
                 "optimizer": {"kind": "sgd", "momentum": 0.9}},
    }
    return {**document, **changes}


def epoch(number, accuracy=0.9):
    right = int(1000 * accuracy)
    confusion = [[right if i == j else 1000 - right if j == (i + 1) % 10 else 0 for j in range(10)] for i in range(10)]
    return {"job": JOB, "epoch": number, "train": {"loss": 0.3121, "accuracy": 0.8895},
            "test": {"loss": None, "accuracy": accuracy, "confusion": confusion, "softmax": [[0.1] * 10], "labels": [0]},
            "lr": 0.05, "seconds": 31.2, "images_per_second": 1920.5}


def validated(document):
    """The same epoch of a job with a validation set."""
    return {**document, "validation": {"loss": 0.4567, "accuracy": 0.8712}}


def progress(step, number=1):
    return {"job": JOB, "epoch": number, "epochs": 2, "phase": "train", "step": step, "steps": 469, "loss": 0.5, "images_per_second": 1800.4,
            "seconds_left": 92.4}


def lines_until(file, wanted):
    """Lines up to the first that contains a text; fails when the file ends before."""
    lines = []
    for line in file:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError(f"{wanted!r} never came: {lines}")
