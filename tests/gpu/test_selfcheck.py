"""A device's self-check on the strict double of a GPU: a healthy one passes; one that is wrong once, fails to reserve memory once, or is
lost, fails in the item where that happened."""
import ctypes
import json
import os
import subprocess

import pytest
from service import BUILD, SLOWER, Daemon

DOUBLE = (BUILD / "double").resolve()
WORKER = DOUBLE / "residuum-worker"
FIRST, SECOND = (f"GPU-64756200-6c65-4000-8000-00000000000{i}" for i in range(2))
PASSED, FAILED, USAGE, NO_DEVICE = range(4)
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

pytestmark = pytest.mark.skipif(not (DOUBLE / "backend-cudnn.so").exists(),
                                reason="backend-cudnn.so is not built: no headers of CUDA and cuDNN")


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


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("healthy")
    return Check(folder, RESIDUUM_SELF_CHECK=str(folder / "self-check"))


def test_a_healthy_device_passes(healthy):
    assert healthy.code == PASSED, healthy.told + healthy.log
    assert [item["item"] for item in healthy.record()["items"]] == ITEMS
    assert all(item["passed"] and not item["skipped"] for item in healthy.record()["items"])
    assert healthy.told.splitlines()[-1].startswith("Passed: all of 28 items, 0 of them skipped. Report: ")


def test_the_record_is_the_daemons(healthy):
    assert list(healthy.files) == [f"{FIRST}.json"]
    record = healthy.record()
    probe = subprocess.run([WORKER, "--probe"], capture_output=True, timeout=60, check=True, env={**os.environ, **ENVIRONMENT})
    device = json.loads(probe.stdout)["devices"][1]
    assert {key: record[key] for key in ("device_id", "device", "driver", "cudnn", "profile", "brief", "passed")} == {
        "device_id": FIRST, "device": device["name"], "driver": device["driver"], "cudnn": device["backends"][0]["version"],
        "profile": device["profile"], "brief": True, "passed": True}
    assert record["features"] == ["fused-norm", "captured-steps"]
    assert all(set(item) == {"item", "passed", "skipped", "measured", "limit", "text"} for item in record["items"])


def test_every_line_tells_what_was_measured(healthy):
    lines = healthy.told.splitlines()[1:-1]
    assert len(lines) == len(ITEMS) and all(line.startswith("passed   ") for line in lines)
    conv = healthy.item("convolutions, forward, f32")
    assert 0 < conv["measured"] <= conv["limit"] == 1e-5 and "farthest" in conv["text"]
    assert healthy.item("speed, bf16")["measured"] > 0


def has_cudnn():
    try:
        return all(ctypes.CDLL(name) for name in ("libcudnn.so.9", "libcublasLt.so.13"))
    except OSError:
        return False


@pytest.mark.skipif(not has_cudnn(), reason="cuDNN for CUDA 13 is not installed")
def test_the_real_cudnn_chooses_engines(tmp_path):
    check = Check(tmp_path, RESIDUUM_DOUBLE_CUDNN="real")
    assert check.code == PASSED, check.told + check.log
    tf32 = check.item("convolutions, forward, tf32")
    assert "tensor cores" in tf32["text"] and 1e-5 < tf32["measured"] < tf32["limit"]
    assert "tensor cores" not in check.item("convolutions, forward, f32")["text"]
    assert check.item("fused batch norm of cuDNN")["skipped"] and "fused-norm" not in check.record()["features"]


@pytest.mark.parametrize("fault, item", [
    ("cuDNN's convolution@3", "convolutions, forward, f32"),
    ("residuum_group_apply@1", "every operation against ref, f32"),
])
def test_a_wrong_answer_fails_its_item(tmp_path, fault, item):
    check = Check(tmp_path, "--device", "1", RESIDUUM_DOUBLE_DEVICES="2", RESIDUUM_DOUBLE_FAULT=f"wrong:{fault}")
    assert check.code == FAILED and check.failed() == [item], check.told + check.log
    assert check.record()["passed"] is False and check.record()["device_id"] == SECOND
    assert list(check.files) == [f"self-check-{SECOND}.json"]
    assert sum(line.startswith("FAILED   ") for line in check.told.splitlines()) == 1
    assert check.told.splitlines()[-1].startswith("FAILED: 1 of 28 items; do not train on this device")


@pytest.mark.parametrize("fault, item", [
    ("gradient of a batch norm@2", "fused batch norm of cuDNN"),
    ("cuDNN's batch norm@7", "a step with fused batch norm, bf16"),
])
def test_a_device_does_without_wrong_batch_norms_of_cudnn(tmp_path, fault, item):
    check = Check(tmp_path, RESIDUUM_DOUBLE_FAULT=f"wrong:{fault}")
    assert check.code == PASSED and check.failed() == [item], check.told + check.log
    assert check.record()["passed"] is True and check.record()["features"] == ["captured-steps"]
    assert check.item("captured, with fused batch norm, bf16")["skipped"]
    assert check.told.splitlines()[-1].startswith("Passed, but for 1 of 28 items: cuDNN's batch norm is not used")


def test_memory_that_runs_out_once_is_survived(tmp_path):
    check = Check(tmp_path, RESIDUUM_DOUBLE_FAULT="oom:100")
    (name,) = check.failed()
    assert check.code == FAILED and name.startswith("convolutions, ") and "memory" in check.item(name)["text"]
    assert [item["item"] for item in check.record()["items"]] == ITEMS


def test_a_lost_device_ends_the_check(tmp_path):
    check = Check(tmp_path, "--json", "report.json", RESIDUUM_DOUBLE_FAULT="ecc@60")
    assert check.code == FAILED and list(check.files) == ["report.json"]
    items = check.record()["items"]
    assert len(items) < len(ITEMS) and not items[-1]["passed"] and all(item["passed"] for item in items[:-2])


@pytest.mark.parametrize("arguments, devices, why", [
    ([], "0", "shows no GPU"),
    (["--device", "GPU-none"], "2", "there is no device GPU-none among the 2 that the backend cudnn has"),
    (["--device", "2"], "2", "there is no device 2 among the 2"),
])
def test_no_such_device(tmp_path, arguments, devices, why):
    check = Check(tmp_path, *arguments, RESIDUUM_DOUBLE_DEVICES=devices)
    assert check.code == NO_DEVICE and not check.files
    assert check.told.startswith("Nothing was checked: ") and why in check.told


def test_a_device_is_checked_before_its_first_job(tmp_path):
    daemon = Daemon(tmp_path, "--worker", str(WORKER), env=ENVIRONMENT)
    daemon.start()
    try:
        job = daemon.submit({"dataset": "shapes", "model": "lenet5", "train_limit": 64, "test_limit": 32, "epochs": 1, "batch_size": 32})
        job = daemon.wait_for(job, "succeeded", "failed", seconds=120)
        assert job["state"] == "succeeded" and job["device"] == FIRST, job["reason"]
        (gpu,) = [item for item in daemon.get("/v1/devices").json()["items"] if item["id"] == FIRST]
        assert gpu["self_check"]["passed"] is True and gpu["self_check"]["features"] == ["fused-norm", "captured-steps"]
    finally:
        daemon.stop()
