"""What the tests of `residuum-worker --import` share: making pictures and archives, running an import, reading its result."""
import io
import json
import os
import subprocess
import tarfile
import zipfile

import numpy
from harness import BUILD, LIMIT, PROGRAM, PROTOCOL
from PIL import Image

OPTIONS = {"size": None, "fit": "crop", "channels": None, "test_fraction": 0.25, "seed": 1, "skip_damaged": False}
LIMITS = {"bytes": 1 << 30, "entries": 10000, "ratio": 200, "images": 10000, "seconds": 100}


class Import:
    """One run: its lines, exit status, log, and what lies in out."""

    def __init__(self, source, out, options=None, limits=None, close=False, name="flowers", processors=None):
        out.mkdir(exist_ok=True)
        self.out = out
        line = {"protocol": PROTOCOL, "source": str(source), "out": str(out), "name": name, "options": {**OPTIONS, **(options or {})},
                "limits": {**LIMITS, **(limits or {})}}
        environment = dict(os.environ)
        if BUILD.name == "asan":  # the leak checker starts a process, which the sandbox forbids
            environment["ASAN_OPTIONS"] = environment.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        with subprocess.Popen([PROGRAM, "--import"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment) as process:
            if processors is not None:  # before it has a line to read
                os.sched_setaffinity(process.pid, processors)
            process.stdin.write(json.dumps(line).encode() + b"\n")
            process.stdin.flush()
            if close:
                process.stdin.close()
            self.events = [json.loads(text) for text in process.stdout]
            self.log = process.stderr.read().decode(errors="replace")
            self.status = process.wait(LIMIT)
        assert [e["seq"] for e in self.events] == list(range(1, len(self.events) + 1))
        assert "Sanitizer" not in self.log and "runtime error" not in self.log, self.log

    @property
    def last(self):
        return self.events[-1]

    @property
    def left(self):
        return sorted(p.name for p in self.out.iterdir())

    @property
    def card(self):
        assert self.status == 0 and self.last["type"] == "imported", self.log
        assert json.loads((self.out / "card.json").read_text()) == self.last["card"]
        return self.last["card"]

    def images(self, part):
        """(pixels [n,C,H,W], labels [n]) of "train" or "test"."""
        card, data = self.card, (self.out / "data.bin").read_bytes()
        where, shape = card[part], card["shape"]
        n = where["images"]
        size = n * shape[0] * shape[1] * shape[2]
        pixels = numpy.frombuffer(data[where["pixels_at"]:where["pixels_at"] + size], numpy.uint8).reshape(n, *shape)
        return pixels, numpy.frombuffer(data[where["labels_at"]:where["labels_at"] + n], numpy.uint8)


def png(array, **options):
    """A PNG of [H,W] or [H,W,C]."""
    out = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(out, "PNG", **options)
    return out.getvalue()


def jpeg(array, **options):
    out = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(out, "JPEG", **options)
    return out.getvalue()


def noise(seed, *shape):
    return numpy.random.default_rng(seed).integers(0, 256, shape, dtype=numpy.uint8)


def flowers(n=4, side=8):
    """{name: bytes}: three classes in train/ (n each) and test/ (2 each), in no order."""
    files = {}
    for part, count in (("train", n), ("test", 2)):
        for k in range(count):
            for c, name in enumerate(("rose", "daisy", "tulip")):
                files[f"{part}/{name}/{k}.png"] = png(noise(100 * c + 10 * k + (part == "test"), side, side, 3))
    return files


def tar(path, files, mode="w", **fields):
    """A tar of {name: bytes or TarInfo}."""
    with tarfile.open(path, mode, **fields) as archive:
        for name, data in files.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(data, tarfile.TarInfo):
                # the header alone, whatever size it promises: addfile of Python 3.13 wants the bytes, too
                header = info.tobuf(archive.format, archive.encoding, archive.errors)
                archive.fileobj.write(header)
                archive.offset += len(header)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path
