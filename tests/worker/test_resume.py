"""Interrupted jobs end with the same bits; a checkpoint that cannot be used is never used silently."""
import json
import shutil
import struct

import pytest
from harness import DONE, Worker, digest, flipped, needs, results, run, spec

SMALL = spec(batch_size=20, train_limit=90, test_limit=30)  # five steps an epoch, the last one of ten images
BACKENDS = {"ref": SMALL, "onednn": {**SMALL, "backend": "onednn", "threads": 2}}


@pytest.fixture(scope="module", params=BACKENDS)
def whole(request, tmp_path_factory):
    """(spec, directory, worker) of an uninterrupted job."""
    needs(request.param)
    document = BACKENDS[request.param]
    directory = tmp_path_factory.mktemp("whole") / "job"
    worker, status = run(directory, document)
    assert status == DONE, worker.text()
    return document, directory, worker


def killed_after(directory, document, checkpoints):
    worker = Worker(directory, document, RESIDUUM_CHECKPOINT_MS="1")
    worker.until("checkpoint", checkpoints)
    worker.kill()


# Each of the five steps makes a checkpoint; the sixth of an epoch counts the epoch.
POINTS = [("ref", n) for n in (1, 3, 5, 6, 9, 12, 17)] + [("onednn", n) for n in (3, 11)]


@pytest.mark.parametrize("whole, checkpoints", POINTS, indirect=["whole"])
def test_killed_at_a_step(whole, tmp_path, checkpoints):
    document, reference, _ = whole
    directory = tmp_path / "job"
    killed_after(directory, document, checkpoints)
    worker, status = run(directory, document)
    assert status == DONE and worker.events[0]["resumed"] is not None, worker.text()
    assert digest(directory) == digest(reference)
    assert results(worker) == results(reference) == results(directory)


@pytest.mark.parametrize("whole", ["ref"], indirect=True)
def test_killed_again_and_again(whole, tmp_path):
    document, reference, _ = whole
    directory = tmp_path / "job"
    for _ in range(8):
        killed_after(directory, document, 2)
    worker, status = run(directory, document)
    assert status == DONE and worker.events[0]["resumed"]["epoch"] >= 2
    assert digest(directory) == digest(reference)
    assert results(worker) == results(reference)


def test_killed_between_checkpoints_of_epochs(whole, tmp_path):
    document, reference, _ = whole
    directory = tmp_path / "job"
    worker = Worker(directory, document)
    worker.until("epoch")
    worker.kill()
    again, status = run(directory, document, known=1)
    assert status == DONE and digest(directory) == digest(reference)
    assert results(again) == results(reference)[1:]


@pytest.mark.parametrize("whole", ["ref"], indirect=True)
def test_a_cut_line_behind_the_checkpoint_is_dropped(whole, tmp_path):
    """What a crash between the two writes leaves: an epoch, or a part of one, that the checkpoint does not count."""
    document, reference, _ = whole
    directory = tmp_path / "job"
    killed_after(directory, document, 6)
    history = directory / "epochs.ndjson"
    lines = history.read_text().splitlines()
    history.write_text(lines[0] + "\n" + '{"epoch": 2, "train": ')
    _, status = run(directory, document)
    assert status == DONE and results(directory) == results(reference) and digest(directory) == digest(reference)


def rewrite_spec(path, change):
    """Changes the canonical spec in a checkpoint's metadata."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    document = json.loads(header["__metadata__"]["spec"])
    change(document)
    header["__metadata__"]["spec"] = json.dumps(document, separators=(",", ":"))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])


@pytest.mark.parametrize("whole", ["ref"], indirect=True)
def test_a_checkpoint_from_before_a_field_was_known(whole, tmp_path):
    """It has that field's default."""
    document, reference, _ = whole
    directory = tmp_path / "job"
    killed_after(directory, document, 6)

    def older(known):
        del known["deterministic"], known["device"]

    rewrite_spec(directory / "checkpoint.safetensors", older)
    worker, status = run(directory, document)
    assert status == DONE and worker.events[0]["resumed"] is not None, worker.text()
    assert results(directory) == results(reference) and digest(directory) == digest(reference)


def starts_afresh(directory, document, reason, reference):
    worker, status = run(directory, document)
    assert status == DONE and worker.events[0]["resumed"] is None
    assert "WARNING: the checkpoint cannot be used" in worker.text() and reason in worker.text()
    assert (directory / "checkpoint.unusable").exists()
    assert len(worker.of("epoch")) == document["epochs"]
    if reference:
        assert digest(directory) == digest(reference)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The directory of a finished plain C job."""
    directory = tmp_path_factory.mktemp("first") / "job"
    _, status = run(directory, SMALL)
    assert status == DONE
    return directory


@pytest.fixture
def copy(first, tmp_path):
    """A copy of it that a test may damage."""
    shutil.copytree(first, tmp_path / "job")
    return tmp_path / "job"


@pytest.mark.parametrize("damage, reason", [
    (lambda data: data[:1000], "the file"),
    (lambda data: data[:-4], "bytes of data"),
    (lambda data: data + b"\0\0\0\0", "bytes of data"),
    (lambda data: b"\xff" * 8 + data[8:], "header has"),
    (lambda data: b"", "at least 8"),
    (lambda data: data.replace(b'"epoch":"3"', b'"epoch":"4"'), '"epoch" is "4"'),
    (lambda data: data.replace(b'"seen":"0"', b'"seen":"7"'), "7 images in 0 steps"),
    (lambda data: data.replace(b'"loss_sum":"0"', b'"loss_sum":"x"'), '"loss_sum"'),
    (lambda data: data.replace(b'"updates":"15"', b'"updates":"xx"'), '"updates"'),
    (lambda data: data.replace(b'"best_epoch":"0"', b'"best_epoch":"4"'), '"best_epoch" is "4"'),
    (lambda data: data.replace(b'"waited":"0"', b'"waited":"9"'), '"waited" is "9"'),
    (lambda data: data.replace(b'"best":"0"', b'"best":"n"'), '"best"'),
    (lambda data: data.replace(b'"F64"', b'"I64"'), "dtype I64; F64 is read"),
    (lambda data: data.replace(b"training.layers", b"training.lawyer"), "no tensor"),
    (lambda data: data.replace(b"residuum-checkpoint-3", b"residuum-checkpoint-9"), "format"),
    (lambda data: data.replace(b"conv1.weight", b"conv9.weight"), "no tensor"),
    (lambda data: flipped(data, -1), "the SHA-256 of its data"),
    (lambda data: flipped(data, 8 + int.from_bytes(data[:8], "little")), "the SHA-256 of its data"),
    (lambda data: data.replace(b'"sha256"', b'"sha255"'), 'no "sha256"'),
])
def test_a_damaged_checkpoint_is_put_aside(first, copy, damage, reason):
    file = copy / "checkpoint.safetensors"
    before = file.read_bytes()
    after = damage(before)
    assert after != before
    file.write_bytes(after)
    starts_afresh(copy, SMALL, reason, first)
    assert (copy / "checkpoint.unusable").read_bytes() == after


def test_a_checkpoint_of_another_spec_is_put_aside(copy):
    starts_afresh(copy, {**SMALL, "seed": 12, "epochs": 1}, "another spec", None)


@pytest.mark.parametrize("text", [None, "", "not JSON\n", '{"epoch": 2}\n'])
def test_a_checkpoint_without_its_results_is_put_aside(first, copy, text):
    if text is None:
        (copy / "epochs.ndjson").unlink()
    else:
        (copy / "epochs.ndjson").write_text(text)
    starts_afresh(copy, SMALL, "epochs.ndjson", first)
    assert [json.loads(line)["epoch"] for line in (copy / "epochs.ndjson").read_text().splitlines()] == [1, 2, 3]
