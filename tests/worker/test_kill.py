"""A job killed at a random moment and resumed leaves the same files as one that ran through: with everything on that keeps state.
RESIDUUM_KILLS: how many moments for each precision (default 15); RESIDUUM_SEED: which ones."""
import os
import random
import time

import pytest
from harness import DONE, Worker, digest, needs, results, run, spec

KILLS = int(os.environ.get("RESIDUUM_KILLS", "15"))
SEED = int(os.environ.get("RESIDUUM_SEED", str(random.randrange(1 << 32))))
EVERYTHING = {
    "backend": "onednn", "threads": 2, "epochs": 9, "batch_size": 16, "train_limit": 60, "test_limit": 30, "keep_every": 2,
    "model": {"preset": "resnet8", "width": 0.25, "dropout": 0.2}, "label_smoothing": 0.1, "average_decay": 0.9,
    "optimizer": {"kind": "adam", "weight_decay": 0.001, "clip_norm": 2}, "schedule": {"kind": "cosine", "lr": 0.01, "warmup_epochs": 1},
    "augment": {"crop": 4, "flip": True, "rotation": 15, "brightness": 0.3, "contrast": 0.3, "cutout": 8, "mixup": 0.4},
    "validation_fraction": 0.2, "selection": {"metric": "loss", "patience": 3, "min_delta": 10},  # ends after the fourth epoch
}
PRECISIONS = ["f32", "bf16"]


@pytest.fixture(scope="module", params=PRECISIONS)
def whole(request, tmp_path_factory):
    """(spec, worker) of an uninterrupted job; with checkpoints as often as in those that are killed."""
    needs("onednn")
    document = spec(**EVERYTHING, precision=request.param)
    directory = tmp_path_factory.mktemp("whole") / "job"
    worker = Worker(directory, document, RESIDUUM_CHECKPOINT_MS="1")
    status = worker.end()
    if status != DONE and worker.events and worker.events[-1].get("code") == "unavailable":
        pytest.skip(f"{request.param} is not offered here: {worker.events[-1]['text']}")
    assert status == DONE, worker.text()
    assert worker.of("done")[0]["epochs"] == 4 and worker.of("done")[0]["stopped_early"]
    return document, worker


def files(directory):
    """Whole contents of what a job leaves but for its checkpoint (which knows the seconds) and its log."""
    paths = [*directory.glob("weights/*"), directory / "predictions.safetensors"]
    return {str(p.relative_to(directory)): p.read_bytes() for p in paths}


def kill_at(worker, lines, seconds):
    """Kills after so many lines and some more time."""
    for _ in range(lines):
        if worker.read() is None:
            break
    time.sleep(seconds)  # the moment is what is tested
    worker.kill()


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_random(whole, tmp_path, number):
    document, reference = whole
    rng = random.Random(f"{SEED} {document['precision']} {number}")
    lines, seconds = rng.randrange(len(reference.events)), rng.uniform(0, 0.02)
    print(f"RESIDUUM_SEED={SEED}: killed after {lines} lines and {seconds:.4f} s")
    kill_at(Worker(tmp_path / "job", document, RESIDUUM_CHECKPOINT_MS="1"), lines, seconds)
    worker, status = run(tmp_path / "job", document)
    assert status == DONE, worker.text()
    assert results(tmp_path / "job") == results(reference)
    assert digest(tmp_path / "job") == digest(reference.directory)
    assert files(tmp_path / "job") == files(reference.directory)
