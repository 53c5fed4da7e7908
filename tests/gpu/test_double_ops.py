"""The tests of all compute modules, with backend-cudnn.so on the strict double of a GPU: every op, optimizer and loss against the
reference, 200 random graphs, PyTorch's golden steps."""
import os
import subprocess

import pytest
from service import BUILD, SLOWER

DOUBLE = BUILD / "double"
MODULE = DOUBLE / "backend-cudnn.so"
PROGRAMS = {"ops": "ops/test_ops", "plans": "ops/test_plans", "golden": "golden/test_golden"}
ARGUMENTS = {"ops": ["module", str(MODULE)], "golden": [str(MODULE)]}
CUDNN = {"ops": "own"}  # thousands of plans: the real library would take three times as long to choose their engines

pytestmark = pytest.mark.skipif(not MODULE.exists(), reason="backend-cudnn.so is not built: no headers of CUDA and cuDNN")


@pytest.mark.parametrize("name", PROGRAMS)
def test_on_the_double(name):
    program = BUILD / "tests" / PROGRAMS[name]
    env = {"RESIDUUM_BUILD": str(DOUBLE), "RESIDUUM_DOUBLE_CUDNN": CUDNN.get(name, "real")}
    done = subprocess.run([program, *ARGUMENTS.get(name, [])], env={**os.environ, **env}, capture_output=True,
                          text=True, timeout=240 * SLOWER, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "cudnn" in done.stdout + done.stderr
