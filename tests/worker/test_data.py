"""Data sets as the worker meets them: good files, and files that lie."""
import gzip
import hashlib
import struct

import numpy
import pytest
from harness import DONE, FAILED, read_safetensors, run, spec

SHAPES_SHA256 = "374b82ccae0eb2dcdea29726902d20611a6a83096f3126b5bbf502ed7f9b5833"
FILES = {"train-images-idx3": "images", "train-labels-idx1": "labels", "t10k-images-idx3": "images", "t10k-labels-idx1": "labels"}


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def datasets(tmp_path):
    """A small Fashion-MNIST: 120 training and 40 test images."""
    directory = tmp_path / "sets" / "fashion-mnist"
    directory.mkdir(parents=True)
    rng = numpy.random.default_rng(1)
    for part, n in (("train", 120), ("t10k", 40)):
        labels = rng.integers(0, 10, n, dtype=numpy.uint8)
        images = rng.integers(0, 200, (n, 28, 28), dtype=numpy.uint8) + labels[:, None, None]
        (directory / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (directory / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return directory


def fashion(**changes):
    return spec(dataset="fashion-mnist", epochs=1, train_limit=0, test_limit=0, **changes)


def test_good_files(datasets, tmp_path):
    worker, status = run(tmp_path / "job", fashion(), RESIDUUM_DATASETS=str(datasets.parent))
    assert status == DONE, worker.text()
    test = worker.of("epoch")[0]["test"]
    assert sum(map(sum, test["confusion"])) == 40
    labels = numpy.frombuffer(gzip.decompress((datasets / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:], numpy.uint8)
    assert test["labels"] == labels[:25].tolist()  # a whole test set keeps its order
    assert "120 training, 0 validation and 40 test images of 1 x 32 x 32" in worker.text()


def lie(count):
    return lambda data: data[:4] + struct.pack(">I", count) + data[8:]


@pytest.mark.parametrize("file, change, numbers", [
    ("train-images-idx3", lambda d: d[:-1], ["94080", "94079"]),
    ("train-images-idx3", lambda d: d + b"\0", ["94080", "94081"]),
    ("train-images-idx3", lie(121), ["94864", "94080"]),
    ("train-images-idx3", lie(0), ["size 0"]),
    ("t10k-images-idx3", lie(4000000000), ["4000000000"]),
    ("t10k-images-idx3", lambda d: d[:9], ["9", "16"]),
    ("t10k-images-idx3", lambda d: b"\0\0\x0d\x03" + d[4:], ["00000d03", "00000803"]),
    ("train-images-idx3", lambda d: idx(numpy.zeros((120, 27, 28), numpy.uint8)), ["27 x 28", "28 x 28"]),
    ("train-labels-idx1", lambda d: d[:-3] + b"\x0a" + d[-2:], ["label 117 is 10", "0 to 9"]),
    ("train-labels-idx1", lambda d: idx(numpy.zeros(119, numpy.uint8)), ["119", "120"]),
    ("t10k-labels-idx1", lambda d: d[:-1], ["40", "39"]),
])
def test_lying_files(datasets, tmp_path, file, change, numbers):
    path = datasets / f"{file}-ubyte.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))
    worker, status = run(tmp_path / "job", fashion(), RESIDUUM_DATASETS=str(datasets.parent))
    assert status == FAILED and len(worker.events) == 1
    error = worker.events[0]
    assert error["code"] == "damaged-data" and path.name in error["text"]
    for number in numbers:
        assert number in error["text"]


def test_a_cut_download(datasets, tmp_path):
    path = datasets / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:5000])
    worker, status = run(tmp_path / "job", fashion(), RESIDUUM_DATASETS=str(datasets.parent))
    assert status == FAILED and worker.events[0]["code"] == "damaged-data"


def test_a_missing_file(datasets, tmp_path):
    (datasets / "t10k-labels-idx1-ubyte.gz").unlink()
    worker, status = run(tmp_path / "job", fashion(), RESIDUUM_DATASETS=str(datasets.parent))
    assert status == FAILED and worker.events[0]["code"] == "not-found"
    assert "dataset-fashion-mnist" in worker.events[0]["text"]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_the_data_s_hash(datasets, tmp_path):
    """Over the digests of pixels and labels of training, validation and test images."""
    worker, _ = run(tmp_path / "job", fashion(), RESIDUUM_DATASETS=str(datasets.parent))
    text = ""
    for part, n in (("train", 120), ("none", 0), ("t10k", 40)):
        images, labels = b"", b""
        if n:
            images = gzip.decompress((datasets / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
            images = numpy.pad(numpy.frombuffer(images, numpy.uint8).reshape(n, 28, 28), ((0, 0), (2, 2), (2, 2))).tobytes()
            labels = gzip.decompress((datasets / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
        text += sha256(images) + sha256(labels)
    metadata, _ = read_safetensors(tmp_path / "job" / "checkpoint.safetensors")
    assert worker.events[0]["data_sha256"] == metadata["data_sha256"] == sha256(text.encode())
    assert metadata["train_sha256"] == sha256(text[:128].encode())


@pytest.mark.parametrize("file", FILES)
def test_changed_data_void_the_checkpoint(datasets, tmp_path, file):
    run(tmp_path / "job", fashion(), RESIDUUM_DATASETS=str(datasets.parent))
    path = datasets / f"{file}-ubyte.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[30] ^= 1
    path.write_bytes(gzip.compress(bytes(data)))
    worker, status = run(tmp_path / "job", fashion(), RESIDUUM_DATASETS=str(datasets.parent))
    assert status == DONE and worker.events[0]["resumed"] is None and "images or their labels have changed" in worker.text()


def test_shapes_are_the_same_everywhere(tmp_path):
    """One step on all of "shapes"; the digest of its training images stands in the checkpoint."""
    document = spec(train_limit=0, epochs=1, batch_size=4096, model={"preset": "lenet5", "width": 0.125})
    worker, status = run(tmp_path / "job", document)
    assert status == DONE, worker.text()
    metadata, _ = read_safetensors(tmp_path / "job" / "checkpoint.safetensors")
    assert metadata["train_sha256"] == SHAPES_SHA256


def test_same_seed_same_result_other_seed_other_result(tmp_path):
    first, _ = run(tmp_path / "a", spec(epochs=1))
    second, _ = run(tmp_path / "b", spec(epochs=1))
    third, _ = run(tmp_path / "c", spec(epochs=1, seed=12))
    losses = [w.of("epoch")[0]["train"]["loss"] for w in (first, second, third)]
    assert losses[0] == losses[1] != losses[2]
