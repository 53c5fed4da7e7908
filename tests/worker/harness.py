"""What the worker's tests share: starting the real residuum-worker, reading its lines, reading its files."""
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / (os.environ.get("RESIDUUM_BUILD") or "build/release")
PROGRAM = BUILD / "residuum-worker"
LIMIT = 120 * (6 if BUILD.name == "asan" else 1)  # seconds that any wait may take
PROTOCOL = int(re.search(r"EVENT_PROTOCOL = (\d+)", (ROOT / "common/event.h").read_text())[1])
DONE, FAILED, USAGE, STOPPED, BUSY, RETRY, DEVICE = range(7)


def spec(**changes):
    """A job that takes about a second on the plain C backend."""
    document = {
        "dataset": "shapes", "model": {"preset": "resnet8", "width": 0.25}, "epochs": 3, "batch_size": 32, "seed": 11, "backend": "ref",
        "threads": 1, "schedule": {"kind": "one_cycle", "lr": 0.05}, "train_limit": 150, "test_limit": 70,
    }
    return {**document, **changes}


def needs(backend):
    if not (BUILD / f"backend-{backend}.so").exists():
        pytest.skip(f"backend-{backend}.so is not built")


class Worker:
    """A running worker. Its events are read one by one, or to the end."""

    def __init__(self, directory, document=None, known=0, line=None, program=PROGRAM, device="cpu", **environment):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.events = directory, []
        self.log = open(directory / "log", "ab")
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        env={**os.environ, "OMP_WAIT_POLICY": "passive", **environment})
        if line is None:
            line = json.dumps({"protocol": PROTOCOL, "job": "job_test", "attempt": 1, "device": device, "dir": str(directory),
                               "epochs_known": known, "spec": document or spec()})
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def read(self):
        """The next event, or None at the end."""
        line = self.process.stdout.readline()
        if not line:
            return None
        assert line.endswith(b"\n") and len(line) <= 1 << 20
        event = json.loads(line)
        assert event["seq"] == len(self.events) + 1
        self.events.append(event)
        return event

    def until(self, kind, count=1):
        """Reads up to the count-th event of a kind from now."""
        while count:
            event = self.read()
            assert event is not None, f"the worker ended before an event {kind}: {self.text()}"
            count -= event["type"] == kind
        return event

    def end(self):
        """Reads everything, returns the exit status."""
        while self.read():
            pass
        status = self.process.wait(LIMIT)
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()
        return status

    def stop(self):
        self.process.stdin.close()
        return self.end()

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self.end()

    def of(self, kind):
        return [e for e in self.events if e["type"] == kind]

    def text(self):
        return (self.directory / "log").read_text()


def run(directory, document=None, **options):
    worker = Worker(directory, document, **options)
    return worker, worker.end()


def wait_for(condition, what):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"waited {LIMIT} s for {what}"
        time.sleep(0.005)


def flipped(data, at):
    """The data with the lowest bit of a byte turned over."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def read_safetensors(path):
    """An independent reader: (metadata, {name: (dtype, shape, bytes)})."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__")
    body = data[8 + size:]
    return metadata, {n: (t["dtype"], t["shape"], body[slice(*t["data_offsets"])]) for n, t in header.items()}


def digest(directory):
    """SHA-256 of all tensors of a job's checkpoint, and where it stands."""
    metadata, tensors = read_safetensors(directory / "checkpoint.safetensors")
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode() + tensors[name][2])
    return sha.hexdigest(), metadata["epoch"], metadata["step"]


def results(source):
    """Epoch events without what may differ between two runs: sequence numbers, times, how a GPU was."""
    epochs = source.of("epoch") if isinstance(source, Worker) else map(json.loads, (source / "epochs.ndjson").read_text().splitlines())
    return [{k: v for k, v in e.items() if k not in ("type", "seq", "seconds", "images_per_second", "gpu")} for e in epochs]


def installed(directory, *backends):
    """A copy of the worker with only these modules beside it."""
    directory.mkdir()
    shutil.copy(PROGRAM, directory)
    for backend in backends:
        shutil.copy(BUILD / f"backend-{backend}.so", directory)
    return directory / PROGRAM.name
