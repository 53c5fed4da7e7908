"""The lines between daemon and worker: order, numbers, stopping, refusing."""
import fcntl
import json
import signal
import subprocess
import time

import numpy
import pytest
from harness import (DONE, FAILED, PROGRAM, PROTOCOL, RETRY, STOPPED, USAGE, Worker, digest, read_safetensors, results, run, spec, wait_for)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One job from start to end."""
    worker, status = run(tmp_path_factory.mktemp("whole") / "job")
    assert status == DONE, worker.text()
    return worker


def test_hello_is_first_and_done_is_last(whole):
    hello = whole.events[0]
    assert {k: hello[k] for k in ("type", "protocol", "backend", "precision", "threads", "resumed")} == {
        "type": "hello", "protocol": PROTOCOL, "backend": "ref", "precision": "f32", "threads": 1, "resumed": None}
    assert {k: hello[k] for k in ("train_images", "validation_images", "test_images", "initial")} == {
        "train_images": 150, "validation_images": 0, "test_images": 70, "initial": None}
    assert len(hello["data_sha256"]) == 64 and hello["program"] and isinstance(hello["algorithms"], str)
    assert hello["parameters"] > 1000 and hello["memory_bytes"] > 4 * hello["parameters"]
    assert hello["device"] and hello["device_id"] == "cpu" and hello["backend_version"]
    assert all(e["gpu"] is None for e in whole.events if e["type"] in ("progress", "epoch"))
    assert {k: whole.events[-1][k] for k in ("type", "epochs", "stopped_early", "best_epoch")} == {
        "type": "done", "epochs": 3, "stopped_early": False, "best_epoch": None}


def test_every_epoch_comes_after_its_checkpoint(whole):
    kinds = [e["type"] for e in whole.events if e["type"] in ("epoch", "checkpoint")]
    assert kinds == ["checkpoint", "epoch"] * 3
    assert [(c["epoch"], c["step"], c["file"]) for c in whole.of("checkpoint")] == [
        (n, 0, "checkpoint.safetensors") for n in (1, 2, 3)]
    assert whole.of("checkpoint")[-1]["bytes"] == (whole.directory / "checkpoint.safetensors").stat().st_size


def test_epochs_tell_consistent_numbers(whole):
    epochs = whole.of("epoch")
    assert [e["epoch"] for e in epochs] == [1, 2, 3]
    for epoch in epochs:
        test, confusion = epoch["test"], numpy.array(epoch["test"]["confusion"])
        assert confusion.shape == (10, 10) and confusion.sum() == 70
        assert abs(confusion.trace() / 70 - test["accuracy"]) < 1e-12
        assert numpy.bincount(test["labels"], minlength=10).max() <= confusion.sum(1).max() and len(test["labels"]) == 25
        softmax = numpy.array(test["softmax"])
        assert softmax.shape == (25, 10) and (abs(softmax.sum(1) - 1) < 1e-5).all() and (softmax >= 0).all()
        assert 0 <= epoch["train"]["accuracy"] <= 1 and epoch["train"]["loss"] > 0 and test["loss"] > 0
        assert abs(epoch["train"]["accuracy"] * 150 - round(epoch["train"]["accuracy"] * 150)) < 1e-9
        assert epoch["validation"] is None and epoch["best"] is None
        assert epoch["seconds"] > 0 and epoch["images_per_second"] > 0
    assert abs(epochs[-1]["lr"] - 0.05 / 25 / 1e4) < 1e-12  # the last step of one-cycle


def test_predictions_of_the_first_images_fit_the_matrix(tmp_path):
    """With 25 test images the matrix is that of the softmax rows."""
    worker, status = run(tmp_path / "job", spec(test_limit=25, epochs=1))
    assert status == DONE
    test = worker.of("epoch")[0]["test"]
    confusion = numpy.zeros((10, 10), int)
    for label, row in zip(test["labels"], test["softmax"]):
        confusion[label, numpy.argmax(row)] += 1
    assert confusion.tolist() == test["confusion"]
    loss = -numpy.mean([numpy.log(row[label]) for label, row in zip(test["labels"], test["softmax"])])
    assert abs(loss - test["loss"]) < 1e-5


def test_progress_comes_at_once_and_then_at_most_once_a_second(tmp_path):
    start = time.monotonic()
    worker, status = run(tmp_path / "job", spec(batch_size=8, train_limit=1200, test_limit=700, epochs=2))
    took = time.monotonic() - start
    progress = worker.of("progress")
    assert status == DONE and took > 2, "too short to say anything"
    first = progress[0]
    assert (first["phase"], first["step"], first["steps"], first["loss"], first["seconds_left"]) == ("train", 0, 150, None, None)
    assert worker.events[1] is first
    assert 2 <= len(progress) <= took + 1
    for event in progress[1:]:
        assert 0 <= event["step"] <= event["steps"] == {"train": 150, "test": 6}[event["phase"]]
        assert event["seconds_left"] > 0
    left = [e["seconds_left"] for e in progress[1:]]
    assert left[0] > left[-1]


@pytest.mark.parametrize("how", ["end of input", "SIGTERM"])
def test_stop_and_go_on(whole, tmp_path, how):
    directory = tmp_path / "job"
    worker = Worker(directory, spec(), RESIDUUM_CHECKPOINT_MS="1")
    worker.until("checkpoint", 7)  # in the second epoch: five steps make one
    status = worker.stop() if how == "end of input" else worker.kill(signal.SIGTERM)
    assert status == STOPPED and not worker.of("done") and not worker.of("error")
    _, epoch, step = digest(directory)
    assert worker.of("checkpoint")[-1]["epoch"] == int(epoch) and worker.of("checkpoint")[-1]["step"] == int(step)
    again, status = run(directory, spec(), known=int(epoch))
    assert status == DONE, again.text()
    assert again.events[0]["resumed"] == {"epoch": int(epoch), "step": int(step)}
    assert digest(directory) == digest(whole.directory)
    assert results(worker) + results(again) == results(whole)


def test_more_input_is_ignored(tmp_path):
    worker = Worker(tmp_path / "job")
    worker.until("hello")
    worker.process.stdin.write(b"more\n" * 100)
    worker.process.stdin.flush()
    assert worker.end() == DONE


def test_a_reader_that_left_stops_the_job(tmp_path):
    worker = Worker(tmp_path / "job", spec(epochs=500))
    worker.until("epoch")
    worker.process.stdout.close()
    assert worker.process.wait(60) == STOPPED


def test_epochs_that_the_daemon_misses_come_again(whole, tmp_path):
    directory = tmp_path / "job"
    run(directory)
    worker, status = run(directory, known=1)
    assert status == DONE
    assert [e["type"] for e in worker.events] == ["hello", "epoch", "epoch", "done"]
    assert worker.events[0]["resumed"] == {"epoch": 3, "step": 0}
    assert results(worker) == results(whole)[1:]


GOOD = {"protocol": PROTOCOL, "job": "job_x", "attempt": 1, "device": "cpu", "dir": "/tmp", "epochs_known": 0, "spec": spec()}


@pytest.mark.parametrize("line", [
    "", "no JSON", "[]", "{}", json.dumps({**GOOD, "protocol": PROTOCOL + 1}), json.dumps({**GOOD, "dir": "relative"}),
    json.dumps({**GOOD, "epochs_known": -1}), json.dumps({**GOOD, "spec": {"dataset": "shapes"}}),
    json.dumps({**GOOD, "spec": spec(epochz=1)}), json.dumps({**GOOD, "job": 1}),
    json.dumps({**GOOD, "device": None}), "[" * 100, '{"protocol": "\xff"}',
])
def test_wrong_lines_are_refused(tmp_path, line):
    worker, status = run(tmp_path / "job", line=line)
    assert status == USAGE
    assert [e["type"] for e in worker.events] == ["error"]
    assert worker.events[0]["code"] in ("invalid-request", "invalid-json", "invalid-field", "unknown-field")
    assert worker.events[0]["text"]


def test_no_line_at_all():
    done = subprocess.run([PROGRAM], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.returncode == USAGE and json.loads(done.stdout)["type"] == "error"


def test_a_loss_that_is_not_finite_ends_the_job(tmp_path):
    document = spec(schedule={"kind": "constant", "lr": 1e6}, model={"preset": "resnet8", "width": 0.25, "norm": "none"})
    worker, status = run(tmp_path / "job", document)
    error = worker.events[-1]
    assert status == FAILED and error["type"] == "error" and error["code"] == "non-finite-loss"
    assert "epoch 1 at step " in error["text"] and " of 5 " in error["text"]
    assert not (tmp_path / "job" / "checkpoint.safetensors").exists()


def test_an_impossible_backend_is_final(tmp_path):
    worker, status = run(tmp_path / "job", spec(precision="bf16"))
    assert status == FAILED and worker.events[-1]["code"] == "unavailable" and "bf16" in worker.events[-1]["text"]


def test_a_missing_directory_may_come_back(tmp_path):
    line = json.dumps({**GOOD, "dir": str(tmp_path / "missing")})
    worker, status = run(tmp_path / "job", line=line)
    assert status == RETRY and worker.events[-1]["code"] == "input-output"


def test_one_attempt_at_a_time(tmp_path):
    directory = tmp_path / "job"
    directory.mkdir()
    with open(directory / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stopped = Worker(directory)
        assert stopped.stop() == STOPPED and not stopped.events
        waiting = Worker(directory, spec(epochs=1))
        wait_for(lambda: waiting.text().count("attempt 1") == 2, "the second worker to start")
    waiting.until("hello")
    assert waiting.end() == DONE


def test_descriptor_1_is_not_the_protocol(tmp_path):
    """A module that prints must not reach the daemon: see test_probe.py; here nothing but events came."""
    worker, _ = run(tmp_path / "job", spec(epochs=1))
    assert {e["type"] for e in worker.events} <= {"hello", "progress", "epoch", "checkpoint", "done"}
    assert "epoch 1/1: train loss" in worker.text()


def test_the_checkpoint_opens_elsewhere(whole):
    metadata, tensors = read_safetensors(whole.directory / "checkpoint.safetensors")
    assert metadata["epoch"] == "3" and metadata["step"] == "0" and metadata["job"] == "job_test" and metadata["backend"] == "ref"
    assert json.loads(metadata["spec"])["model"]["preset"] == "resnet8"
    dtype, shape, sums = tensors.pop("training.layers")
    assert dtype == "F64" and 8 * shape[0] == len(sums) and not any(sums)  # of the epoch's steps so far: none
    trained = [n for n in tensors if n.endswith(".momentum")]
    for name in trained:
        assert tensors[name.removeprefix("optimizer.").removesuffix(".momentum")][1] == tensors[name][1]
    count = 0
    for name, (dtype, shape, data) in tensors.items():
        values = numpy.frombuffer(data, "<f4")
        assert dtype == "F32" and values.size == numpy.prod(shape) and numpy.isfinite(values).all()
        count += values.size if name in trained else 0
    assert count == whole.events[0]["parameters"]
    assert (numpy.frombuffer(tensors[trained[0]][2], "<f4") != 0).any()
