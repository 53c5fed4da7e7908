"""Looking into a network: `residuum-worker --inspect` on the weights of a finished job, against what the job said of itself and against
numbers computed here from the weights file."""
import gzip
import json
import os
import re
import struct
import subprocess
from pathlib import Path

import numpy
import pytest
from harness import DONE, LIMIT, PROGRAM, PROTOCOL, flipped, installed, needs, read_safetensors, run, spec, wait_for

MODEL = {"preset": "simplecnn", "width": 0.25}  # conv1 act1 pool1 conv2 act2 pool2 flatten fc1 act3 fc2


def ask(document, want, weights=None, epoch=1, program=PROGRAM, line=None, **environment):
    """The answer to one question."""
    question = {"protocol": PROTOCOL, "epoch": epoch, "weights": weights and str(weights), "spec": document, "want": want}
    done = subprocess.run([program, "--inspect"], input=(json.dumps(question) if line is None else line) + "\n", capture_output=True,
                          text=True, timeout=LIMIT, check=False, env={**os.environ, **environment})
    assert done.returncode == DONE, done.stderr
    assert done.stdout.endswith("\n") and done.stdout.count("\n") == 1 and len(done.stdout) <= 2 << 20
    return json.loads(done.stdout)


class Job:
    """A finished job of one epoch."""

    def __init__(self, directory, **changes):
        self.spec = spec(epochs=1, **{"model": MODEL, **changes})
        worker, status = run(directory, self.spec)
        assert status == DONE, worker.text()
        self.test = worker.of("epoch")[0]["test"]
        self.weights = directory / "weights" / "epoch-1.safetensors"
        self.metadata, self.tensors = read_safetensors(self.weights)

    def ask(self, want, **options):
        return ask(self.spec, want, self.weights, **options)

    def maps(self, *layers, image=0, channels=None, **options):
        return self.ask({"maps": {"layers": layers, "image": image, "channels": channels}}, **options)

    def tensor(self, name):
        _, shape, data = self.tensors[name]
        return numpy.frombuffer(data, numpy.float32).reshape(shape)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return Job(tmp_path_factory.mktemp("job") / "job")


def values(answer, name):
    (layer,) = [layer for layer in answer["layers"] if layer["name"] == name]
    return numpy.array(layer["values"], numpy.float64)


def failure(answer, code, pointer, *words):
    assert set(answer) == {"error"} and answer["error"]["code"] == code and answer["error"]["pointer"] == pointer, answer
    for word in words:
        assert word in answer["error"]["text"], answer


# --- maps ---


def normalized(job, pixels):
    mean, deviation = (numpy.array(job.metadata[key].split(), float)[:, None, None] for key in ("mean", "deviation"))
    return (numpy.array(pixels) / 255 - mean) / deviation


def convolve(image, weight, bias):
    """Stride 1, zero padding that keeps the size."""
    pad = weight.shape[2] // 2
    padded = numpy.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    windows = numpy.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (1, 2))
    return numpy.einsum("cyxij,ocij->oyx", windows, weight) + bias[:, None, None]


def pooled(image):
    c, h, w = image.shape
    return image.reshape(c, h // 2, 2, w // 2, 2).max((2, 4))


def test_maps_are_what_the_layers_compute(job):
    answer = job.maps("input", "conv1", "act1", "pool1", image=3)
    assert answer["epoch"] == 1 and [layer["op"] for layer in answer["layers"]] == ["input", "conv", "activation", "max_pool"]
    image = normalized(job, answer["image"]["pixels"])
    assert numpy.allclose(values(answer, "input"), image, rtol=1e-4, atol=1e-5)
    conv = convolve(image, job.tensor("conv1.weight"), job.tensor("conv1.bias"))
    assert numpy.allclose(values(answer, "conv1"), conv, rtol=1e-4, atol=1e-4)
    # Before and after activation and pooling: rounding keeps the order, so these are exact.
    assert (values(answer, "act1") == numpy.maximum(values(answer, "conv1"), 0)).all()
    assert (values(answer, "pool1") == pooled(values(answer, "act1"))).all()


def test_shapes_and_ranges(job):
    answer = job.maps("conv2", "fc1", channels="1-3")
    for layer, shape in zip(answer["layers"], ([16, 16, 16], [16, 1, 1])):
        assert layer["shape"] == shape and layer["channels"] == [1, 2, 3]
        assert numpy.array(layer["values"]).shape == (3, *shape[1:])
    whole = job.maps("conv2", "fc1")
    for part, layer in zip(answer["layers"], whole["layers"]):
        assert part["values"] == layer["values"][1:4]
        assert [part["min"], part["max"]] == [layer["min"], layer["max"]] == [numpy.min(layer["values"]), numpy.max(layer["values"])]


def test_predictions_are_those_of_the_job(job):
    for index in (0, 7, 24):
        image = job.maps("loss", image=index)["image"]
        assert image["index"] == index and image["label"] == job.test["labels"][index]
        assert numpy.allclose(image["softmax"], job.test["softmax"][index], rtol=1e-4, atol=1e-6)
        assert image["predicted"] == numpy.argmax(job.test["softmax"][index])


def test_softmax_is_the_last_layer(job):
    answer = job.maps("loss")
    assert values(answer, "loss").ravel().tolist() == answer["image"]["softmax"]


def test_a_sent_image_is_treated_as_one_of_the_set(job):
    known = job.maps("conv1", "fc1", image=5)
    sent = job.ask({"maps": {"layers": ["conv1", "fc1"], "channels": None, "pixels": known["image"]["pixels"]}})
    assert sent["layers"] == known["layers"]
    assert sent["image"] == {**known["image"], "index": None, "label": None}


def test_every_layer_of_a_residual_network(tmp_path):
    job = Job(tmp_path / "job", model={"preset": "resnet8", "width": 0.25})
    names = ["act1", "layer1.0.bn2", "layer1.0.add", "layer1.0.act2", "layer2.0.shortcut", "avgpool", "fc"]
    answer = job.maps(*names)
    add = values(answer, "layer1.0.bn2") + values(answer, "act1")
    assert numpy.allclose(values(answer, "layer1.0.add"), add, rtol=1e-4, atol=1e-4)
    assert (values(answer, "layer1.0.act2") == numpy.maximum(values(answer, "layer1.0.add"), 0)).all()


@pytest.mark.parametrize("precision, tolerance", [("f32", 1e-4), ("bf16", 0.03)])
def test_on_the_backend_of_the_job(tmp_path, precision, tolerance):
    needs("onednn")
    job = Job(tmp_path / "job", backend="onednn", precision=precision)
    answer = job.maps("conv1", "act1", "pool1", image=2)
    assert numpy.allclose(answer["image"]["softmax"], job.test["softmax"][2], atol=tolerance)
    conv = convolve(normalized(job, answer["image"]["pixels"]), job.tensor("conv1.weight"), job.tensor("conv1.bias"))
    assert numpy.allclose(values(answer, "conv1"), conv, atol=10 * tolerance)
    assert (values(answer, "act1") == numpy.maximum(values(answer, "conv1"), 0)).all()
    assert (values(answer, "pool1") == pooled(values(answer, "act1"))).all()


def test_without_the_backend_of_the_job(job, tmp_path):
    program = installed(tmp_path / "only", "ref")
    answer = ask({**job.spec, "backend": "onednn", "precision": "bf16"},
                 {"maps": {"layers": ["conv1"], "image": 0, "channels": None}}, job.weights, program=program)
    assert answer == job.maps("conv1")


# --- filters and images ---


def test_filters_are_the_weights(job):
    weight = job.tensor("conv1.weight")
    answer = job.ask({"filters": {"layer": None, "channels": None}})
    assert answer["layer"] == "conv1" and answer["shape"] == list(weight.shape) and answer["epoch"] == 1
    assert numpy.allclose(answer["values"], weight, rtol=1e-4, atol=0)
    assert numpy.allclose([answer["min"], answer["max"]], [weight.min(), weight.max()], rtol=1e-4)
    some = job.ask({"filters": {"layer": "conv2", "channels": "4-5"}})
    assert some["channels"] == [4, 5]
    assert numpy.allclose(some["values"], job.tensor("conv2.weight")[4:6], rtol=1e-4, atol=0)


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_images_are_those_of_the_data_set(tmp_path):
    """Only the test files are there: nothing else may be read."""
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    rng = numpy.random.default_rng(1)
    images, labels = rng.integers(0, 256, (40, 28, 28), dtype=numpy.uint8), rng.integers(0, 10, 40, dtype=numpy.uint8)
    for name, array in (("t10k-images-idx3", images), ("t10k-labels-idx1", labels)):
        (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    for name in ("train-images-idx3", "train-labels-idx1"):
        (folder / f"{name}-ubyte.gz").write_bytes(b"damaged")
    document = spec(dataset="fashion-mnist", model=MODEL, pad=2, test_limit=0)
    answer = ask(document, {"images": {"first": 30, "n": 25}}, RESIDUUM_DATASETS=str(tmp_path))
    assert answer["n"] == 40 and [item["index"] for item in answer["items"]] == list(range(30, 40))
    assert [item["label"] for item in answer["items"]] == labels[30:].tolist()
    assert (numpy.array([item["pixels"][0] for item in answer["items"]]) == images[30:]).all()
    assert ask(document, {"images": {"first": 40, "n": 1}}, RESIDUUM_DATASETS=str(tmp_path))["items"] == []


def test_first_images_in_the_order_of_the_predictions(job):
    answer = job.ask({"images": {"first": 0, "n": 25}})
    assert [item["label"] for item in answer["items"]] == job.test["labels"]
    assert answer["items"][4]["pixels"] == job.maps("fc1", image=4)["image"]["pixels"]


# --- refusals ---


def test_wrong_layers_channels_and_images(job):
    failure(job.maps("conv1", "konv2"), "not-found", "/layers/1", "konv2", "the nearest are 'conv2'")
    failure(job.maps("stem.convolution"), "not-found", "/layers/0", "the nearest are '")
    failure(job.maps("x" * 300), "not-found", "/layers/0", "the nearest are '")
    failure(job.maps("conv1", image=70), "not-found", "/image", "0 to 69")
    failure(job.maps("conv1", image=-1), "not-found", "/image")
    failure(job.maps(*["conv1"] * 17), "invalid-field", "/layers", "16")
    failure(job.maps(), "invalid-field", "/layers")
    failure(job.maps("conv1", channels="8"), "invalid-field", "/channels", "0 to 7")
    for wrong in ("x", "1-", "-1", "3-2", "1-2-3", "", "1,2", "1 - 2", 5):
        failure(job.maps("conv1", channels=wrong), "invalid-field", "/channels")
    failure(job.ask({"filters": {"layer": "fc1"}}), "invalid-field", "/layer", "linear")
    failure(job.ask({"filters": {"layer": "fc9"}}), "not-found", "/layer", "fc1")


def test_wrong_pixels(job):
    good = job.maps("conv1")["image"]["pixels"]
    for wrong in ([], good[:2], good[0], [[row[:31] for row in channel] for channel in good], [channel[1:] for channel in good],
                  [[[256] * 32] * 32] * 3, [[[-1] * 32] * 32] * 3, [[[0.5] * 32] * 32] * 3, [[["1"] * 32] * 32] * 3, "x"):
        failure(job.ask({"maps": {"layers": ["conv1"], "pixels": wrong}}), "invalid-field", "/pixels", "[3][32][32]")


def test_a_limit_that_says_what_may_be_asked(tmp_path):
    job = Job(tmp_path / "job", model={"preset": "simplecnn", "width": 2.5}, train_limit=32, test_limit=25)
    answer = job.maps("conv1", "act1")  # twice 80 maps of 32 x 32
    failure(answer, "invalid-field", "/channels", "65536", "channels 0-31")
    full = job.maps("conv1", "act1", channels="0-31")
    assert sum(numpy.size(layer["values"]) for layer in full["layers"]) == 65536


def test_weights_that_cannot_be_used(job, tmp_path):
    want = {"maps": {"layers": ["conv1"], "image": 0}}
    failure(ask(job.spec, want, tmp_path / "none"), "not-found", "", str(tmp_path))
    failure(ask(job.spec, want), "invalid-request", "", "weights")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(job.weights.read_bytes()[:-4])
    failure(ask(job.spec, want, damaged), "damaged-data", "")
    damaged.write_bytes(flipped(job.weights.read_bytes(), -1))
    failure(ask(job.spec, want, damaged), "damaged-data", "", "SHA-256")
    failure(ask({**job.spec, "model": "resnet8"}, want, job.weights), "damaged-data", "")


def with_metadata(path, **changes):
    """The weights file again, with other texts in its metadata; None: left out."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header["__metadata__"] = {k: v for k, v in {**header["__metadata__"], **changes}.items() if v is not None}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + size:]


@pytest.mark.parametrize("change", [{"mean": None}, {"mean": "x"}, {"mean": "0.5 0.5"}, {"mean": "0.5 0.5 0.5 0.5"}, {"mean": "0.5 nan 0.5"},
                                    {"deviation": "1 0 1"}, {"deviation": ""}])
def test_weights_that_do_not_say_what_normalizes(job, tmp_path, change):
    file = tmp_path / "weights"
    file.write_bytes(with_metadata(job.weights, **change))
    failure(ask(job.spec, {"maps": {"layers": ["conv1"], "image": 0}}, file), "damaged-data", "", *change)


def test_questions_that_are_none(job):
    for line in ("", "{}", "[]", '{"protocol": 99}', "x", json.dumps({"protocol": PROTOCOL, "epoch": 1, "weights": None, "want": {}})):
        answer = ask(None, None, line=line)
        assert answer["error"]["code"] in ("invalid-json", "invalid-request"), answer
    failure(job.ask({"moods": {}}), "invalid-request", "", "maps")



def test_a_question_may_not_take_all(tmp_path):
    """The limits stand before the question is read."""
    with open(tmp_path / "log", "wb") as log, subprocess.Popen([PROGRAM, "--inspect"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                               stderr=log) as process:
        limits = Path(f"/proc/{process.pid}/limits")
        wait_for(lambda: "unlimited" not in re.search(r"Max cpu time(.*)", limits.read_text()).group(1), "the limits")
        assert "unlimited" not in re.search(r"Max data size(.*)", limits.read_text()).group(1)
        process.stdin.close()
        assert json.loads(process.stdout.read())["error"]["code"] == "invalid-request"
