#!/usr/bin/python3
"""A worker that does what its job's name says, for tests of the daemon. The name is one script per attempt, parted by "|" (the last one
is used again); a script is a list of words parted by commas, after which it exits with 0:

    hello hello1        the first line; with a wrong protocol version
    epoch again skip    the next epoch; the last one again; the one after the next
    rest done all       all epochs that are missing; the last line; hello, rest, done
    some early          epochs up to the number in DATA/some; the last line of a job that stopped early
    progress:N          N progress lines at once
    error:CODE          an error line
    exit:N kill:N       ends with a code, by a signal
    gap garbage bytes   breaks the protocol: a missing seq, no JSON, no UTF-8
    oversize half       a line over the limit, a line without its end
    wait hang           until standard input ends, then exits as a stopped worker; for ever, whatever is asked
    until:FILE          until DATA/FILE exists, whatever is asked
    pause:FILE          the same, but ends as a stopped worker when standard input does
    say:TEXT fork       writes to the log; leaves a child behind that holds the pipes
    environment astray  writes its environment into the job's directory; a first line that names another device
    keep                the weights of the last epoch stay, whatever "keep_every" says

--inspect does what the first layer of the question is called: answer, error, crash, exit, hang, garbage, list, oversize, foreign (an
error of an unknown code), until:FILE, late:FILE (once, the weights are replaced by the next epoch's, and it is an error); questions without layers are answered.

Losses fall until epoch 2, so that this is the best epoch of a job with a validation set. Files in the job's directory are written as
the real worker does, with four test images. The hash of an epoch's weights hangs on seed and epoch, and from epoch N on differs from
that when N stands in DATA/other-weights; DATA/other-version holds another version of the backend.

RESIDUUM_FAKE_PROBE says how --probe ends: good (default), poor (without the backend "ref"), gpus (with the two GPUs GPU-a and GPU-b), mixed (GPU-a
has f32 only), small (GPU-a has 2 GiB), full (of both, 1 MiB is free), crash, hang, garbage, none; "crash-until:FILE" crashes until FILE exists;
"gpus-when:FILE" lacks them until DATA/FILE exists, and always says that something is missing. On a GPU, progress and epochs tell how it is. RESIDUUM_FAKE_CHECK says how
--self-check of a GPU ends: unknown (default: such a worker does not know the mode), pass, fail, crash; "fail:GPU-a" fails on that one only;
"pass-when:FILE" waits for DATA/FILE.
It lists its arguments in DATA/checked.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import re
import select
import signal
import struct
import sys
import time

CARD = {
    "protocol": 3,
    "complete": True,
    "devices": [{"id": "cpu", "name": "fake", "threads": 2, "memory_bytes": 1 << 34, "memory_free_bytes": None, "compute": None,
                 "driver": None, "profile": None, "note": None,
                 "backends": [{"name": name, "version": "0", "precisions": ["f32", "bf16"]} for name in ("onednn", "ref")],
                 "unusable": []}],
    "datasets": [{"name": name, "available": True, "reason": None} for name in ("shapes", "fashion-mnist")],
}
GPUS = [{"id": device, "name": "fake GPU", "threads": 1, "memory_bytes": 80 << 30, "memory_free_bytes": 79 << 30, "compute": "9.0",
         "driver": "580.65.06", "profile": {"deviceName": "fake GPU"}, "note": None,
         "backends": [{"name": "cudnn", "version": "9.19.0", "precisions": ["f32", "bf16", "tf32"]}], "unusable": []}
        for device in ("GPU-a", "GPU-b")]
GPU_NOW = {"temperature_c": 61.0, "utilization": 0.9, "power_w": None, "memory_used_bytes": 1 << 30}


def hang():
    while True:
        time.sleep(3600)


def probe(how):
    how, _, file = how.partition(":")
    if how == "crash" or how == "crash-until" and not os.path.exists(file):
        print("the driver is upset", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        hang()
    if how == "poor":
        del CARD["devices"][0]["backends"][1]
    if how in ("gpus", "mixed", "small", "full"):
        CARD["devices"] += GPUS
    if how == "gpus-when":
        CARD["complete"] = False
        CARD["devices"] += GPUS if os.path.exists(file) else []
    if how == "mixed":
        GPUS[0].update(compute="7.5", backends=[{**GPUS[0]["backends"][0], "precisions": ["f32"]}])
    if how == "full":
        for gpu in GPUS:
            gpu.update(memory_free_bytes=1 << 20)
    if how == "small":
        GPUS[0].update(memory_bytes=2 << 30, memory_free_bytes=2 << 30)
    if how == "garbage":
        print("{]")
    elif how != "none":
        print(json.dumps(CARD))


def version():
    header = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "common", "version.h")
    with open(header, encoding="ascii") as file:
        return re.search(r'RESIDUUM_VERSION "(.*)"', file.read())[1]


def self_check(how, device):
    """As the real one: a record in the folder that the environment names, and an exit code."""
    how, _, bad = how.partition(":")
    if how == "unknown":
        sys.exit(2)
    folder = os.environ["RESIDUUM_SELF_CHECK"]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "..", "checked"), "a", encoding="ascii") as file:
        print(*sys.argv[1:], os.environ["CUDA_VISIBLE_DEVICES"], file=file)
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    while how == "pass-when" and not os.path.exists(bad):
        time.sleep(0.01)
    passed = how != "fail" or bad not in ("", device)
    items = [{"item": "memory", "passed": True, "skipped": False, "measured": 0, "limit": 0, "text": "fine"},
             {"item": "kernels", "passed": passed, "skipped": False, "measured": 2, "limit": 1, "text": "the sums are wrong"}]
    with open(os.path.join(folder, f"{device}.json"), "w", encoding="ascii") as file:
        json.dump({"device_id": device, "at": "2026-11-24T08:00:00.000000Z", "driver": GPUS[0]["driver"],
                   "cudnn": GPUS[0]["backends"][0]["version"], "worker": version(), "brief": "--brief" in sys.argv, "passed": passed,
                   "features": ["fused-norm"], "items": items}, file)
    sys.exit(0 if passed else 1)


def inspect(question):
    layer, _, file = question["want"].get("maps", {"layers": ["answer"]})["layers"][0].partition(":")
    error = {"code": "not-found", "text": "there is no layer", "pointer": "/layers/0"}
    answers = {"error": {"error": error}, "foreign": {"error": {**error, "code": "oops"}}, "list": [], "oversize": "x" * (2 << 20)}
    if layer == "hang":
        hang()
    if layer == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if layer == "exit":
        sys.exit("the fake gives up")
    while layer == "until" and not os.path.exists(file):
        time.sleep(0.005)
    if layer == "late" and not os.path.exists(file):
        open(file, "w", encoding="ascii").close()
        os.rename(question["weights"], question["weights"].replace(f"epoch-{question['epoch']}", f"epoch-{question['epoch'] + 1}"))
        layer = "error"
    print("what?" if layer == "garbage" else json.dumps(answers.get(layer, {"asked": question, "nice": os.nice(0)})), flush=True)


REPORT = {"precision": [2 / 3, 1.0], "recall": [1.0, 0.5], "f1": [0.8, 2 / 3], "support": [2, 2],
          "macro": {"precision": 5 / 6, "recall": 0.75, "f1": 11 / 15}, "weighted": {"precision": 5 / 6, "recall": 0.75, "f1": 11 / 15}}
CONFUSED = {"pairs": [{"true": 1, "predicted": 0, "count": 1}], "classes": [{"class": 0, "count": 1}, {"class": 1, "count": 1}]}
LAYERS = {"weights": {"name": ["fc"], "gradient_norm": [0.5], "weight_norm": [1.0], "update_ratio": [0.01]},
          "activations": {"name": ["fc"], "mean": [0.5], "deviation": [1.0], "dead": [None]}}
BEST = 2


def safetensors(**tensors):
    """A file of tensors given as (dtype, shape, values)."""
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        packed = struct.pack(f"<{len(values)}{'f' if dtype == 'F32' else 'i'}", *values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class Fake:
    def __init__(self, start):
        self.start, self.seq = start, 0
        self.spec, self.dir = start["spec"], start["dir"]
        self.epochs, self.done_epochs = self.spec["epochs"], start["epochs_known"]
        self.pinned = set()
        self.validates = self.spec["validation_fraction"] > 0
        self.gpu = None if start["device"] == "cpu" else GPU_NOW

    def write(self, text):
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(1, data):]

    def line(self, kind, **fields):
        self.seq += 1
        self.write(json.dumps({"type": kind, "seq": self.seq, **fields}) + "\n")

    def save(self, name, data):
        """Writes a file of the job's directory, unless the disk is full: what the daemon does then is tested by what is said."""
        path = os.path.join(self.dir, name)
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path + ".part", "wb") as file:
                file.write(data)
            os.replace(path + ".part", path)

    def told(self, name, otherwise):
        """What the test wrote into DATA/NAME."""
        path = os.path.join(self.dir, "..", "..", name)
        if not os.path.exists(path):
            return otherwise
        with open(path, encoding="ascii") as file:
            return file.read()

    def initial(self):
        """What a job that starts from another one found there."""
        if "from" not in self.spec:
            return None
        with open(os.path.join(self.dir, "initial.safetensors"), "rb") as file:
            assert file.read(8)
        return {"taken": ["fc"], "fresh": []}

    def environment(self):
        with open("/proc/self/environ", "rb") as file:  # as it came: what is set twice stands there twice
            self.save("environment", file.read().replace(b"\0", b"\n"))

    def astray(self):
        self.start["device"] = "GPU-x"
        self.hello()

    def hello(self, protocol=3):
        self.line("hello", protocol=protocol, program="0.1.0", backend="ref" if self.gpu is None else "cudnn", backend_version=self.told("other-version", "0"), algorithms="", device="fake",
                  device_id=self.start["device"], precision="f32", threads=1, data_sha256="d" * 64, train_images=6, validation_images=2 if self.validates else 0,
                  test_images=4, initial=self.initial(), parameters=10, memory_bytes=1000,
                  resumed={"epoch": self.done_epochs, "step": 0} if self.done_epochs else None)

    def digest(self, number):
        first = int(self.told("other-weights", number + 1))
        return hashlib.sha256(f"{self.spec['seed']} {number} {number >= first}".encode()).hexdigest()

    def send_epoch(self, number):
        self.save(f"weights/epoch-{number}.safetensors", safetensors(fc=("F32", [2], [number, 0.5])))
        self.save("checkpoint.safetensors", safetensors(fc=("F32", [2], [number, 0.5])))
        self.save("epochs.ndjson", b"{}\n" * number)
        kept = self.pinned | ({BEST} if self.validates else set()) | set(range(0, number, self.spec["keep_every"] or number))
        for old in set(range(1, number)) - kept:
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.dir, f"weights/epoch-{old}.safetensors"))
        loss = abs(number - BEST) + 0.5
        self.line("epoch", epoch=number, train={"loss": 1 / number, "accuracy": 0.5},
                  validation={"loss": loss, "accuracy": 0.5, "top5": None} if self.validates else None,
                  test={"loss": loss, "accuracy": 0.75, "top5": None, "ece": 0.1, "confusion": [[2, 0], [1, 1]], "report": REPORT,
                        "most_confused": CONFUSED, "softmax": [[0.25, 0.75]], "labels": [1]},
                  layers=LAYERS, weights_sha256=self.digest(number), exported_sha256="e" * 64, best=number <= BEST if self.validates else None, lr=0.1, seconds=0.5,
                  images_per_second=100.0, gpu=self.gpu and {**self.gpu, "energy_j": 120.5})

    def epoch(self):
        self.done_epochs += 1
        self.send_epoch(self.done_epochs)

    def rest(self, last=None):
        while self.done_epochs < (last or self.epochs):
            self.epoch()

    def done(self, early=False):
        self.save("predictions.safetensors", safetensors(softmax=("F32", [4, 2], [0.75, 0.25, 1.0, 0.0, 0.5, 0.5, 0.25, 0.75]),
                                                         labels=("I32", [4], [0, 0, 1, 1]), predicted=("I32", [4], [0, 0, 0, 1])))
        self.line("done", epochs=self.done_epochs if early else self.epochs, stopped_early=early,
                  best_epoch=min(BEST, self.done_epochs) if self.validates and self.done_epochs else None)

    def progress(self, count):
        for step in range(count):
            self.line("progress", epoch=min(self.done_epochs + 1, self.epochs), epochs=self.epochs, phase="train", step=step, steps=count,
                      loss=0.5, images_per_second=10.0, seconds_left=1.0, gpu=self.gpu)

    def wait(self):
        while os.read(0, 4096):
            pass
        sys.exit(3)

    def keep(self):
        self.pinned.add(self.done_epochs)

    def until(self, file):
        while not os.path.exists(os.path.join(self.start["dir"], "..", "..", file)):
            time.sleep(0.005)

    def pause(self, file):
        while not os.path.exists(os.path.join(self.dir, "..", "..", file)):
            if select.select([0], [], [], 0.005)[0] and not os.read(0, 4096):
                sys.exit(3)

    def fork(self):
        if os.fork() == 0:
            hang()

    def do(self, word):
        word, _, value = word.partition(":")
        simple = {
            "hello": self.hello, "hello1": lambda: self.hello(1), "epoch": self.epoch, "rest": self.rest, "done": self.done,
            "some": lambda: self.rest(int(self.told("some", self.epochs))), "early": lambda: self.done(True),
            "again": lambda: self.send_epoch(self.done_epochs), "skip": lambda: self.send_epoch(self.done_epochs + 2),
            "progress": lambda: self.progress(int(value)), "exit": lambda: os._exit(int(value)),
            "kill": lambda: os.kill(os.getpid(), int(value)), "garbage": lambda: self.write("what?\n"),
            "bytes": lambda: self.write('{"type": "\udcff"}\n'), "oversize": lambda: self.write("x" * ((1 << 20) + 5)),
            "half": lambda: self.write('{"type"'), "wait": self.wait, "hang": hang, "fork": self.fork, "keep": self.keep,
            "environment": self.environment, "astray": self.astray,
            "until": lambda: self.until(value), "pause": lambda: self.pause(value),
            "say": lambda: print(value, file=sys.stderr, flush=True),
            "error": lambda: self.line("error", code=value, text=f"the fake says {value}", pointer=""),
        }
        if word == "gap":
            self.seq += 1
        elif word == "all":
            for each in ("hello", "rest", "done"):
                self.do(each)
        else:
            simple[word]()


def main():
    if "--probe" in sys.argv:
        probe(os.environ.get("RESIDUUM_FAKE_PROBE", "good"))
        return
    if "--self-check" in sys.argv:
        self_check(os.environ.get("RESIDUUM_FAKE_CHECK", "unknown"), sys.argv[-1])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    text = b""
    while not text.endswith(b"\n"):
        text += os.read(0, 65536)
    start = json.loads(text)
    if "--inspect" in sys.argv:
        inspect(start)
        return
    with open(os.path.join(start["dir"], "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the real one: two attempts of a job never run at once
        scripts = start["spec"]["name"].split("|")
        fake = Fake(start)
        for word in scripts[min(start["attempt"], len(scripts)) - 1].split(","):
            fake.do(word)


main()
