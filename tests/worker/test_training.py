"""What training leaves behind: weights files, the best epoch, early stops, validation, the record of an epoch."""
import hashlib
import json
import struct

import numpy
import pytest
from harness import DONE, STOPPED, USAGE, Worker, needs, read_safetensors, results, run, spec

CHOOSY = spec(epochs=6, train_limit=200, validation_fraction=0.2, keep_every=4, average_decay=0.8, batch_size=20, test_limit=40)


def kept(directory):
    return sorted(int(f.stem.removeprefix("epoch-")) for f in (directory / "weights").iterdir())


def weights(directory, epoch):
    return read_safetensors(directory / "weights" / f"epoch-{epoch}.safetensors")


def sha256_of(tensors):
    """SHA-256 of tensors as read_safetensors gives them, one after the other."""
    return hashlib.sha256(b"".join(t[2] for t in tensors)).hexdigest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    worker, status = run(tmp_path_factory.mktemp("whole") / "job", CHOOSY)
    assert status == DONE, worker.text()
    return worker


def best_of(epochs, key=lambda e: e["validation"]["accuracy"]):
    return max(epochs, key=lambda e: (key(e), -e["epoch"]))["epoch"]


def test_the_best_epoch_is_the_validation_set_s(whole):
    epochs = whole.of("epoch")
    assert (whole.events[0]["train_images"], whole.events[0]["validation_images"]) == (160, 40)
    for n, epoch in enumerate(epochs, 1):
        assert set(epoch["validation"]) == {"loss", "accuracy", "top5"}
        assert epoch["validation"]["accuracy"] * 40 == pytest.approx(round(epoch["validation"]["accuracy"] * 40))
        assert epoch["best"] is (best_of(epochs[:n]) == n)
    assert whole.of("done")[0]["best_epoch"] == best_of(epochs)


def test_kept_weights(whole):
    directory = whole.directory
    assert kept(directory) == sorted({6, best_of(whole.of("epoch")), 4})
    for epoch in kept(directory):
        metadata, tensors = weights(directory, epoch)
        assert metadata["format"] == "residuum-weights-1" and metadata["job"] == "job_test" and metadata["epoch"] == str(epoch)
        assert metadata["sha256"] == whole.of("epoch")[epoch - 1]["exported_sha256"] and metadata["weights"] == "average"
        assert json.loads(metadata["spec"])["seed"] == 11
        assert {"conv1.weight", "bn1.running_mean", "fc.bias"} <= set(tensors)


def test_the_hash_is_of_values_and_average_and_the_file_s_of_the_average(whole):
    metadata, tensors = weights(whole.directory, 6)
    _, state = read_safetensors(whole.directory / "checkpoint.safetensors")
    epoch = whole.of("epoch")[-1]
    values, averages = ([state[form.format(name)] for name in tensors] for form in ("{}", "optimizer.{}.average"))
    assert list(tensors.values()) == averages != values  # in the graph's order
    assert epoch["weights_sha256"] == sha256_of(values + averages)
    assert epoch["exported_sha256"] == metadata["sha256"] == sha256_of(averages)


def test_without_an_average_the_file_is_what_was_hashed(tmp_path):
    worker, status = run(tmp_path / "job", spec(epochs=2))
    assert status == DONE and kept(tmp_path / "job") == [2]
    metadata, tensors = weights(tmp_path / "job", 2)
    assert metadata["weights"] == "values"
    epoch = worker.of("epoch")[1]
    assert sha256_of(tensors.values()) == metadata["sha256"] == epoch["weights_sha256"] == epoch["exported_sha256"]
    mean, deviation = (list(map(float, metadata[k].split())) for k in ("mean", "deviation"))
    assert len(mean) == len(deviation) == 3 and all(0 < m < 1 for m in mean) and all(0 < d < 1 for d in deviation)


def test_the_average_starts_at_the_initial_weights(tmp_path):
    """With a decay of d, after one step of one image it is d * initial + (1 - d) * value."""
    common = {"epochs": 1, "train_limit": 1, "batch_size": 1, "test_limit": 10, "augment": {"crop": 0, "flip": False}}
    run(tmp_path / "still", spec(average_decay=0.75, schedule={"kind": "constant", "lr": 1e-12}, **common))
    run(tmp_path / "moved", spec(average_decay=0.75, schedule={"kind": "constant", "lr": 0.1}, **common))
    _, initial = read_safetensors(tmp_path / "still" / "checkpoint.safetensors")
    _, moved = read_safetensors(tmp_path / "moved" / "checkpoint.safetensors")
    for name in ("conv1.weight", "fc.weight", "fc.bias"):
        before, value, average = (numpy.frombuffer(t[2], "<f4") for t in (
            initial[name], moved[name], moved[f"optimizer.{name}.average"]))
        assert abs(value - before).max() > 1e-4
        assert numpy.allclose(average, 0.75 * before + 0.25 * value, rtol=1e-5, atol=1e-7)


def test_predictions_are_the_last_epoch_s(whole):
    metadata, tensors = read_safetensors(whole.directory / "predictions.safetensors")
    test = whole.of("epoch")[-1]["test"]
    softmax = numpy.frombuffer(tensors["softmax"][2], "<f4").reshape(tensors["softmax"][1])
    labels, predicted = (numpy.frombuffer(tensors[n][2], "<i4") for n in ("labels", "predicted"))
    assert metadata["epoch"] == "6" and softmax.shape == (40, 10)
    confusion = numpy.zeros((10, 10), int)
    numpy.add.at(confusion, (labels, predicted), 1)
    assert confusion.tolist() == test["confusion"] and (softmax.argmax(1) == predicted).all()
    assert numpy.allclose(softmax[:25], test["softmax"], rtol=1e-7)


def test_patience_ends_training(tmp_path):
    """No epoch is better by 10 than the first one, so patience counts from there."""
    document = {**CHOOSY, "selection": {"metric": "loss", "patience": 3, "min_delta": 10}}
    worker, status = run(tmp_path / "job", document)
    epochs, done = worker.of("epoch"), worker.of("done")[0]
    assert status == DONE and len(epochs) == 4
    best = best_of(epochs, lambda e: -e["validation"]["loss"])
    assert (done["epochs"], done["stopped_early"], done["best_epoch"]) == (4, True, best)
    assert kept(tmp_path / "job") == sorted({4, best})
    assert read_safetensors(tmp_path / "job" / "predictions.safetensors")[0]["epoch"] == "4"
    again, status = run(tmp_path / "job", document, known=4)
    assert status == DONE and [e["type"] for e in again.events] == ["hello", "done"]
    assert {**again.of("done")[0], "seq": 0} == {**done, "seq": 0}


def test_validation_cannot_be_empty(tmp_path):
    worker, status = run(tmp_path / "job", spec(train_limit=4, batch_size=2, validation_fraction=0.1))
    error = worker.events[-1]
    assert status == USAGE and (error["code"], error["pointer"]) == ("invalid-field", "/validation_fraction")


def test_the_test_set_decides_nothing(tmp_path):
    """Other test images change neither weights nor the best epoch."""
    a, _ = run(tmp_path / "a", {**CHOOSY, "epochs": 3})
    b, _ = run(tmp_path / "b", {**CHOOSY, "epochs": 3, "test_limit": 33})
    for one, other in zip(a.of("epoch"), b.of("epoch")):
        assert one["weights_sha256"] == other["weights_sha256"] and one["best"] == other["best"]
        assert one["validation"] == other["validation"] and one["test"] != other["test"]


def test_validation_images_are_not_trained_on_nor_augmented(tmp_path):
    """A job whose learning rate is nothing has the same validation loss in every epoch, whatever the augmentation."""
    document = spec(epochs=2, validation_fraction=0.3, schedule={"kind": "constant", "lr": 1e-12},
                    model={"preset": "resnet8", "width": 0.25, "norm": "none"},
                    augment={"crop": 8, "flip": True, "rotation": 40, "brightness": 0.9, "contrast": 0.9, "cutout": 16, "mixup": 1})
    worker, status = run(tmp_path / "job", document)
    first, second = worker.of("epoch")
    assert status == DONE and first["validation"]["loss"] == pytest.approx(second["validation"]["loss"], rel=1e-6)
    assert first["train"]["loss"] != pytest.approx(second["train"]["loss"], rel=1e-6)


def test_layers_tell_of_every_epoch(whole):
    for epoch in whole.of("epoch"):
        rows, outputs = epoch["layers"]["weights"], epoch["layers"]["activations"]
        assert "conv1" in rows["name"] and "fc" in rows["name"]
        for column in ("gradient_norm", "weight_norm", "update_ratio"):
            assert len(rows[column]) == len(rows["name"]) and all(v > 0 for v in rows[column])
        assert len(outputs["mean"]) == len(outputs["deviation"]) == len(outputs["dead"]) == len(outputs["name"])
        dead = [d for d in outputs["dead"] if d is not None]
        assert dead and all(0 <= d <= 1 for d in dead)


@pytest.mark.parametrize("kind, extra", [("sgd", {"momentum": 0.9, "nesterov": True, "clip_norm": 1}),
                                         ("adam", {"decay_norm_bias": False, "weight_decay": 0.01}), ("adamw", {}),
                                         ("rmsprop", {"momentum": 0.5})])
def test_optimizers_learn(tmp_path, kind, extra):
    document = spec(epochs=3, train_limit=300, optimizer={"kind": kind, **extra}, label_smoothing=0.1,
                    schedule={"kind": "constant", "lr": 0.05 if kind == "sgd" else 0.005}, augment={"crop": 0, "flip": False})
    worker, status = run(tmp_path / "job", document)
    losses = [e["train"]["loss"] for e in worker.of("epoch")]
    assert status == DONE and losses[-1] < losses[0] - 0.1
    _, tensors = read_safetensors(tmp_path / "job" / "checkpoint.safetensors")
    assert ("optimizer.fc.weight.square" in tensors) is (kind != "sgd") and "optimizer.fc.weight.momentum" in tensors


def test_adam_counts_its_steps_over_all_epochs(tmp_path):
    """One step an epoch on the same images and nearly the same weights: as the gradient stays, so does Adam's step, which is the
    rate in every direction, when the bias corrections know how many steps there were."""
    document = spec(epochs=3, train_limit=32, batch_size=32, optimizer={"kind": "adam", "epsilon": 1e-16},
                    schedule={"kind": "constant", "lr": 1e-5}, augment={"crop": 0, "flip": False},
                    model={"preset": "resnet8", "width": 0.25, "norm": "none"})
    worker, status = run(tmp_path / "job", document)
    assert status == DONE
    rows = [e["layers"]["weights"] for e in worker.of("epoch")]
    steps = [r["update_ratio"][r["name"].index("fc")] * r["weight_norm"][r["name"].index("fc")] for r in rows]
    assert steps[1] == pytest.approx(steps[0], rel=0.05) and steps[2] == pytest.approx(steps[0], rel=0.05)


def test_threads_change_nothing_but_last_bits(tmp_path):
    """Images, order, dropout and initial weights are the same, so the first step's loss is the same but for rounding."""
    needs("onednn")
    losses = []
    for threads in (1, 2):
        document = spec(backend="onednn", threads=threads, epochs=1, train_limit=32, test_limit=10,
                        model={"preset": "resnet8", "dropout": 0.5},
                        augment={"crop": 4, "flip": True, "rotation": 10, "cutout": 4, "mixup": 0.5})
        worker, status = run(tmp_path / str(threads), document)
        assert status == DONE
        losses.append(worker.of("epoch")[0]["train"]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_stop_in_the_test_is_made_good(tmp_path, whole):
    """Validation and test begin again; the epoch's record is the same."""
    worker = Worker(tmp_path / "job", CHOOSY, RESIDUUM_CHECKPOINT_MS="1")
    while True:
        event = worker.until("checkpoint")
        if (event["epoch"], event["step"]) == (1, 8):
            break
    status = worker.stop()
    assert status == STOPPED
    again, status = run(tmp_path / "job", CHOOSY)
    assert status == DONE and results(tmp_path / "job") == results(whole)
    assert kept(tmp_path / "job") == kept(whole.directory) and again.of("done")[0]["best_epoch"] == whole.of("done")[0]["best_epoch"]


def test_what_a_crash_left_among_the_weights_goes(tmp_path, whole):
    """Files of epochs that the checkpoint does not know of yet, half written ones, and some that should have been removed."""
    worker = Worker(tmp_path / "job", CHOOSY)
    worker.until("epoch", 2)
    worker.kill()
    folder = tmp_path / "job" / "weights"
    for name in ("epoch-5.safetensors", "epoch-3.safetensors.part", "epoch-0.safetensors", "other"):
        (folder / name).write_bytes(b"left")
    worker = Worker(tmp_path / "job", CHOOSY)
    worker.until("hello")
    assert kept(tmp_path / "job") == sorted({2, best_of(whole.of("epoch")[:2])})
    assert worker.end() == DONE and kept(tmp_path / "job") == kept(whole.directory)
    for epoch in kept(whole.directory):
        name = f"epoch-{epoch}.safetensors"
        assert (folder / name).read_bytes() == (whole.directory / "weights" / name).read_bytes()


def test_weights_files_are_well_formed(whole):
    """safetensors wants the header padded, the data without gaps."""
    data = (whole.directory / "weights" / "epoch-6.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    ends = sorted(t["data_offsets"] for n, t in header.items() if n != "__metadata__")
    assert size % 8 == 0 and ends[0][0] == 0 and ends[-1][1] == len(data) - 8 - size
    assert all(a[1] == b[0] for a, b in zip(ends, ends[1:]))
