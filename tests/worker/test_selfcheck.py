"""The self-check's door: what it says where there is no GPU, wrong arguments, and the processor's own check."""
import ctypes
import json
import subprocess

import pytest
from harness import BUILD, LIMIT, PROGRAM, needs

PASSED, _, USAGE, NO_DEVICE = range(4)


def check(folder, *arguments):
    return subprocess.run([PROGRAM, "--self-check", *arguments], cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def test_without_a_gpu_the_reason_is_told(tmp_path):
    needs("cudnn")
    if has_driver():
        pytest.skip("this machine has an NVIDIA driver")
    done = check(tmp_path)
    assert done.returncode == NO_DEVICE and not list(tmp_path.iterdir())
    assert done.stdout.startswith("Nothing was checked: no NVIDIA driver: libcuda.so.1")


@pytest.mark.parametrize("arguments", [["--brief", "now"], ["--device"], ["--json", ""], ["--long"]])
def test_wrong_arguments(tmp_path, arguments):
    done = check(tmp_path, *arguments)
    assert done.returncode == USAGE and not done.stdout and not list(tmp_path.iterdir())
    assert "--self-check [--device ID] [--brief] [--json FILE]" in done.stderr


def test_help_tells_of_it():
    done = subprocess.run([BUILD / "residuum-worker", "--help"], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert "--self-check [--device ID] [--brief] [--json FILE]" in done.stdout


def test_the_processor_can_be_checked(tmp_path):
    needs("onednn")
    done = check(tmp_path, "--brief", "--device", "cpu", "--json", "cpu.json")
    assert done.returncode == PASSED, done.stdout + done.stderr
    record = json.loads((tmp_path / "cpu.json").read_text())
    assert record["device_id"] == "cpu" and record["passed"] is True and record["features"] == [] and record["profile"] is None
    names = [item["item"].rpartition(",")[0] for item in record["items"]]
    assert {"every operation against ref", "a step against ref", "repeated training", "training taken up again", "course of the loss"} == set(names)


def test_a_report_that_cannot_be_written_is_no_pass(tmp_path):
    needs("onednn")
    done = check(tmp_path, "--brief", "--device", "cpu", "--json", "missing/cpu.json")
    assert done.returncode == 1 and "The report could not be written" in done.stdout
