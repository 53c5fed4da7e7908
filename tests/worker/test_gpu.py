"""A job on a GPU, on a module that only looks like one (tests/fakes/backend_gpu.c): which device it takes, its data there, what is told of
it, and what becomes of the job when the device fails or hangs."""
import json
import os
import re
import subprocess

import pytest
from harness import BUILD, DEVICE, DONE, FAILED, ROOT, STOPPED, Worker, digest, installed, results, run, spec, wait_for

SOURCES = ["tests/fakes/backend_gpu.c", *(f"server/train/{n}.c" for n in ("batch", "mixup", "parallel")),
           *(f"common/{n}.c" for n in ("augment", "err", "rng"))]
AUGMENT = {"crop": 4, "flip": True, "rotation": 15, "brightness": 0.3, "contrast": 0.3, "cutout": 8, "mixup": 0.4}
STEPS = 5  # of an epoch of the harness's spec: 150 images, 32 in a batch
EVALUATIONS = 1 + 2  # of the test images; of the 64 whose activations are measured, on the plan for 32


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A worker with the modules ref and, instead of cudnn, the fake."""
    folder = tmp_path_factory.mktemp("gpu") / "bin"
    worker = installed(folder, "ref")
    subprocess.run(["gcc", "-std=c17", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{ROOT}",
                    f'-DREF_MODULE="{BUILD.resolve()}/backend-ref.so"', "-o", folder / "backend-cudnn.so", *SOURCES, "-lpthread", "-lm"],
                   check=True, cwd=ROOT)
    return worker


class Gpu:
    """Starts workers on a fake GPU that does as its files say."""

    def __init__(self, program, tmp_path):
        self.program, self.folder = program, tmp_path / "gpu"
        self.folder.mkdir()

    def start(self, directory, document=None, device="GPU-b", **options):
        return Worker(directory, document, program=self.program, device=device, FAKE_GPU=str(self.folder), **options)

    def run(self, directory, document=None, **options):
        worker = self.start(directory, document or spec(backend="auto"), **options)
        return worker, worker.end()

    def does(self, *names, **after):
        for name in names:
            (self.folder / name).touch()
        for name, calls in after.items():
            (self.folder / name).write_text(str(calls), encoding="ascii")

    def recovers(self, name):
        (self.folder / name).unlink()

    def ask(self):
        return subprocess.run([self.program, "--probe"], capture_output=True, timeout=60, check=True,
                              env={**os.environ, "FAKE_GPU": str(self.folder)})

    def probe(self):
        return json.loads(self.ask().stdout)["devices"]


@pytest.fixture
def gpu(program, tmp_path):
    return Gpu(program, tmp_path)


# --- the probe ---

BACKEND = {"name": "cudnn", "version": "9.0", "precisions": ["f32", "tf32"]}


def test_the_probe_finds_every_gpu(gpu):
    cpu, *gpus = gpu.probe()
    assert [b["name"] for b in cpu["backends"]] == ["ref"] and [u["name"] for u in cpu["unusable"]] == ["onednn"]
    assert gpus == [{"id": name, "name": f"fake {name}", "threads": 1, "memory_bytes": 1 << 34, "memory_free_bytes": None, "compute": "9.0",
                     "driver": "580.65.06", "profile": {"deviceName": "fake"}, "note": None, "backends": [BACKEND], "unusable": []}
                    for name in ("GPU-a", "GPU-b")]


def test_one_process_tells_of_all_gpus(gpu):
    """Each has to initialize the driver, which may take seconds."""
    gpu.does("third")
    done = gpu.ask()
    processes = re.findall(r"the fake's process (\d+) tells of device (\d)", done.stderr.decode())
    assert [index for _, index in processes] == ["0", "1", "2"] and len({process for process, _ in processes}) == 1
    document = json.loads(done.stdout)
    assert [d["id"] for d in document["devices"][1:]] == ["GPU-a", "GPU-b", "GPU-c"] and document["complete"]


def test_a_crash_costs_one_gpu_only(gpu):
    gpu.does("third", "crash")
    document = json.loads(gpu.ask().stdout)
    assert [(d["id"], d["backends"]) for d in document["devices"][1:]] == [("GPU-a", [BACKEND]), ("GPU-c", [BACKEND])]
    assert "SIGABRT" in document["devices"][0]["unusable"][-1]["reason"] and not document["complete"]


def test_the_probe_names_a_gpu_that_cannot_be_used_and_goes_on(gpu):
    gpu.does("unusable")
    cpu, first, second = gpu.probe()
    assert first["id"] == "GPU-a" and not first["backends"] and first["name"] == "fake GPU-a"
    assert first["unusable"] == [{"name": "cudnn", "reason": "GPU-a is too old"}]
    assert second["backends"] == [BACKEND] and not second["unusable"] and [u["name"] for u in cpu["unusable"]] == ["onednn"]


def test_texts_without_end_do_no_harm(gpu):
    gpu.does("garbage")
    _, *gpus = gpu.probe()
    assert [(d["name"], d["note"], d["profile"]) for d in gpus] == [("?" * 95, "n" * 127, None)] * 2


# --- the choice ---


def test_the_device_of_the_line_is_taken(gpu, tmp_path):
    worker, status = gpu.run(tmp_path / "job", spec(backend="auto", epochs=1))
    hello = worker.events[0]
    assert status == DONE, worker.text()
    assert (hello["backend"], hello["device_id"], hello["device"]) == ("cudnn", "GPU-b", "fake GPU-b")
    assert "the fake opens GPU-b" in worker.text()


@pytest.mark.parametrize("backend", ["auto", "cudnn"])
def test_a_gpu_is_found_wherever_it_is_numbered(gpu, tmp_path, backend):
    gpu.does("unusable")  # the first one
    worker, status = gpu.run(tmp_path / "job", spec(backend=backend, epochs=1), CUDA_VISIBLE_DEVICES="GPU-b")
    assert status == DONE and worker.events[0]["device_id"] == "GPU-b"
    worker, status = gpu.run(tmp_path / "other", spec(backend=backend, epochs=1))
    assert status == DONE and worker.events[0]["device_id"] == "GPU-b"


def test_the_processor_needs_no_gpu(gpu, tmp_path):
    worker, status = gpu.run(tmp_path / "job", spec(backend="auto", epochs=1), device="cpu")
    assert status == DONE and (worker.events[0]["backend"], worker.events[0]["device_id"]) == ("ref", "cpu")
    assert all(e["gpu"] is None for e in worker.events if "gpu" in e) and "the fake opens" not in worker.text()


@pytest.mark.parametrize("backend, device", [("ref", "GPU-b"), ("cudnn", "cpu")])
def test_a_backend_on_a_device_of_another(gpu, tmp_path, backend, device):
    worker, status = gpu.run(tmp_path / "job", spec(backend=backend), device=device)
    error = worker.events[-1]
    assert status == FAILED and (error["code"], error["pointer"]) == ("unavailable", "/backend")
    assert backend in error["text"] and device in error["text"]


def test_a_gpu_that_is_gone(gpu, tmp_path):
    worker, status = gpu.run(tmp_path / "job", device="GPU-c")
    assert status == DEVICE and [e["code"] for e in worker.events] == ["device-failed"]
    assert "GPU-c" in worker.events[0]["text"] and "none of the 2" in worker.events[0]["text"]


def test_a_gpu_that_cannot_be_used_any_more(gpu, tmp_path):
    gpu.does("unusable")
    worker, status = gpu.run(tmp_path / "job", device="GPU-a")
    assert status == DEVICE and worker.events[-1]["code"] == "device-failed" and "GPU-a is too old" in worker.events[-1]["text"]


# --- training ---


@pytest.mark.parametrize("augment", [{"crop": 4, "flip": True}, AUGMENT, {}])
def test_images_on_the_device_train_as_those_of_the_host(gpu, tmp_path, augment):
    document = spec(augment=augment, validation_fraction=0.2, model={"preset": "resnet8", "width": 0.25, "dropout": 0.2})
    on_cpu, status = run(tmp_path / "cpu", document)
    assert status == DONE, on_cpu.text()
    on_gpu, status = gpu.run(tmp_path / "job", {**document, "backend": "auto"})
    assert status == DONE, on_gpu.text()
    assert results(on_gpu) == results(on_cpu)
    assert digest(tmp_path / "job") == digest(tmp_path / "cpu")
    assert all(f"images in set {n}" in on_gpu.text() for n in range(3))


def test_only_a_job_that_allows_it_may_sum_in_any_order(gpu, tmp_path):
    said = "the fake compiles for {} images in any order"
    worker, status = gpu.run(tmp_path / "any", spec(backend="auto", epochs=1, deterministic=False))
    assert status == DONE and all(said.format(n) in worker.text() for n in (32, 128))
    worker, status = gpu.run(tmp_path / "one", spec(backend="auto", epochs=1))
    assert status == DONE and "in any order" not in worker.text()


def test_an_empty_set_stays_away(gpu, tmp_path):
    worker, status = gpu.run(tmp_path / "job", spec(backend="auto", epochs=1))
    assert status == DONE and "150 images in set 0" in worker.text() and "70 images in set 2" in worker.text()
    assert "in set 1" not in worker.text()


# --- how the device is ---


def test_progress_and_epochs_tell_how_the_gpu_is(gpu, tmp_path):
    worker, status = gpu.run(tmp_path / "job")
    now = {"temperature_c": 61.0, "utilization": 0.5, "power_w": 200.0, "memory_used_bytes": 1 << 30}
    assert status == DONE
    assert worker.of("progress") and all(e["gpu"] == now for e in worker.of("progress"))
    assert [e["gpu"] for e in worker.of("epoch")] == [{**now, "energy_j": STEPS + EVALUATIONS / 2}] * 3


def stop_after(gpu, directory, document, steps):
    """An attempt that ends as a stopped one after so many steps."""
    gpu.does(hold=steps - 1)
    worker = gpu.start(directory, document)
    wait_for(lambda: "the fake waits" in worker.text(), "the step")
    worker.process.stdin.close()
    gpu.recovers("hold")
    assert worker.end() == STOPPED, worker.text()
    assert digest(directory)[1:] == ("0", str(steps))


def test_the_energy_of_an_epoch_is_over_all_attempts(gpu, tmp_path):
    stop_after(gpu, tmp_path / "job", spec(backend="auto"), 2)
    worker, status = gpu.run(tmp_path / "job")
    assert status == DONE and worker.events[0]["resumed"] == {"epoch": 0, "step": 2}
    assert [e["gpu"]["energy_j"] for e in worker.of("epoch")] == [STEPS + EVALUATIONS / 2] * 3


def test_energy_of_which_a_part_was_not_told(gpu, tmp_path):
    gpu.does("mute")
    stop_after(gpu, tmp_path / "job", spec(backend="auto"), 2)
    gpu.recovers("mute")
    worker, status = gpu.run(tmp_path / "job")
    assert status == DONE and worker.of("epoch")[0]["gpu"]["power_w"] == 200
    assert [e["gpu"]["energy_j"] for e in worker.of("epoch")] == [None] + [STEPS + EVALUATIONS / 2] * 2


def test_power_stands_in_for_energy_that_is_not_counted(gpu, tmp_path):
    gpu.does("power")
    worker, status = gpu.run(tmp_path / "job")
    assert status == DONE
    for epoch in worker.of("epoch"):
        assert epoch["gpu"]["temperature_c"] is None and epoch["gpu"]["power_w"] == 200
        assert epoch["gpu"]["energy_j"] >= 200 * 0.99 * epoch["seconds"]


def test_a_gpu_that_tells_nothing_trains_all_the_same(gpu, tmp_path):
    gpu.does("mute")
    worker, status = gpu.run(tmp_path / "job")
    assert status == DONE and all(e["gpu"] is None for e in worker.of("epoch") + worker.of("progress"))
    assert worker.text().count("the fake is mute") == 1


# --- failing ---


@pytest.mark.parametrize("how, after, where", [
    ("lost", STEPS + 2, "a training step"), ("lost-evaluate", EVALUATIONS, "an evaluation"),
    ("lost-telemetry", 7, "telemetry"),  # in any epoch: each has two readings at its end, and there are others by the clock
])
def test_a_device_that_fails_keeps_the_checkpoint(gpu, tmp_path, how, after, where):
    directory, document = tmp_path / "job", spec(backend="auto", epochs=4)
    gpu.does(**{how: after})
    worker, status = gpu.run(directory, document, RESIDUUM_CHECKPOINT_MS="1")
    error, last = worker.events[-1], worker.of("checkpoint")[-1]
    assert status == DEVICE, worker.text()
    assert (error["type"], error["code"]) == ("error", "device-failed") and where in error["text"]
    assert digest(directory)[1:] == (str(last["epoch"]), str(last["step"]))
    elsewhere, status = gpu.run(directory, document, device="cpu", known=len(worker.of("epoch")))
    assert status == DONE, elsewhere.text()
    assert elsewhere.events[0]["resumed"] == {"epoch": last["epoch"], "step": last["step"]}
    whole, _ = run(tmp_path / "whole", {**document, "backend": "ref"})
    assert results(worker) + results(elsewhere) == results(whole)


def test_a_stop_on_a_device_that_has_failed(gpu, tmp_path):
    worker = gpu.start(tmp_path / "job", spec(backend="auto", epochs=500))
    worker.until("epoch")
    gpu.does("lost-telemetry")
    assert worker.stop() == DEVICE
    assert worker.events[-1]["code"] == "device-failed"
    assert int(digest(tmp_path / "job")[1]) >= 1


@pytest.mark.parametrize("how, phase, limit", [("stuck", "training", 0.2), ("stuck-evaluate", "evaluation", 5)])
def test_a_step_that_never_ends(gpu, tmp_path, how, phase, limit):
    gpu.does(how)
    worker, status = gpu.run(tmp_path / "job", RESIDUUM_STUCK_MS=str(int(1000 * limit)))
    error = worker.events[-1]
    assert status == DEVICE and (error["type"], error["code"]) == ("error", "device-failed")
    assert f"a step of the {phase} in epoch 1 has not ended within {limit:g} s on fake GPU-b (GPU-b)" in error["text"]


@pytest.mark.parametrize("how, variable, what", [
    ("stuck-compile", "RESIDUUM_STUCK_PREPARE_MS", "the preparation of the network"),
    ("stuck-load", "RESIDUUM_STUCK_COPY_MS", "a copy to or from the device"),
    ("stuck-get", "RESIDUUM_STUCK_COPY_MS", "a copy to or from the device"),
    ("stuck-activation", "RESIDUUM_STUCK_COPY_MS", "a copy to or from the device"),
    ("stuck-telemetry", "RESIDUUM_STUCK_COPY_MS", "a copy to or from the device"),
])
def test_what_never_ends_besides_steps(gpu, tmp_path, how, variable, what):
    gpu.does(how)
    worker, status = gpu.run(tmp_path / "job", **{variable: "3000"})
    error = worker.events[-1]
    assert status == DEVICE and (error["type"], error["code"]) == ("error", "device-failed")
    assert f"{what} in epoch 1 has not ended within 3 s on fake GPU-b (GPU-b)" in error["text"]
