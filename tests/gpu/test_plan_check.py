"""plan_check: cuDNN has every plan that a training step asks for, for all presets, precisions and the devices of the table. The
convolutions only; `make check-gpu-plans` adds the fused batch norms."""
import re
import subprocess

import pytest
from service import BUILD, SLOWER

PROGRAM = BUILD / "tests" / "gpu" / "plan_check"
DEVICES = ["a100", "h100", "r4090", "r5090"]
ROW = re.compile(r"^(?P<preset>\S+) +(?P<precision>bf16|f32|tf32) +(?P<device>\S+) +(?P<plans>\d+) +(?P<unsupported>\d+) +(?P<mib>[\d.]+) ")


def run(*args):
    done = subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=120 * SLOWER, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    return done


@pytest.fixture(name="built", autouse=True)
def _built():
    sentence = (BUILD / "cudnn.txt").read_text()
    if "is built" not in sentence:
        pytest.skip(sentence.strip())


def rows(text):
    return [match.groupdict() for match in map(ROW.match, text.splitlines()) if match]


def test_every_preset_has_all_its_plans_on_every_device():
    done = run()
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    found = rows(done.stdout)
    assert sorted({row["device"] for row in found}) == DEVICES
    kinds = {(row["preset"], row["precision"]) for row in found}
    assert len(found) == len(kinds) * len(DEVICES)
    assert {preset for preset, _ in kinds} >= {"resnet20", "resnet18", "resnet50", "vgg16", "lenet5", "mlp"}
    for row in found:
        assert int(row["plans"]) > 0 and row["unsupported"] == "0", row
        assert float(row["mib"]) <= 512, row


def test_what_a_device_lacks_is_a_failure():
    """Compute capability 7.5 has f32, and each plan of the others is named."""
    done = run("t4")
    assert done.returncode == 1
    for row in rows(done.stdout):
        assert int(row["unsupported"]) == (0 if row["precision"] == "f32" else int(row["plans"])), row
    assert "bf16 needs compute capability 8.0, the device has 7.5: choose precision f32" in done.stdout


def test_an_unknown_device_is_refused():
    done = run("h1000")
    assert done.returncode == 1
    assert "h100" in done.stderr
