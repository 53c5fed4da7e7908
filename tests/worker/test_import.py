"""Importing data sets: every format and container, what pixels become, the card, splitting, stopping, training on the result."""
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
from pathlib import Path

import numpy
import pytest
from harness import DONE, FAILED, PROTOCOL, RETRY, STOPPED, USAGE, Worker, spec
from import_rig import Import, flowers, folder, jpeg, noise, png, tar, zipped
from PIL import Image

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


def zstd(path, files):
    subprocess.run(["zstd", "-q", "-f", tar(path.with_suffix(""), files), "-o", path], check=True)
    return path


CONTAINERS = {
    "zip": lambda path, files: zipped(path / "a.zip", files),
    "tar": lambda path, files: tar(path / "a.tar", files),
    "gz": lambda path, files: tar(path / "a.tar.gz", files, "w:gz"),
    "xz": lambda path, files: tar(path / "a.tar.xz", files, "w:xz"),
    "zst": lambda path, files: zstd(path / "a.tar.zst", files),
    "folder": lambda path, files: folder(path / "files", files),
}


# --- folders ---


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_container_changes_nothing(tmp_path, container):
    """Nor do the order of entries, a common folder, "./" and what systems leave beside files."""
    files = flowers()
    plain = Import(tar(tmp_path / "plain.tar", files), tmp_path / "out")
    others = {f"top/{name}": data for name, data in reversed(files.items())}
    others |= {"top/README": b"pictures", "top/train/rose/.DS_Store": b"x", "__MACOSX/top/train/rose/._0.png": b"y"}
    source = CONTAINERS[container](tmp_path, others)
    other = Import(source, tmp_path / "other")
    assert other.card["sha256"] == plain.card["sha256"]
    assert other.card["source"]["archive_sha256"] == (
        None if container == "folder" else hashlib.sha256(source.read_bytes()).hexdigest())
    assert other.left == ["card.json", "data.bin", "sheet.png"]


def test_the_card(tmp_path):
    files = flowers()
    done = Import(tar(tmp_path / "a.tar", files), tmp_path / "out")
    card, data = done.card, (tmp_path / "out" / "data.bin").read_bytes()
    assert card["format"] == "residuum-dataset-1" and card["name"] == "flowers" and card["shape"] == [3, 8, 8]
    assert card["classes"] == ["daisy", "rose", "tulip"]
    assert card["train"]["per_class"] == [4, 4, 4] and card["test"]["per_class"] == [2, 2, 2]
    assert all(card[part][at] % 4096 == 0 for part in ("train", "test") for at in ("pixels_at", "labels_at"))
    assert card["sha256"] == hashlib.sha256(data).hexdigest() and card["bytes"] == len(data)
    assert card["source"]["format"] == "folders" and card["source"]["entries"] == len(files)
    assert card["skipped"] == [] and card["skipped_total"] == 0
    pixels, labels = done.images("train")
    assert labels.tolist() == [0, 1, 2] * 4  # classes take turns, within a class by name
    for i, (c, k) in enumerate((c, k) for k in range(4) for c in ("daisy", "rose", "tulip")):
        want = numpy.asarray(Image.open(io.BytesIO(files[f"train/{c}/{k}.png"])))
        assert (pixels[i] == want.transpose(2, 0, 1)).all()
    assert numpy.allclose(card["mean"], pixels.mean((0, 2, 3)) / 255, rtol=1e-12)
    assert numpy.allclose(card["deviation"], pixels.std((0, 2, 3)) / 255, rtol=1e-12)


def test_the_sheet(tmp_path):
    done = Import(tar(tmp_path / "a.tar", flowers(n=30)), tmp_path / "out")
    pixels, labels = done.images("train")
    sheet = numpy.asarray(Image.open(tmp_path / "out" / "sheet.png"))
    assert sheet.shape == (3 * 9 - 1, 25 * 9 - 1, 3)
    for c in range(3):
        for k, image in enumerate(pixels[labels == c][:25]):
            assert (sheet[9 * c:9 * c + 8, 9 * k:9 * k + 8] == image.transpose(1, 2, 0)).all()


def test_large_images_are_small_on_the_sheet(tmp_path):
    """By a whole factor: 130 x 100 to 44 x 34, the last row and column of what is left."""
    done = Import(tar(tmp_path / "a.tar", flowers(n=2)), tmp_path / "out", {"size": [130, 100]})
    pixels, _ = done.images("train")
    sheet = numpy.asarray(Image.open(tmp_path / "out" / "sheet.png"))
    assert sheet.shape == (3 * 45 - 1, 25 * 35 - 1, 3)
    first = pixels[0].transpose(1, 2, 0).astype(int)
    assert (numpy.abs(sheet[:43, :33] - first[:129, :99].reshape(43, 3, 33, 3, 3).mean((1, 3))) <= 0.5).all()
    assert (sheet[43, 33] == first[129, 99]).all()


def test_progress(tmp_path):
    source = tar(tmp_path / "a.tar", flowers())
    events = Import(source, tmp_path / "out").events
    assert [e["type"] for e in events[:-1]] == ["import"] * (len(events) - 1)
    assert events[-2] == {"type": "import", "seq": len(events) - 1, "phase": "writing", "entries": 18, "images": 18,
                          "bytes": source.stat().st_size, "total_bytes": source.stat().st_size}


def test_numbers_as_class_names_are_sorted_by_value(tmp_path):
    files = {f"{c}/{k}.png": png(noise(k, 8, 8)) for c in (10, 9, 100, 1) for k in range(4)}
    done = Import(tar(tmp_path / "a.tar", files), tmp_path / "out")
    assert done.card["classes"] == ["1", "9", "10", "100"]


def test_validation_folders(tmp_path):
    files = flowers()
    val = {name.replace("test/", "val/"): data for name, data in files.items()}
    as_test = Import(tar(tmp_path / "a.tar", val), tmp_path / "a")
    assert as_test.card["test"]["per_class"] == [2, 2, 2] and as_test.card["train"]["per_class"] == [4, 4, 4]
    both = Import(tar(tmp_path / "b.tar", files | {n: d for n, d in val.items() if n.startswith("val/")}), tmp_path / "b")
    assert both.card["test"]["per_class"] == [2, 2, 2] and both.card["train"]["per_class"] == [6, 6, 6]


def test_a_split_is_stratified_and_seeded(tmp_path):
    files = {f"{c}/{k}.png": png(noise(1000 * ord(c) + k, 8, 8)) for c, n in (("a", 40), ("b", 20)) for k in range(n)}
    source = tar(tmp_path / "a.tar", files)
    first, again, other = (Import(source, tmp_path / f"out{i}", {"seed": seed}) for i, seed in enumerate((1, 1, 2)))
    assert first.card["test"]["per_class"] == [10, 5] and first.card["train"]["per_class"] == [30, 15]
    assert first.card["sha256"] == again.card["sha256"] != other.card["sha256"]
    everything = sorted(p.tobytes() for part in ("train", "test") for p in first.images(part)[0])
    assert everything == sorted(p.tobytes() for part in ("train", "test") for p in other.images(part)[0])


# --- pixels ---


def one_image(tmp_path, data, **options):
    """What becomes of one image; another class keeps it company with the same one."""
    files = {f"{part}/{c}/x": data for part in ("train", "test") for c in "ab"}
    done = Import(tar(tmp_path / "a.tar", files), tmp_path / "out", options)
    return done.images("train")[0][0]


def on_white(rgba):
    alpha = rgba[..., 3:].astype(float) / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def test_png_kinds(tmp_path):
    grey, colour, rgba = noise(1, 9, 11), noise(2, 9, 11, 3), noise(3, 9, 11, 4)
    assert (one_image(tmp_path, png(grey)) == grey).all()
    assert (one_image(tmp_path, png(colour)) == colour.transpose(2, 0, 1)).all()
    assert numpy.abs(one_image(tmp_path, png(rgba)) - on_white(rgba).transpose(2, 0, 1)).max() <= 1
    palette = Image.fromarray(colour).convert("P")
    assert (one_image(tmp_path, png(palette)) == numpy.asarray(palette.convert("RGB")).transpose(2, 0, 1)).all()
    deep = noise(4, 9, 11).astype(numpy.uint16) * 257
    assert (one_image(tmp_path, png(Image.fromarray(deep))) == deep // 257).all()
    bits = Image.fromarray(noise(5, 9, 11) > 127)
    assert (one_image(tmp_path, png(bits)) == numpy.asarray(bits) * 255).all()


def test_jpeg_kinds(tmp_path):
    for array, options in ((noise(1, 9, 11), {}), (noise(2, 9, 11, 3), {"subsampling": 0}), (noise(3, 9, 11, 3), {"progressive": True})):
        data = jpeg(array, **options)
        want = numpy.asarray(Image.open(io.BytesIO(data)))
        got = one_image(tmp_path, data)
        assert numpy.abs(got.astype(int) - (want if want.ndim == 2 else want.transpose(2, 0, 1))).max() <= 1


def test_channels(tmp_path):
    """Grey among colours gets three channels; all grey stays one; 1 and 3 may be asked for."""
    files = flowers() | {"train/rose/grey.png": png(noise(9, 8, 8))}
    mixed = Import(tar(tmp_path / "a.tar", files), tmp_path / "a")
    pixels, labels = mixed.images("train")
    assert mixed.card["shape"] == [3, 8, 8]
    assert (pixels[labels == 1][4] == noise(9, 8, 8)).all()  # broadcast over the channels; "grey.png" is the last of its class
    colour = noise(7, 8, 8, 3)
    grey = (colour.astype(int) @ (299, 587, 114) + 500) // 1000
    assert (one_image(tmp_path, png(colour), channels=1)[0] == grey).all()
    assert one_image(tmp_path, png(noise(7, 8, 8)), channels=3).shape == (3, 8, 8)


@pytest.mark.parametrize("fit, box, inside", [
    ("stretch", (0, 0, 40, 24), (0, 0, 16, 16)), ("crop", (8, 0, 32, 24), (0, 0, 16, 16)), ("pad", (0, 0, 40, 24), (0, 3, 16, 13)),
])
def test_resizing(tmp_path, fit, box, inside):
    smooth = numpy.asarray(Image.fromarray(noise(1, 4, 6, 3)).resize((40, 24), Image.BICUBIC))
    got = one_image(tmp_path, png(smooth), size=16, fit=fit).transpose(1, 2, 0)
    left, top, right, bottom = inside
    want = numpy.asarray(Image.fromarray(smooth).resize((right - left, bottom - top), Image.BILINEAR, box=box))
    assert numpy.abs(got[top:bottom, left:right].astype(int) - want).max() <= 1
    outside = got.copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any()


def test_sizes_asked_for(tmp_path):
    assert one_image(tmp_path, png(noise(1, 300, 20)), size=[24, 32]).shape == (1, 24, 32)
    assert one_image(tmp_path, png(noise(1, 3, 5)), size=8).shape == (1, 8, 8)


# --- arrays ---


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def labels_of(n, classes=3):
    return (numpy.arange(n) * 7 % classes).astype(numpy.uint8)


@pytest.mark.parametrize("pack, ending", [(bytes, ""), (gzip.compress, ".gz")])
def test_idx(tmp_path, pack, ending):
    x, y = noise(1, 20, 9, 10), labels_of(20)
    files = {f"{part}-{kind}-ubyte{ending}": pack(idx(array[cut])) for part, cut in (("train", slice(15)), ("t10k", slice(15, 20)))
             for kind, array in (("images-idx3", x), ("labels-idx1", y))}
    done = Import(zipped(tmp_path / "a.zip", files), tmp_path / "out")
    assert done.card["source"]["format"] == "idx" and done.card["classes"] == ["0", "1", "2"]
    assert (done.images("train")[0][:, 0] == x[:15]).all() and (done.images("test")[1] == y[15:]).all()


@pytest.mark.skipif(not DEBIAN_FASHION.exists(), reason="dataset-fashion-mnist is not installed")
def test_debian_s_fashion_mnist_is_the_built_in_one(tmp_path):
    """Trained on by the same spec, both tell the same digest of all pixels and labels."""
    done = Import(DEBIAN_FASHION, tmp_path / "out", limits={"images": 100000})
    assert done.card["train"]["images"] == 60000 and done.card["test"]["images"] == 10000
    document = spec(dataset="fashion-mnist", pad=2, augment={"crop": 4, "flip": True}, train_limit=0, test_limit=0, batch_size=4096,
                    model={"preset": "lenet5", "width": 0.125})
    digests = []
    for name, dataset in (("built-in", None), ("imported", {"dir": str(done.out)})):
        worker = start(tmp_path / name, document, dataset)
        digests.append(worker.until("hello")["data_sha256"])
        worker.stop()
    assert digests[0] == digests[1]


def npz(tmp_path, **arrays):
    path = tmp_path / "a.npz"
    numpy.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize("shape", [(9, 10), (9, 10, 1), (9, 10, 3), (3, 9, 10), (1, 9, 10)])
@pytest.mark.parametrize("kind", [numpy.uint8, numpy.int64])
def test_npz(tmp_path, shape, kind):
    x, y = noise(1, 20, *shape), labels_of(20).astype(kind)
    done = Import(npz(tmp_path, x_train=x[:15], y_train=y[:15], x_test=x[15:], y_test=y[15:, None]), tmp_path / "out")
    want = x.reshape(20, -1, 9, 10) if shape[-1] == 10 else x.transpose(0, 3, 1, 2)
    assert done.card["source"]["format"] == "npz" and (done.images("train")[0] == want[:15]).all()
    assert (done.images("test")[0] == want[15:]).all() and (done.images("test")[1] == y[15:]).all()


def cifar(records, lead):
    return b"".join(bytes(lead - 1) + bytes([label]) + pixels.tobytes() for pixels, label in records)


def test_cifar_10(tmp_path):
    x, y = noise(1, 30, 3, 32, 32), labels_of(30, 10)
    batch = lambda begin, end: cifar(zip(x[begin:end], y[begin:end]), 1)  # noqa: E731
    files = {"c/data_batch_2.bin": batch(10, 20), "c/test_batch.bin": batch(20, 30), "c/data_batch_1.bin": batch(0, 10),
             "c/batches.meta.txt": "\n".join(f"class {i}" for i in range(10)).encode() + b"\n\n", "c/readme.html": b"<html>"}
    done = Import(tar(tmp_path / "a.tar.gz", files, "w:gz"), tmp_path / "out")
    assert done.card["classes"] == [f"class {i}" for i in range(10)] and done.card["source"]["format"] == "cifar-10"
    assert (done.images("train")[0] == x[:20]).all() and (done.images("train")[1] == y[:20]).all()
    assert (done.images("test")[0] == x[20:]).all()


def test_cifar_100(tmp_path):
    x, y = noise(1, 30, 3, 32, 32), labels_of(30, 10)
    files = {"train.bin": cifar(zip(x[:20], y[:20]), 2), "test.bin": cifar(zip(x[20:], y[20:]), 2),
             "fine_label_names.txt": "\n".join(f"c{i}" for i in range(10)).encode()}
    done = Import(zipped(tmp_path / "a.zip", files), tmp_path / "out", {"size": 16})
    assert done.card["source"]["format"] == "cifar-100" and (done.images("train")[1] == y[:20]).all()
    want = numpy.asarray(Image.fromarray(x[0].transpose(1, 2, 0)).resize((16, 16), Image.BILINEAR))
    assert numpy.abs(done.images("train")[0][0].transpose(1, 2, 0).astype(int) - want).max() <= 1


# --- damaged images ---


def test_damaged_images_are_skipped_only_on_request(tmp_path):
    files = flowers() | {"train/rose/bad1.png": flowers()["train/rose/0.png"][:-20], "train/rose/bad0.txt": b"no image"}
    source = tar(tmp_path / "a.tar", files)
    refused = Import(source, tmp_path / "a")
    assert refused.status == FAILED and refused.last["entry"] == "train/rose/bad1.png" and refused.left == []
    done = Import(source, tmp_path / "b", {"skip_damaged": True})
    assert done.card["skipped_total"] == 2 and [s["entry"] for s in done.card["skipped"]] == ["train/rose/bad1.png", "train/rose/bad0.txt"]
    assert "PNG" in done.card["skipped"][0]["reason"] and "neither" in done.card["skipped"][1]["reason"]
    assert done.card["sha256"] == Import(tar(tmp_path / "c.tar", flowers()), tmp_path / "c").card["sha256"]


def test_the_first_1000_skipped_are_listed(tmp_path):
    files = flowers() | {f"train/rose/bad{i:04}.jpg": b"\xff\xd8\xff" for i in range(1100)}
    done = Import(tar(tmp_path / "a.tar", files), tmp_path / "out", {"skip_damaged": True})
    assert done.card["skipped_total"] == 1100 and len(done.card["skipped"]) == 1000
    assert done.card["skipped"][999]["entry"] == "train/rose/bad0999.jpg"


def test_skipped_entries_with_long_names_fit_into_a_line(tmp_path):
    deep = "/".join(['"' * 250] * 3)
    files = {f"{deep}/{name}": data for name, data in flowers().items()}
    files |= {f"{deep}/train/rose/{'x' * 240}{i:04}": b"\xff\xd8\xff" for i in range(900)}
    done = Import(tar(tmp_path / "a.tar", files), tmp_path / "out", {"skip_damaged": True})
    assert done.card["skipped_total"] == 900 and 300 < len(done.card["skipped"]) < 400


def test_one_processor_gives_the_same(tmp_path):
    source = tar(tmp_path / "a.tar", {f"{c}/{k}.png": png(noise(k, 9, 8, 3)) for c in "ab" for k in range(300)})
    many = Import(source, tmp_path / "many")
    assert Import(source, tmp_path / "one", processors={min(os.sched_getaffinity(0))}).card == many.card


# --- stopping, requests, training ---


def test_end_of_file_stops_and_leaves_nothing(tmp_path):
    done = Import(tar(tmp_path / "a.tar", flowers(n=50)), tmp_path / "out", close=True)
    assert done.status == STOPPED and done.left == [] and "imported" not in [e["type"] for e in done.events]


def test_a_card_that_cannot_be_written_takes_the_rest_with_it(tmp_path):
    (tmp_path / "out" / "card.json.part").mkdir(parents=True)
    done = Import(tar(tmp_path / "a.tar", flowers()), tmp_path / "out")
    assert done.status == RETRY and done.last["code"] == "input-output" and done.left == ["card.json.part"]


@pytest.mark.parametrize("change, pointer", [
    ({"size": 7}, "/options/size"), ({"size": 225}, "/options/size"), ({"size": [8]}, "/options/size"), ({"fit": "cover"}, "/options/fit"),
    ({"channels": 2}, "/options/channels"), ({"test_fraction": 0}, "/options/test_fraction"), ({"test_fraction": 1}, "/options/test_fraction"),
])
def test_wrong_options(tmp_path, change, pointer):
    done = Import(tmp_path, tmp_path / "out", change)
    assert done.status == USAGE and done.last["pointer"] == pointer and done.left == []


def test_a_fraction_that_leaves_nothing(tmp_path):
    source = tar(tmp_path / "a.tar", {f"{c}/0.png": png(noise(1, 8, 8)) for c in "ab"})
    for i, fraction in enumerate((0.01, 0.5)):
        done = Import(source, tmp_path / f"out{i}", {"test_fraction": fraction})
        assert done.status == FAILED and done.last["pointer"] == "/options/test_fraction" and done.left == []


def start(directory, document, dataset):
    line = {"job": "job_test", "attempt": 1, "device": "cpu", "dir": str(directory), "epochs_known": 0, "spec": document,
            "dataset": dataset}
    return Worker(directory, line=json.dumps({"protocol": PROTOCOL, **line}))


def test_training_on_an_imported_set(tmp_path):
    done = Import(tar(tmp_path / "a.tar", flowers(n=20)), tmp_path / "out")
    document = spec(dataset="blossoms", epochs=2, batch_size=16, train_limit=0, test_limit=0)
    worker = start(tmp_path / "job", document, {"dir": str(done.out)})
    assert worker.end() == DONE, worker.text()
    assert worker.of("hello")[0]["train_images"] == 60 and len(worker.of("epoch")[1]["test"]["confusion"]) == 3
    again = start(tmp_path / "job", document, {"dir": str(done.out)})
    assert again.end() == DONE and again.of("hello")[0]["resumed"] == {"epoch": 2, "step": 0}


@pytest.mark.parametrize("change, code", [
    (lambda out: (out / "card.json").unlink(), "not-found"),
    (lambda out: (out / "data.bin").write_bytes((out / "data.bin").read_bytes()[:-1]), "damaged-data"),
    (lambda out: edit(out, lambda card: card["train"].update(images=10**9)), "damaged-data"),
    (lambda out: edit(out, lambda card: card["test"].update(labels_at=10**9)), "damaged-data"),
    (lambda out: edit(out, lambda card: card.update(shape=[2, 8, 8])), "damaged-data"),
    (lambda out: edit(out, lambda card: card.update(classes=["a", "b"])), "damaged-data"),
    (lambda out: edit(out, lambda card: card.update(format="other")), "damaged-data"),
])
def test_a_damaged_set_is_not_trained_on(tmp_path, change, code):
    done = Import(tar(tmp_path / "a.tar", flowers()), tmp_path / "out")
    change(done.out)
    worker = start(tmp_path / "job", spec(dataset="blossoms", train_limit=0, test_limit=0, batch_size=4), {"dir": str(done.out)})
    assert worker.end() in (FAILED, USAGE) and worker.events[-1]["code"] == code, worker.text()


def edit(out, change):
    card = json.loads((out / "card.json").read_text())
    change(card)
    (out / "card.json").write_text(json.dumps(card))
