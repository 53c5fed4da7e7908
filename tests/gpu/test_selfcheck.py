"""A device's self-check on the strict double of a GPU: a healthy one passes, and so does one on which the real cuDNN chooses its engines; the
file is what the daemon reads; devices that are not there."""
import ctypes
import json
import os
import subprocess

import pytest
from selfcheck_rig import ENVIRONMENT, FIRST, ITEMS, NO_DEVICE, PASSED, WORKER, Check, needs_double
from service import Daemon

pytestmark = needs_double


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
