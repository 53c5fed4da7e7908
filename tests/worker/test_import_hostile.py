"""What an import refuses: names that climb, links, bombs, lies, crafted images. Nothing of it may stay, and the entry is named."""
import bz2
import gzip
import io
import struct
import subprocess
import tarfile
import zipfile
import zlib

import numpy
import pytest
from harness import FAILED, flipped
from import_rig import Import, flowers, folder, jpeg, noise, png, tar, zipped
from PIL import Image
from test_import import idx, labels_of, npz


def refused(tmp_path, source, entry, *words, code="damaged-data", **options):
    """Refused with this entry and these words; the set before it is fine, so that the guard alone decides."""
    done = Import(source, tmp_path / "out", **options)
    assert done.status == FAILED, done.log
    assert done.last["type"] == "error" and done.last["code"] == code, done.last
    assert done.last["entry"] == entry and all(word in done.last["text"] for word in words), done.last
    assert done.left == []


def info(name, kind, **fields):
    entry = tarfile.TarInfo(name)
    entry.type = kind
    for key, value in fields.items():
        setattr(entry, key, value)
    return entry


def test_what_the_others_begin_with_is_fine(tmp_path):
    assert Import(tar(tmp_path / "a.tar", flowers()), tmp_path / "out").card


# --- names ---


@pytest.mark.parametrize("name, word", [
    ("../x.png", "climbs"), ("train/../../x.png", "climbs"), ("train/rose/..", "climbs"), ("/train/rose/x.png", "absolute"),
    ("train\\rose\\x.png", "backslash"), ("train/rose/a\nb.png", "control"), ("train//x.png", "part of its name"),
    ("train/rose/" + 256 * "x", "255"), (17 * "d/" + "x.png", "deeper"),
])
@pytest.mark.parametrize("make", [tar, zipped])
def test_names(tmp_path, name, word, make):
    if make is zipped and "\\" in name:
        return  # libarchive takes it for a slash there, as Windows' programs write it; the name is checked afterwards
    refused(tmp_path, make(tmp_path / "a", flowers() | {name: flowers()["train/rose/0.png"]}), name, word)


def test_a_long_name(tmp_path):
    name = "/".join(["d" * 250] * 5) + "/x.png"
    refused(tmp_path, tar(tmp_path / "a.tar", flowers() | {name: b""}), name[:1024], "1024")


def test_a_name_that_is_not_utf_8(tmp_path):
    source = tar(tmp_path / "a.tar", flowers() | {"train/rose/\udcff\udc80.png": b""}, format=tarfile.GNU_FORMAT, errors="surrogateescape",
                 encoding="utf-8")
    refused(tmp_path, source, "train/rose/??.png", "UTF-8")


def test_names_of_other_writings(tmp_path):
    files = {name.replace("rose", "Röschen 薔薇"): data for name, data in flowers().items()}
    for make in (tar, zipped):
        out = tmp_path / make.__name__
        assert "Röschen 薔薇" in Import(make(tmp_path / "a", files), out).card["classes"]


@pytest.mark.parametrize("name", ["../up", "/abs"])
def test_names_of_folders(tmp_path, name):
    refused(tmp_path, tar(tmp_path / "a.tar", flowers() | {name: info(name, tarfile.DIRTYPE)}), name + "/")


def test_duplicates(tmp_path):
    entries = list(flowers().items()) + [("train/rose/0.png", b"")]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    refused(tmp_path, tmp_path / "a.tar", "train/rose/0.png", "twice")


# --- kinds of entries ---


@pytest.mark.parametrize("kind, word", [
    (tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.CHRTYPE, "neither a file"), (tarfile.BLKTYPE, "neither a file"),
    (tarfile.FIFOTYPE, "neither a file"),
])
def test_links_and_devices(tmp_path, kind, word):
    entry = info("train/rose/x.png", kind, linkname="train/rose/0.png")
    refused(tmp_path, tar(tmp_path / "a.tar", flowers() | {entry.name: entry}), entry.name, word)


def test_a_link_in_a_zip(tmp_path):
    link = zipfile.ZipInfo("train/rose/x.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(zipped(tmp_path / "a.zip", flowers()), "a") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path, tmp_path / "a.zip", link.filename, "link")


@pytest.mark.parametrize("at", ["train/rose/x.png", "train/tulips"])
def test_a_link_in_a_folder(tmp_path, at):
    source = folder(tmp_path / "files", flowers())
    (source / at).symlink_to(source / "train/rose")
    refused(tmp_path, source, at, "link")


def test_an_encrypted_zip(tmp_path):
    data = bytearray(zipped(tmp_path / "a.zip", flowers()).read_bytes())
    data[6] |= 1  # the flag of the first local header, and of its entry in the directory
    data[data.find(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path, tmp_path / "a.zip", "train/rose/0.png", "encrypted")


@pytest.mark.parametrize("pack", [
    lambda path: zipped(path, {"x": b"y"}), lambda path: tar(path, {"x": b"y"}), lambda path: tar(path, {"x": b"y"}, "w:xz"),
    lambda path: path.write_bytes(gzip.compress(b"y")), lambda path: path.write_bytes(bz2.compress(b"y")),
    lambda path: path.write_bytes(b"7z\xbc\xaf\x27\x1c"), lambda path: path.write_bytes(b"Rar!\x1a\x07"),
    lambda path: path.write_bytes(b"\x28\xb5\x2f\xfd"),
])
def test_an_archive_in_the_archive(tmp_path, pack):
    pack(tmp_path / "inner")
    source = tar(tmp_path / "a.tar", flowers() | {"train/rose/inner": (tmp_path / "inner").read_bytes()})
    refused(tmp_path, source, "train/rose/inner", "archive in the archive", options={"skip_damaged": True})


# --- bombs ---


def test_too_many_entries(tmp_path):
    refused(tmp_path, tar(tmp_path / "a.tar", flowers()), "", "17", code="too-large", limits={"entries": 17})
    folders = {f"d{i}": info(f"d{i}", tarfile.DIRTYPE) for i in range(20)}
    refused(tmp_path, tar(tmp_path / "b.tar", folders), "", "19", code="too-large", limits={"entries": 19})


def test_too_many_images(tmp_path):
    refused(tmp_path, tar(tmp_path / "a.tar", flowers()), "test/tulip/1.png", "17", code="too-large", limits={"images": 17})
    refused(tmp_path, npz(tmp_path, x_train=noise(1, 20, 8, 8)), "x_train.npy", "17", code="too-large", limits={"images": 17})


@pytest.mark.parametrize("make", [lambda path, files: tar(path, files, "w:gz"), lambda path, files: tar(path, files, "w:xz"), zipped])
def test_a_bomb_by_ratio(tmp_path, make):
    """80 MB of zeros in some 100 kB; the same ratio below 64 MB is fine."""
    bomb = flowers() | {"zeros.bin": bytes(80 << 20)}
    refused(tmp_path, make(tmp_path / "a", bomb), "zeros.bin", "bomb", code="too-large")
    fine = flowers() | {"zeros.bin": bytes(60 << 20)}
    assert Import(make(tmp_path / "b", fine), tmp_path / "fine").card


@pytest.mark.parametrize("make", [lambda path, files: tar(path, files, "w:gz"), zipped])
def test_a_bomb_by_bytes(tmp_path, make):
    """In many small entries, none of which is too large."""
    files = {f"d/zeros{i}.bin": bytes(1 << 16) for i in range(20)} | flowers()
    source = make(tmp_path / "a", files)
    refused(tmp_path, source, "d/zeros16.bin", "1081344", code="too-large", limits={"bytes": 1081344})


def test_an_entry_that_promises_more_than_may_be(tmp_path):
    entry = info("zeros.bin", tarfile.REGTYPE, size=1 << 40)
    refused(tmp_path, tar(tmp_path / "a.tar", flowers() | {entry.name: entry}), "zeros.bin", str(1 << 40), code="too-large")


def test_a_bomb_in_a_compressed_idx_file(tmp_path):
    zeros = gzip.compress(struct.pack(">BBBBIII", 0, 0, 8, 3, 1 << 20, 28, 28) + bytes(100 << 20))
    refused(tmp_path, zipped(tmp_path / "a.zip", {"train-images-idx3-ubyte.gz": zeros}), "train-images-idx3-ubyte.gz", "bomb",
            code="too-large", limits={"images": 1 << 20})


def test_time(tmp_path):
    """A terabyte of holes takes minutes, however fast the machine: a small file in the archive."""
    with open(tmp_path / "holes.bin", "wb") as file:
        file.seek(1 << 40)
        file.write(b"end")
    subprocess.run(["tar", "-cSf", "a.tar", "holes.bin"], cwd=tmp_path, check=True)
    refused(tmp_path, tmp_path / "a.tar", "holes.bin", "longer than 1 s", code="too-large",
            limits={"seconds": 1, "ratio": 1 << 40, "bytes": 1 << 41})


def test_a_result_that_would_be_too_large(tmp_path):
    files = {f"{c}/{k}.png": png(numpy.zeros((8, 8), numpy.uint8)) for c in "ab" for k in range(20)}
    refused(tmp_path, tar(tmp_path / "a.tar", files), "", "data set would have", code="too-large",
            options={"size": 224}, limits={"bytes": 1 << 20})


# --- cut, damaged and lying files ---


@pytest.mark.parametrize("make", [tar, lambda p, f: tar(p, f, "w:gz"), lambda p, f: tar(p, f, "w:xz"), zipped])
@pytest.mark.parametrize("kept", [0.3, 0.85])
def test_cut_archives(tmp_path, make, kept):
    source = make(tmp_path / "a", {name: data + noise(1, 3000).tobytes() for name, data in flowers().items()})
    source.write_bytes(source.read_bytes()[:int(kept * source.stat().st_size)])
    done = Import(source, tmp_path / "out", {"skip_damaged": True})
    assert done.status == FAILED and done.last["code"] == "damaged-data" and done.left == []


def test_a_tar_that_is_cut_between_entries(tmp_path):
    """Only the two blocks of zeros at its end are missing, or entries before them, too."""
    source = tar(tmp_path / "a.tar", {"README": b"x"} | flowers())
    whole = source.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    source.write_bytes(whole[:end])
    refused(tmp_path, source, "", "cut short")
    source.write_bytes(whole[:end + 1024])
    assert Import(source, tmp_path / "fine").card


def test_no_archive_at_all(tmp_path):
    (tmp_path / "a").write_bytes(noise(1, 5000).tobytes())
    refused(tmp_path, tmp_path / "a", "", "no zip")
    (tmp_path / "a").write_bytes(b"")
    assert Import(tmp_path / "a", tmp_path / "out").status == FAILED
    assert Import(tmp_path / "missing", tmp_path / "out").last["code"] == "not-found"


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_zip_that_lies_about_sizes(tmp_path, shift):
    """In the directory and the local header of its first entry."""
    data = bytearray(zipped(tmp_path / "a.zip", flowers()).read_bytes())
    for at in (22, data.find(b"PK\1\2") + 24):
        struct.pack_into("<I", data, at, struct.unpack_from("<I", data, at)[0] + shift)
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path, tmp_path / "a.zip", "train/rose/0.png")


def test_a_wrong_checksum(tmp_path):
    data = bytearray(zipped(tmp_path / "a.zip", flowers()).read_bytes())
    for at in (14, data.find(b"PK\1\2") + 16):
        data[at] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path, tmp_path / "a.zip", "train/rose/0.png", "CRC")


def good_idx(n=20):
    x, y = noise(1, n, 9, 10), labels_of(n)
    return {f"{part}-{kind}-ubyte": idx(a) for part in ("train", "t10k") for kind, a in (("images-idx3", x), ("labels-idx1", y))}


@pytest.mark.parametrize("name, change, word", [
    ("train-images-idx3-ubyte", lambda d: d[:-1], "cut short"), ("train-images-idx3-ubyte", lambda d: d + b"x", "longer"),
    ("train-labels-idx1-ubyte", lambda d: d[:-1], "cut short"), ("train-images-idx3-ubyte", lambda d: b"\0\0\x0d" + d[3:], "00000d03"),
    ("train-images-idx3-ubyte", lambda d: d[:8] + struct.pack(">I", 1 << 31) + d[12:], "pixels"), ("train-images-idx3-ubyte", lambda d: d[:9], "header"),
    ("train-labels-idx1-ubyte", lambda d: gzip.compress(d)[:-5], "compressed"),
])
def test_lying_idx_files(tmp_path, name, change, word):
    files = good_idx()
    refused(tmp_path, zipped(tmp_path / "a.zip", files | {name: change(files[name])}), name, word)


def test_labels_that_are_missing_or_too_few(tmp_path):
    files = good_idx()
    refused(tmp_path, zipped(tmp_path / "a.zip", files | {"train-labels-idx1-ubyte": idx(labels_of(19))}), "", "19 labels")
    del files["t10k-labels-idx1-ubyte"]
    refused(tmp_path, zipped(tmp_path / "a.zip", files), "", "0 labels")
    del files["t10k-images-idx3-ubyte"]
    refused(tmp_path, zipped(tmp_path / "a.zip", files), "", "test part is missing")


@pytest.mark.parametrize("array, word", [
    (noise(1, 20, 8, 8).astype(numpy.float32), "whole numbers"), (noise(1, 20, 8, 8).astype(numpy.int16), "uint8"),
    (noise(1, 20, 8, 8, 4), "dimensions"), (noise(1, 20, 64), "dimensions"), (noise(1, 20, 7, 8), "pixels"),
    (numpy.asfortranarray(noise(1, 20, 8, 8)), "Fortran"), (noise(1, 2, 2, 2, 2, 2), "dimensions"),
])
def test_npz_arrays_that_are_no_images(tmp_path, array, word):
    refused(tmp_path, npz(tmp_path, x_train=array), "x_train.npy", word)


@pytest.mark.parametrize("labels, word", [
    (numpy.full(20, 256), "label 0"), (numpy.full(20, -1), "label 0"), (numpy.zeros(20), "whole numbers"), (numpy.zeros((20, 2), int), "dimensions"),
])
def test_npz_arrays_that_are_no_labels(tmp_path, labels, word):
    refused(tmp_path, npz(tmp_path, y_train=labels), "y_train.npy", word)


def test_a_cut_cifar_file(tmp_path):
    files = {"data_batch_1.bin": bytes(3073 * 4 - 1), "test_batch.bin": bytes(3073)}
    refused(tmp_path, tar(tmp_path / "a.tar", files), "data_batch_1.bin", "image 4")


def test_a_label_without_a_name(tmp_path):
    files = {"data_batch_1.bin": (b"\2" + bytes(3072)) * 4, "test_batch.bin": bytes(3073), "batches.meta.txt": b"a\nb\n"}
    refused(tmp_path, tar(tmp_path / "a.tar", files), "data_batch_1.bin", "2 classes")


# --- images ---


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_sides(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def jpeg_of_sides(width, height):
    data = bytearray(jpeg(noise(1, 8, 8)))
    struct.pack_into(">HH", data, data.find(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_of_scans(n):
    """A valid progressive JPEG, grey, one block: every scan tells one bit of one coefficient, which is 0 (ITU-T T.81, G)."""
    table = lambda kind: segment(0xC4, bytes([kind, 1] + 15 * [0] + [0]))  # one code, "0", for "nothing"  # noqa: E731
    scan = lambda at, high, low: segment(0xDA, bytes([1, 1, 0, at, at, high << 4 | low])) + b"\x7f"  # noqa: E731
    scans = [scan(0, 0, 0)] + [scan(at, 0 if low == 13 else low + 1, low) for at in range(1, 64) for low in range(13, -1, -1)]
    assert n <= len(scans)
    frame = segment(0xC2, struct.pack(">BHHBBBB", 8, 8, 8, 1, 1, 0x11, 0))
    return b"\xff\xd8" + segment(0xDB, bytes(1) + bytes(64 * [1])) + frame + table(0x00) + table(0x10) + b"".join(scans[:n]) + b"\xff\xd9"


GREY = png(noise(1, 8, 8))
IMAGES = {
    "65535 pixels a side": (png_of_sides(65535, 65535), ["65535 x 65535"], {}),
    "65535 pixels a side, to be resized": (png_of_sides(65535, 65535), ["65535 x 65535"], {"size": 8}),
    "many pixels": (png_of_sides(8192, 8192), ["8192 x 8192"], {"size": 8}),
    "a large JPEG": (jpeg_of_sides(65500, 65500), ["65500 x 65500"], {"size": 8}),
    "880 scans": (jpeg_of_scans(880), ["100 scans"], {}),
    "CMYK": (jpeg(Image.fromarray(noise(1, 8, 8, 4), "CMYK")), ["CMYK"], {}),
    "a low one": (png(noise(1, 7, 8)), ["7 x 8"], {}),
    "a wide one": (png(noise(1, 8, 225)), ["8 x 225"], {}),
    "another size": (png(noise(1, 9, 8)), ["9 x 8", "8 x 8"], {}),
    "a cut JPEG": (jpeg(noise(1, 8, 8))[:-20], ["JPEG"], {}),
    "a cut PNG": (GREY[:-20], ["PNG"], {}),
    "nothing but a PNG's magic": (GREY[:8], ["PNG"], {}),
    "nothing but a JPEG's magic": (b"\xff\xd8\xff", ["JPEG"], {}),
    "a damaged PNG": (flipped(GREY, 60), ["PNG"], {}),
    "a GIF": (b"GIF89a", ["neither"], {}),
    "nothing": (b"", ["neither"], {}),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images(tmp_path, kind):
    data, words, options = IMAGES[kind]
    refused(tmp_path, tar(tmp_path / "a.tar", flowers() | {"train/rose/x": data}), "train/rose/x", *words, options=options)


def test_many_scans_are_not_too_many(tmp_path):
    files = {f"{part}/{c}/x": jpeg_of_scans(100) for part in ("train", "test") for c in "ab"}
    assert Import(tar(tmp_path / "a.tar", files), tmp_path / "out").card


def test_the_first_failure_is_told_however_many_threads(tmp_path):
    """Of many damaged images, and before what cannot be read after them."""
    files = flowers() | {f"train/rose/x{i:04}": jpeg(noise(i, 8, 8))[:-20] for i in range(300)}
    source = tar(tmp_path / "a.tar", files)
    source.write_bytes(source.read_bytes()[:-15000])
    for _ in range(5):
        refused(tmp_path, source, "train/rose/x0000", "JPEG")


# --- layout ---


@pytest.mark.parametrize("name, word", [
    ("x.png", "no folder"), ("rose/x.png", "beside"), ("other/train/rose/x.png", "beside"), ("train/rose/deep/x.png", "beside"),
])
def test_images_in_the_wrong_place(tmp_path, name, word):
    refused(tmp_path, tar(tmp_path / "a.tar", flowers() | {name: png(noise(1, 8, 8, 3))}), name, word)


def test_what_is_no_data_set(tmp_path):
    refused(tmp_path, tar(tmp_path / "a.tar", {"README": b"hello"}), "", "no images")
    refused(tmp_path, tar(tmp_path / "b.tar", {f"a/{i}.png": png(noise(i, 8, 8)) for i in range(9)}), "", "one class")
    refused(tmp_path, tar(tmp_path / "c.tar", flowers() | {"test/lily/0.png": png(noise(1, 8, 8, 3))}), "", "lily", "no training image")
    refused(tmp_path, tar(tmp_path / "d.tar", flowers() | good_idx()), "", "one format")
    many = {f"{part}/c{c}/x.png": png(noise(c, 8, 8)) for part in ("train", "test") for c in range(257)}
    refused(tmp_path, tar(tmp_path / "e.tar", many), "train/c256/x.png", "256", code="too-large")
