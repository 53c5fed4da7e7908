"""The self-check of a device that is wrong once, fails to reserve memory once, refuses captures, or is lost: it fails in the item where
that happened."""
import pytest
from selfcheck_rig import FAILED, ITEMS, PASSED, SECOND, Check, needs_double

pytestmark = needs_double


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
    assert check.told.splitlines()[-1].startswith("Passed, but for 1 of 28 items, so that jobs do without fused-norm. ")


@pytest.mark.parametrize("allowed", [None, ""])
def test_a_device_does_without_steps_that_it_cannot_capture(tmp_path, allowed):
    """They are captured whatever has been allowed before: the daemon's first check finds nothing allowed."""
    before = {} if allowed is None else {"RESIDUUM_GPU_FEATURES": allowed}
    check = Check(tmp_path, RESIDUUM_DOUBLE_FAULT="capture", **before)
    assert check.code == PASSED, check.told + check.log
    assert check.failed() == ["captured steps, bf16", "captured, with fused batch norm, bf16"]
    assert "could not capture a step" in check.item("captured steps, bf16")["text"] and check.record()["features"] == []
    assert "could not be captured" in check.log  # as the steps of other items are tried
    assert "so that jobs do without fused-norm and captured-steps. " in check.told.splitlines()[-1]


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
