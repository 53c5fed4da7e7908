"""backend-cudnn.so through the worker's probe: what a person reads on /v1/devices. Skipped, with make's reason, where it is not
built."""
import json
import os
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("RESIDUUM_BUILD") or "build/release").resolve()
FAKES = BUILD / "tests" / "gpu" / "fakes"
LIBRARIES = {
    "libcuda.so.1": "libcuda.so", "libcudnn.so.9": "libcudnn.so", "libnvidia-ml.so.1": "libnvidia-ml.so",
    "libcudnn_graph.so.9": "libempty.so", "libcudnn_heuristic.so.9": "libempty.so",
    "libcudnn_engines_precompiled.so.9": "libempty.so", "libcublasLt.so.13": "libempty.so",
}


def why_not():
    """Why make did not build the module; None when it did, or should have."""
    sentence = BUILD / "cudnn.txt"
    said = sentence.read_text().strip() if sentence.exists() else "nothing was built"
    return None if "is built" in said else said


pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def devices(**env):
    done = subprocess.run([BUILD / "residuum-worker", "--probe"], capture_output=True, timeout=60, check=True,
                          env=dict(os.environ, **env))
    return json.loads(done.stdout)["devices"]


def refusal(device):
    return next((u["reason"] for u in device["unusable"] if u["name"] == "cudnn"), None)


@pytest.fixture
def fakes(tmp_path):
    for name, fake in LIBRARIES.items():
        assert (FAKES / fake).exists(), "run make tests"
        (tmp_path / name).symlink_to(FAKES / fake)
    return str(tmp_path)


def test_needs_no_library_of_nvidia():
    lines = subprocess.run(["readelf", "-d", BUILD / "backend-cudnn.so"], capture_output=True, text=True, check=True).stdout
    needed = [line.split("[")[1].split("]")[0] for line in lines.splitlines() if "(NEEDED)" in line]
    assert needed and not [n for n in needed if n.startswith(("libcu", "libnv", "libnvidia"))]


def test_machine_without_a_driver():
    if os.path.exists("/dev/nvidiactl") or "libcuda.so.1" in subprocess.run(
            ["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this machine has an NVIDIA driver")
    cpu, = devices()
    assert refusal(cpu).startswith("no NVIDIA driver: libcuda.so.1: cannot open shared object file")
    assert "install the driver" in refusal(cpu)


def test_gpus_have_ids_of_their_own(fakes):
    cpu, first, second = devices(RESIDUUM_CUDA_PATH=fakes, FAKE_CUDA="devices=2 compute1=75")
    assert refusal(cpu) is None
    assert first["id"] == "GPU-1fdda001-2345-6789-abcd-ef0011223340"
    assert first["backends"] == [{"name": "cudnn", "version": "9.19.0", "precisions": ["f32", "bf16", "tf32"]}]
    assert first["driver"] == "580.65.06" and first["compute"] == "9.0"
    assert first["memory_free_bytes"] == 80_000_000_000
    assert first["profile"]["multiProcessorCount"] == 1016
    assert first["note"] == "not yet run on hardware by us"
    assert second["id"] == "GPU-1fdda001-2345-6789-abcd-ef0011223341"
    assert second["backends"][0]["precisions"] == ["f32"]


def test_a_gpu_that_is_refused_does_not_hide_the_other(fakes):
    _, first, second = devices(RESIDUUM_CUDA_PATH=fakes, FAKE_CUDA="devices=2 compute=70")
    assert first["backends"] == [] and "compute capability 7.0" in refusal(first)
    assert first["id"] == "GPU-1fdda001-2345-6789-abcd-ef0011223340"
    assert second["backends"] and refusal(second) is None


def test_a_sick_gpu_is_not_offered(fakes):
    _, gpu = devices(RESIDUUM_CUDA_PATH=fakes, FAKE_NVML="failed=1")
    assert gpu["backends"] == [] and "is at fault: a damaged row of memory could not be replaced" in refusal(gpu)


def test_reboot_is_asked_for_after_an_update_of_the_driver(fakes):
    cpu, = devices(RESIDUUM_CUDA_PATH=fakes, FAKE_CUDA="init=803")
    assert "reboot the machine" in refusal(cpu)
