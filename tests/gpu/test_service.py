"""The real daemon with workers whose GPUs are the strict double: a job trains there, and survives every fault that a GPU may have. A fault
is ordered by a file, so that it happens once, in a job, after the devices were found."""
import json
import os
import subprocess
from pathlib import Path

import pytest
from service import BUILD, ENDED, Daemon

DOUBLE = (BUILD / "double").resolve()
SPEC = {"dataset": "shapes", "model": "lenet5", "train_limit": 128, "test_limit": 32, "epochs": 3, "batch_size": 32}
FIRST, SECOND = (f"GPU-64756200-6c65-4000-8000-00000000000{i}" for i in range(2))
JOULES_PER_OPERATION = 0.01  # as the double counts energy

pytestmark = pytest.mark.skipif(not (DOUBLE / "backend-cudnn.so").exists(),
                                reason="backend-cudnn.so is not built: no headers of CUDA and cuDNN")


def note_self_checks(data, env):
    """Puts the records of passed self-checks where the daemon looks for them: a check would take a minute, and the fault."""
    probe = subprocess.run([DOUBLE / "residuum-worker", "--probe"], env={**os.environ, **env}, capture_output=True, timeout=60, check=True)
    version = subprocess.run([DOUBLE / "residuum-worker", "--version"], capture_output=True, text=True, timeout=60, check=True).stdout.split()[1]
    (data / "self-check").mkdir(parents=True)
    for device in json.loads(probe.stdout)["devices"][1:]:
        record = {"at": "2026-11-24T12:00:00Z", "driver": device["driver"], "cudnn": device["backends"][0]["version"], "worker": version,
                  "brief": True, "passed": True, "features": ["captured-steps"], "items": []}
        (data / "self-check" / f"{device['id']}.json").write_text(json.dumps(record), encoding="ascii")


class Gpus:
    """A daemon on a double with two GPUs."""

    def __init__(self, folder, cudnn="own", **env):
        self.order = folder / "fault"
        env = {"RESIDUUM_CUDA_PATH": f"{DOUBLE}:{os.environ.get('RESIDUUM_CUDA_PATH', '')}", "RESIDUUM_DOUBLE_DEVICES": "2",
               "RESIDUUM_DOUBLE_CUDNN": cudnn, "RESIDUUM_DOUBLE_FAULT": str(self.order), **env}
        self.daemon = Daemon(folder, "--worker", str(DOUBLE / "residuum-worker"), env=env)
        note_self_checks(self.daemon.data, env)
        try:
            self.daemon.start()
            self.daemon.wait_for_probe()
            assert self.states() == ["ready", "ready"], self.daemon.log()
        except BaseException:
            self.daemon.stop()
            raise

    def gpus(self):
        return [item for item in self.daemon.get("/v1/devices").json()["items"] if item["id"] != "cpu"]

    def states(self):
        return [gpu["state"] for gpu in self.gpus()]

    def run(self, fault=None, **changes):
        """A job to its end, under a fault; (the job, its epochs)."""
        if fault is not None:
            self.order.write_text(fault, encoding="ascii")
        job = self.daemon.submit({**SPEC, **changes})
        job = self.daemon.wait_for(job, *ENDED, seconds=60)
        assert fault is None or Path(f"{self.order}.happened").exists(), (job["state"], job["reason"])
        return job, self.daemon.get(f"/v1/jobs/{job['id']}/epochs").json()["items"]


@pytest.fixture
def make(tmp_path):
    made = []

    def start(**options):
        made.append(Gpus(tmp_path, **options))
        return made[-1]

    yield start
    for gpus in made:
        gpus.daemon.stop()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The epochs of the job when nothing happens."""
    gpus = Gpus(tmp_path_factory.mktemp("undisturbed"))
    try:
        job, epochs = gpus.run()
    finally:
        gpus.daemon.stop()
    assert job["state"] == "succeeded" and job["attempt"] == 1 and job["device"] == FIRST
    assert job["worker"]["backend"] == "cudnn" and job["worker"]["device"] == "NVIDIA H100 80GB HBM3"
    return epochs


@pytest.fixture(scope="module")
def later(undisturbed):
    """The number of an operation in the second epoch."""
    first, second, _ = (epoch["gpu"]["energy_j"] / JOULES_PER_OPERATION for epoch in undisturbed)
    return int(first + second / 2)


def weights(epochs):
    return [epoch["weights_sha256"] for epoch in epochs]


def test_a_job_trains(undisturbed):
    assert [epoch["epoch"] for epoch in undisturbed] == [1, 2, 3]
    gpu = undisturbed[-1]["gpu"]
    assert gpu["temperature_c"] == 55 and gpu["power_w"] == 250 and gpu["energy_j"] > 0 and gpu["memory_used_bytes"] > 0


def test_the_real_cudnn_takes_the_same_job(make, undisturbed):
    """And threads in another order have the same results. Where cuDNN is not installed, the double's own takes its place."""
    _, epochs = make(cudnn="real", RESIDUUM_DOUBLE_SEED="2").run()
    assert weights(epochs) == weights(undisturbed)


def test_a_step_that_cannot_be_captured_is_run_eagerly(make, undisturbed):
    job, epochs = make(RESIDUUM_DOUBLE_SEED="1").run("capture")
    assert job["attempt"] == 1 and weights(epochs) == weights(undisturbed)


@pytest.mark.parametrize("allocation", [1, 4])
def test_out_of_memory(make, undisturbed, allocation):
    """Another program may have had the memory: the job is tried once more, on a device that stays in use."""
    gpus = make()
    job, epochs = gpus.run(f"oom:{allocation}")
    assert job["state"] == "succeeded" and job["attempt"] == 2 and gpus.states() == ["ready", "ready"]
    assert weights(epochs) == weights(undisturbed)


def test_an_error_of_the_program(make, undisturbed, later):
    """A kernel that touched what it must not: the process is lost, the device is not, and the job goes on from its checkpoint."""
    gpus = make()
    job, epochs = gpus.run(f"sticky:700@{later}")
    assert job["state"] == "succeeded" and job["attempt"] == 2 and job["device"] == FIRST
    assert job["worker"]["resumed"]["epoch"] >= 1 and gpus.states() == ["ready", "ready"]
    assert weights(epochs) == weights(undisturbed)


FAULTS = {"ecc": "its memory is damaged", "lost": "Xid 79, it fell off the bus", "remap": "a damaged row of memory could not be replaced",
          "hang": "has not ended within"}


def test_a_device_that_another_program_has(make, undisturbed):
    """The job waits for no one: it goes to the other device, and a person frees the first one."""
    gpus = make()
    job, epochs = gpus.run("busy")
    assert job["state"] == "succeeded" and job["attempt"] == 2 and job["device"] == SECOND
    assert gpus.states() == ["drained", "ready"] and "has the device for itself" in gpus.gpus()[0]["reason"]
    assert weights(epochs) == weights(undisturbed)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_device_that_fails(make, undisturbed, later, fault):
    """The job goes on from its checkpoint on the other device; what comes later does not even begin on this one."""
    gpus = make(RESIDUUM_STUCK_MS="2000")
    job, epochs = gpus.run(f"{fault}@{later}")
    assert job["state"] == "succeeded" and job["attempt"] == 2 and job["device"] == SECOND
    assert job["worker"]["resumed"]["epoch"] >= 1
    assert gpus.states() == ["drained", "ready"] and FAULTS[fault] in gpus.gpus()[0]["reason"]
    assert weights(epochs) == weights(undisturbed)
    job, _ = gpus.run(epochs=1)
    assert job["state"] == "succeeded" and job["attempt"] == 1 and job["device"] == SECOND

