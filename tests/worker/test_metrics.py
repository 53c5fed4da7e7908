"""What real epochs record: every figure against the ones that it follows from."""
import math

import numpy as np
import pytest
from harness import DONE, needs, read_safetensors, run, spec

MODEL = {"preset": "resnet8", "width": 0.25}
TYPES = {"F32": np.float32, "I32": np.int32}


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """A finished job with a validation set."""
    done, status = run(tmp_path_factory.mktemp("metrics") / "job", spec(validation_fraction=0.2, test_limit=200))
    assert status == DONE, done.text()
    return done


def tensors(path):
    return {name: np.frombuffer(data, TYPES[kind]).reshape(shape).astype(np.float64 if kind == "F32" else int)
            for name, (kind, shape, data) in read_safetensors(path)[1].items()}


def near(got, want, tolerance=1e-12):
    assert got == pytest.approx(want, rel=tolerance, abs=1e-12)


def ratio(part, whole):
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def test_the_report_follows_from_the_confusion_matrix(worker):
    for epoch in worker.of("epoch"):
        test = epoch["test"]
        confusion, report = np.array(test["confusion"], float), test["report"]
        hits, support = confusion.diagonal(), confusion.sum(1)
        assert confusion.shape == (10, 10) and confusion.sum() == 200
        near(test["accuracy"], hits.sum() / confusion.sum())
        scores = {"precision": ratio(hits, confusion.sum(0)), "recall": ratio(hits, support),
                  "f1": ratio(2 * hits, support + confusion.sum(0))}
        assert report["support"] == support.tolist()
        for name, values in scores.items():
            near(report[name], values)
            near(report["macro"][name], values.mean())
            near(report["weighted"][name], (values * support).sum() / support.sum())


def test_the_most_confused_follow_from_the_confusion_matrix(worker):
    for epoch in worker.of("epoch"):
        confusion = np.array(epoch["test"]["confusion"])
        np.fill_diagonal(confusion, 0)
        pairs = sorted((-int(count), t, p) for (t, p), count in np.ndenumerate(confusion) if count)[:10]
        classes = sorted((-int(count), c) for c, count in enumerate(confusion.sum(0) + confusion.sum(1)) if count)[:10]
        assert epoch["test"]["most_confused"] == {
            "pairs": [{"true": t, "predicted": p, "count": -count} for count, t, p in pairs],
            "classes": [{"class": c, "count": -count} for count, c in classes]}


def test_predictions_are_those_of_the_last_epoch(worker):
    found = tensors(worker.directory / "predictions.safetensors")
    test = worker.of("epoch")[-1]["test"]
    softmax, labels, predicted = found["softmax"], found["labels"], found["predicted"]
    assert softmax.shape == (200, 10) and np.allclose(softmax.sum(1), 1, atol=1e-5)
    assert (predicted == softmax.argmax(1)).all()
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels, predicted), 1)
    assert test["confusion"] == confusion.tolist()
    assert test["labels"] == labels[:25].tolist()
    near(test["softmax"], softmax[:25], 1e-8)
    likely = softmax[np.arange(200), labels]
    near(test["top5"], ((softmax > likely[:, None]).sum(1) < 5).mean())
    near(test["loss"], -np.log(likely).mean(), 1e-5)
    confidence = softmax.max(1)
    bins = np.ceil(confidence * 15)
    gaps = [abs(((predicted == labels)[bins == b] - confidence[bins == b]).sum()) for b in np.unique(bins)]
    near(test["ece"], sum(gaps) / 200, 1e-6)


def test_top5_is_not_below_accuracy(worker):
    for epoch in worker.of("epoch"):
        for part in (epoch["test"], epoch["validation"]):
            assert 0 <= part["accuracy"] <= part["top5"] <= 1
            assert part["loss"] > 0
        assert set(epoch["validation"]) == {"loss", "accuracy", "top5"}


def layer_of(parameter):
    return parameter.rpartition(".")[0]


def trainable(path):
    """The trainable values of each layer, as one vector."""
    layers = {}
    for name, values in tensors(path).items():
        if "running_" not in name:
            layers.setdefault(layer_of(name), []).append(values.ravel())
    return {name: np.concatenate(parts) for name, parts in layers.items()}


@pytest.mark.parametrize("backend", ["ref", "onednn"])
def test_norms_are_those_of_the_weights(tmp_path, backend):
    """With one step an epoch and plain gradient descent, the kept weights say what each norm must be."""
    needs(backend)
    worker, status = run(tmp_path / "job", spec(
        backend=backend, epochs=3, train_limit=32, keep_every=1, optimizer={"kind": "sgd", "momentum": 0, "weight_decay": 0},
        schedule={"kind": "constant", "lr": 0.05}))
    assert status == DONE, worker.text()
    for number in (2, 3):
        before, after = (trainable(worker.directory / f"weights/epoch-{n}.safetensors") for n in (number - 1, number))
        epoch = worker.of("epoch")[number - 1]
        columns = epoch["layers"]["weights"]
        assert columns["name"] == list(before)
        for i, name in enumerate(columns["name"]):
            update = np.linalg.norm(after[name] - before[name])
            near(columns["weight_norm"][i], np.linalg.norm(before[name]), 1e-5)
            near(columns["update_ratio"][i], update / np.linalg.norm(before[name]), 1e-3)
            near(columns["gradient_norm"][i], update / epoch["lr"], 1e-3)


def test_layers_are_columns(worker):
    for epoch in worker.of("epoch"):
        weights, activations = epoch["layers"]["weights"], epoch["layers"]["activations"]
        assert set(weights) == {"name", "gradient_norm", "weight_norm", "update_ratio"}
        assert set(activations) == {"name", "mean", "deviation", "dead"}
        for columns in (weights, activations):
            assert len({len(column) for column in columns.values()}) == 1
            assert all(isinstance(name, str) for name in columns["name"])
        assert all(value > 0 for key in ("gradient_norm", "weight_norm", "update_ratio") for value in weights[key])
        assert set(weights["name"]) <= set(activations["name"])
        assert {"conv1", "layer1.0.add", "avgpool", "fc"} <= set(activations["name"])


def test_only_relus_can_be_dead(worker):
    activations = worker.of("epoch")[-1]["layers"]["activations"]
    for name, mean, deviation, dead in zip(*activations.values()):
        assert deviation >= 0
        assert (dead is not None) == ("act" in name)
        if dead is not None:
            assert 0 <= dead <= 1 and mean > 0


def convolutions(tmp_path, model):
    """Gradient norms of a job's first epoch, from the first convolution to the last."""
    worker, status = run(tmp_path / "job", spec(model=model, epochs=1, train_limit=64, schedule={"kind": "constant", "lr": 0.001}))
    assert status == DONE, worker.text()
    weights = worker.of("epoch")[0]["layers"]["weights"]
    return [norm for name, norm in zip(weights["name"], weights["gradient_norm"]) if "conv" in name]


def test_gradients_of_a_plain_net_of_sigmoids_vanish(tmp_path):
    norms = convolutions(tmp_path, {"preset": "plain20", "width": 0.25, "norm": "none", "activation": "sigmoid"})
    assert len(norms) == 19
    assert norms[0] < 1e-3 * norms[-1]
    thirds = [np.exp(np.mean(np.log(norms[i:i + 6]))) for i in (0, 6, 12)]
    assert thirds[0] < thirds[1] / 10 < thirds[2] / 100


def test_gradients_of_a_residual_net_stay_of_one_size(tmp_path):
    norms = convolutions(tmp_path, {"preset": "resnet20", "width": 0.25})
    assert len(norms) == 19
    assert max(norms) < 30 * min(norms) and all(map(math.isfinite, norms))


def test_an_epoch_with_everything_on_is_the_same_again(tmp_path):
    document = spec(epochs=2, augment={"crop": 4, "flip": True, "rotation": 15, "brightness": 0.3, "contrast": 0.3, "cutout": 8, "mixup": 0.4},
                    label_smoothing=0.1, model={**MODEL, "dropout": 0.2})
    workers = [run(tmp_path / name, document)[0] for name in ("first", "second")]
    first, second = ([(e["weights_sha256"], e["train"], e["test"], e["layers"]) for e in w.of("epoch")] for w in workers)
    assert len(first) == 2 and first == second
    plain = run(tmp_path / "plain", spec(epochs=2, model={**MODEL, "dropout": 0.2}))[0]
    assert plain.of("epoch")[0]["weights_sha256"] != first[0][0]


def target_counts(tmp_path, **changes):
    """How often each class is the target of a batch of 32: with logits of 0 the gradient of the last bias is a tenth minus the mean target."""
    worker, status = run(tmp_path / "job", spec(
        model={"preset": "mlp", "init": "normal", "init_sigma": 1e-9}, epochs=1, train_limit=32,
        optimizer={"kind": "sgd", "momentum": 0, "weight_decay": 0}, schedule={"kind": "constant", "lr": 1}, **changes))
    assert status == DONE, worker.text()
    bias = next(values for values in tensors(worker.directory / "weights/epoch-1.safetensors").values() if values.shape == (10,))
    return 32 * (bias + 0.1)


def test_targets_are_mixed_and_smoothed(tmp_path):
    plain = target_counts(tmp_path / "plain")
    assert np.allclose(plain, plain.round(), atol=1e-3) and round(plain.sum()) == 32 and plain.max() > 3.5
    smoothed = target_counts(tmp_path / "smoothed", label_smoothing=0.25)
    assert np.allclose(smoothed, 0.75 * plain + 0.25 * 3.2, atol=1e-3)
    mixed = target_counts(tmp_path / "mixed", augment={"mixup": 1})
    assert mixed.sum() == pytest.approx(32, abs=1e-3)
    assert abs(mixed - mixed.round()).max() > 0.05 and abs(mixed - plain).max() < 10
