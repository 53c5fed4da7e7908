"""What the tests of self-checks share: running a short one on the strict double of a GPU, and what it should tell."""
import json
import os
import subprocess

import pytest
from service import BUILD, SLOWER

DOUBLE = (BUILD / "double").resolve()
WORKER = DOUBLE / "residuum-worker"
FIRST, SECOND = (f"GPU-64756200-6c65-4000-8000-00000000000{i}" for i in range(2))
PASSED, FAILED, _, NO_DEVICE = range(4)
ENVIRONMENT = {"RESIDUUM_CUDA_PATH": f"{DOUBLE}:{os.environ.get('RESIDUUM_CUDA_PATH', '')}", "RESIDUUM_DOUBLE_CUDNN": "own"}
ITEMS = [
    "driver, libraries, health", "memory", "copies to the device", "copies from the device", "fused batch norm of cuDNN",
    *(f"convolutions, {op}, {precision}" for precision in ("f32", "bf16", "tf32")
      for op in ("forward", "gradient of images", "gradient of weights")),
    "every operation against ref, f32", *(f"a step against ref, {precision}" for precision in ("f32", "bf16", "tf32")),
    "images on the device, f32", "captured steps, bf16", "a step with fused batch norm, bf16", "captured, with fused batch norm, bf16",
    "repeated training, bf16", "training taken up again, bf16",
    "course of the loss, bf16", "a network that does not fit, f32", "memory given back, f32", "speed, bf16",
]

needs_double = pytest.mark.skipif(not (DOUBLE / "backend-cudnn.so").exists(), reason="backend-cudnn.so is not built: no headers of CUDA and cuDNN")


class Check:
    """A short self-check that has ended: its exit code, what it told a person, and its file."""

    def __init__(self, folder, *arguments, **environment):
        folder.mkdir(exist_ok=True)
        done = subprocess.run([WORKER, "--self-check", "--brief", *arguments], cwd=folder, capture_output=True, text=True,
                              timeout=120 * SLOWER, check=False, env={**os.environ, **ENVIRONMENT, **environment})
        self.code, self.told, self.log = done.returncode, done.stdout, done.stderr
        self.files = {path.name: json.loads(path.read_text()) for path in folder.rglob("*.json")}

    def record(self):
        (record,) = self.files.values()
        return record

    def failed(self):
        return [item["item"] for item in self.record()["items"] if not item["passed"] and not item["skipped"]]

    def item(self, name):
        return next(item for item in self.record()["items"] if item["item"] == name)
