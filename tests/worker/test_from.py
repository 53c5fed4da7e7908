"""Jobs that start from another job: its weights, or its whole state."""
import json
import shutil

import numpy
import pytest
from harness import DONE, FAILED, STOPPED, Worker, digest, flipped, read_safetensors, results, run, spec

ADAM = {"optimizer": {"kind": "adam"}, "schedule": {"kind": "constant", "lr": 0.003}, "average_decay": 0.9, "batch_size": 25,
        "validation_fraction": 0.2, "train_limit": 125, "test_limit": 30}
STILL = {"kind": "constant", "lr": 1e-12}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A job of two epochs."""
    directory = tmp_path_factory.mktemp("source") / "job"
    worker, status = run(directory, spec(**ADAM, epochs=2))
    assert status == DONE, worker.text()
    return directory


def lend_weights(source, directory, epoch=2):
    directory.mkdir(parents=True)
    shutil.copy(source / "weights" / f"epoch-{epoch}.safetensors", directory / "initial.safetensors")


def lend_state(source, directory):
    directory.mkdir(parents=True)
    shutil.copy(source / "checkpoint.safetensors", directory / "initial.safetensors")
    shutil.copy(source / "epochs.ndjson", directory / "initial-epochs.ndjson")
    best = read_safetensors(source / "checkpoint.safetensors")[0]["best_epoch"]
    if best != "0":
        shutil.copy(source / "weights" / f"epoch-{best}.safetensors", directory / "initial-best.safetensors")


def tune(**changes):
    return spec(**{**ADAM, "epochs": 1, "from": {"job": "job_source"}, **changes})


def go_on(**changes):
    return spec(**{**ADAM, "epochs": 4, "from": {"job": "job_source", "resume": True}, **changes})


def values(directory, name):
    return numpy.frombuffer(read_safetensors(directory / "checkpoint.safetensors")[1][name][2], "<f4")


def kept(directory):
    """The tensors of every weights file."""
    return {f.name: read_safetensors(f)[1] for f in (directory / "weights").iterdir()}


# --- weights ---


def test_all_weights_are_taken_where_all_fit(source, tmp_path):
    lend_weights(source, tmp_path / "job")
    worker, status = run(tmp_path / "job", tune(schedule=STILL))
    initial = worker.events[0]["initial"]
    assert status == DONE and initial["fresh"] == [] and "conv1.weight" in initial["taken"]
    assert worker.events[0]["resumed"] is None
    for name in ("conv1.weight", "fc.weight", "layer3.0.conv2.weight"):  # the exported weights are the average
        assert numpy.allclose(values(tmp_path / "job", name), values(source, f"optimizer.{name}.average"), rtol=1e-5, atol=1e-8)
        assert not numpy.allclose(values(tmp_path / "job", name), values(source, name), rtol=1e-5, atol=1e-8)
    assert [e["epoch"] for e in worker.of("epoch")] == [1]


def test_what_does_not_fit_starts_afresh_and_is_named(source, tmp_path):
    lend_weights(source, tmp_path / "job")
    worker, status = run(tmp_path / "job", tune(model={"preset": "resnet8", "width": 0.5}, schedule=STILL))
    initial = worker.events[0]["initial"]
    assert status == DONE and initial["taken"] == ["fc.bias"] and "conv1.weight" in initial["fresh"]
    assert "afresh: conv1.weight" in worker.text()
    fresh, _ = run(tmp_path / "fresh", spec(**{**ADAM, "epochs": 1, "model": {"preset": "resnet8", "width": 0.5}, "schedule": STILL}))
    assert fresh.events[0]["initial"] is None
    assert (values(tmp_path / "job", "conv1.weight") == values(tmp_path / "fresh", "conv1.weight")).all()
    assert not (values(tmp_path / "job", "fc.bias") == values(tmp_path / "fresh", "fc.bias")).any()


def test_interrupted_fine_tuning_goes_on_from_its_own_checkpoint(source, tmp_path):
    for name in ("whole", "cut"):
        lend_weights(source, tmp_path / name)
    document = tune(epochs=2)
    run(tmp_path / "whole", document)
    worker = Worker(tmp_path / "cut", document, RESIDUUM_CHECKPOINT_MS="1")
    worker.until("checkpoint", 3)
    worker.kill()
    again, status = run(tmp_path / "cut", document)
    assert status == DONE and again.events[0]["initial"] is None and again.events[0]["resumed"] is not None
    assert results(tmp_path / "cut") == results(tmp_path / "whole") and digest(tmp_path / "cut") == digest(tmp_path / "whole")


@pytest.mark.parametrize("damage, code", [(None, "not-found"), (lambda d: d[:-4], "damaged-data"), (lambda d: b"", "damaged-data"),
                                          (lambda d: flipped(d, -7), "damaged-data")])
def test_weights_that_cannot_be_read_end_the_job(source, tmp_path, damage, code):
    lend_weights(source, tmp_path / "job")
    file = tmp_path / "job" / "initial.safetensors"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    worker, status = run(tmp_path / "job", tune())
    assert status == FAILED and worker.events[-1]["code"] == code and "initial.safetensors" in worker.events[-1]["text"]


# --- state ---


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Four epochs in one go."""
    directory = tmp_path_factory.mktemp("whole") / "job"
    worker, status = run(directory, spec(**ADAM, epochs=4))
    assert status == DONE, worker.text()
    return worker


def test_two_epochs_and_two_more_are_four(source, whole, tmp_path):
    lend_state(source, tmp_path / "job")
    worker, status = run(tmp_path / "job", go_on())
    assert status == DONE, worker.text()
    assert results(worker) == results(whole) == results(tmp_path / "job")
    assert digest(tmp_path / "job") == digest(whole.directory)
    assert worker.events[0]["initial"]["fresh"] == [] and "fc.weight" in worker.events[0]["initial"]["taken"]
    done = worker.of("done")[0]
    assert done["epochs"] == 4 and done["best_epoch"] == whole.of("done")[0]["best_epoch"]
    assert kept(tmp_path / "job") == kept(whole.directory)


@pytest.mark.parametrize("checkpoints", [1, 3, 4, 6])
def test_going_on_can_be_interrupted(source, whole, tmp_path, checkpoints):
    lend_state(source, tmp_path / "job")
    worker = Worker(tmp_path / "job", go_on(), RESIDUUM_CHECKPOINT_MS="1")
    worker.until("checkpoint", checkpoints)
    worker.kill()
    _, status = run(tmp_path / "job", go_on(), known=2)
    assert status == DONE and results(tmp_path / "job") == results(whole) and digest(tmp_path / "job") == digest(whole.directory)


def test_killed_before_its_first_checkpoint(source, whole, tmp_path):
    lend_state(source, tmp_path / "job")
    worker = Worker(tmp_path / "job", go_on())
    worker.until("hello")
    worker.kill()
    _, status = run(tmp_path / "job", go_on())
    assert status == DONE and results(tmp_path / "job") == results(whole)


def test_a_source_that_was_stopped_within_an_epoch(whole, tmp_path):
    worker = Worker(tmp_path / "source", spec(**ADAM, epochs=2), RESIDUUM_CHECKPOINT_MS="1")
    worker.until("checkpoint", 7)  # four steps make an epoch, the fifth checkpoint is the epoch's
    assert worker.stop() == STOPPED
    _, epoch, step = digest(tmp_path / "source")
    assert int(epoch) == 1 and int(step) >= 2
    lend_state(tmp_path / "source", tmp_path / "job")
    worker, status = run(tmp_path / "job", go_on())
    assert status == DONE and f"after epoch 1, step {step}" in worker.text()
    assert results(worker) == results(whole) and digest(tmp_path / "job") == digest(whole.directory)


def test_patience_begins_again(tmp_path):
    choosy = {**ADAM, "selection": {"metric": "loss", "patience": 1, "min_delta": 10}}
    first, _ = run(tmp_path / "source", spec(**choosy, epochs=9))
    assert first.of("done")[0]["epochs"] == 2
    lend_state(tmp_path / "source", tmp_path / "job")
    worker, status = run(tmp_path / "job", go_on(**{**choosy, "epochs": 9}))
    assert status == DONE and worker.of("done")[0]["epochs"] == 3


NO_BETTER = {"epochs": 3, "schedule": STILL, "average_decay": 0, "selection": {"metric": "loss"}}


@pytest.fixture
def ended(tmp_path):
    """The directory of a job of one epoch, none better than which is to come."""
    worker, status = run(tmp_path / "source", spec(**{**ADAM, "average_decay": 0, "selection": {"metric": "loss"}, "epochs": 1}))
    assert status == DONE, worker.text()
    lend_state(tmp_path / "source", tmp_path / "job")
    return tmp_path / "source"


def test_the_best_epoch_may_stay_the_source_s(ended, tmp_path):
    best, changes = "epoch-1.safetensors", {**NO_BETTER, "schedule": {"kind": "constant", "lr": 1}}  # that spoils the weights
    for known, checkpoints in ((0, 1), (1, 1), (1, None)):
        worker = Worker(tmp_path / "job", go_on(**changes), known=known)
        if checkpoints:
            worker.until("checkpoint", checkpoints)
            worker.kill()
    assert worker.end() == DONE and worker.of("done")[0]["best_epoch"] == 1
    assert {f.name for f in (tmp_path / "job" / "weights").iterdir()} == {best, "epoch-3.safetensors"}
    assert (tmp_path / "job" / "weights" / best).read_bytes() == (ended / "weights" / best).read_bytes()


def test_the_source_s_best_epoch_goes_when_a_better_one_comes(ended, tmp_path):
    history = [json.loads(line) for line in (ended / "epochs.ndjson").read_text().splitlines()]
    worker, status = run(tmp_path / "job", go_on(**{**NO_BETTER, "schedule": ADAM["schedule"]}))
    losses = [e["validation"]["loss"] for e in history + worker.of("epoch")[1:]]
    best = losses.index(min(losses)) + 1
    assert status == DONE and worker.of("done")[0]["best_epoch"] == best > 1
    assert set(kept(tmp_path / "job")) == {f"epoch-{best}.safetensors", "epoch-3.safetensors"}


@pytest.mark.parametrize("damage, words", [
    (None, "initial-best.safetensors"), (lambda data: data[:-4], "bytes of data"), (lambda data: flipped(data, -1), "SHA-256"),
    (lambda data: data.replace(b'"epoch":"1"', b'"epoch":"2"'), "is of epoch 2")])
def test_best_weights_that_cannot_be_read_are_no_reason_to_fail(ended, tmp_path, damage, words):
    file = tmp_path / "job" / "initial-best.safetensors"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    worker, status = run(tmp_path / "job", go_on(**NO_BETTER))
    assert status == DONE and "WARNING: the weights of the best epoch of job_source, 1, cannot be kept" in worker.text()
    assert words in worker.text() and "epoch-1.safetensors" not in kept(tmp_path / "job")


@pytest.mark.parametrize("changes, pointer, words", [
    ({"epochs": 2}, "/epochs", "2 epochs that job_source has trained"),
    ({"epochs": 1}, "/epochs", "must be above"),
    *[(changes, pointer, "not what job job_source had") for changes, pointer in (
        ({"optimizer": {"kind": "rmsprop"}}, "/optimizer/kind"), ({"train_limit": 126}, "/train_limit"),
        ({"test_limit": 31}, "/test_limit"), ({"validation_fraction": 0.4}, "/validation_fraction"), ({"pad": 2}, "/pad"),
        ({"seed": 12}, "/seed"), ({"batch_size": 20}, "/batch_size"), ({"average_decay": 0}, "/average_decay"),
        ({"average_decay": 0.8}, "/average_decay"), ({"model": {"preset": "resnet14", "width": 0.25}}, "/model"))],
])
def test_a_state_that_does_not_fit_is_refused(source, tmp_path, changes, pointer, words):
    lend_state(source, tmp_path / "job")
    worker, status = run(tmp_path / "job", go_on(**changes))
    error = worker.events[-1]
    assert status == FAILED and [e["type"] for e in worker.events] == ["error"]
    assert (error["code"], error["pointer"]) == ("invalid-field", pointer) and words in error["text"]


@pytest.mark.parametrize("change, words", [
    (lambda data, metadata: data.replace(metadata["train_sha256"].encode(), b"0" * 64), "images have changed"),
    (lambda data, metadata: data.replace(b'"spec":"{', b'"spec":"['), "is not JSON")])
def test_another_training_is_not_gone_on_with(source, tmp_path, change, words):
    lend_state(source, tmp_path / "job")
    file = tmp_path / "job" / "initial.safetensors"
    file.write_bytes(change(file.read_bytes(), read_safetensors(file)[0]))
    worker, status = run(tmp_path / "job", go_on())
    assert status == FAILED and worker.events[-1]["pointer"] == "/from/resume" and words in worker.events[-1]["text"]


@pytest.mark.parametrize("at", [-1, -100000])
def test_a_damaged_state_is_refused(source, tmp_path, at):
    lend_state(source, tmp_path / "job")
    file = tmp_path / "job" / "initial.safetensors"
    file.write_bytes(flipped(file.read_bytes(), at))
    worker, status = run(tmp_path / "job", go_on())
    error = worker.events[-1]
    assert status == FAILED and (error["code"], error["pointer"]) == ("invalid-field", "/from/resume")
    assert "SHA-256" in error["text"]


def test_weights_are_no_state(source, tmp_path):
    lend_weights(source, tmp_path / "job")
    worker, status = run(tmp_path / "job", go_on())
    assert status == FAILED and worker.events[-1]["pointer"] == "/from/resume" and "residuum-weights-1" in worker.events[-1]["text"]


@pytest.mark.parametrize("text", [None, "", '{"epoch": 1}\n'])
def test_a_state_without_its_epochs_is_refused(source, tmp_path, text):
    lend_state(source, tmp_path / "job")
    history = tmp_path / "job" / "initial-epochs.ndjson"
    if text is None:
        history.unlink()
    else:
        history.write_text(text)
    worker, status = run(tmp_path / "job", go_on())
    assert status == FAILED and worker.events[-1]["code"] == "damaged-data" and "initial-epochs.ndjson" in worker.events[-1]["text"]
