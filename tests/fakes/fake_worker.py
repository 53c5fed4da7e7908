#!/usr/bin/python3
"""A worker that does what its job's name says, for tests of the daemon. The name is one script per attempt, parted by "|" (the last one
is used again); a script is a list of words parted by commas, after which it exits with 0:

    hello hello2        the first line; with a wrong protocol version
    epoch again skip    the next epoch; the last one again; the one after the next
    rest done all       all epochs that are missing; the last line; hello, rest, done
    progress:N          N progress lines at once
    error:CODE          an error line
    exit:N kill:N       ends with a code, by a signal
    gap garbage bytes   breaks the protocol: a missing seq, no JSON, no UTF-8
    oversize half       a line over the limit, a line without its end
    wait hang           until standard input ends, then exits as a stopped worker; for ever, whatever is asked
    until:FILE          until DATA/FILE exists
    say:TEXT fork       writes to the log; leaves a child behind that holds the pipes
    keep                a weights file of the last epoch, empty

--inspect does what the first layer of the question is called: answer, error, crash, exit, hang, garbage, list, oversize, foreign (an
error of an unknown code), until:FILE, late:FILE (once, the weights are replaced by the next epoch's, and it is an error); questions without layers are answered.

RESIDUUM_FAKE_PROBE says how --probe ends: good (default), crash, hang, garbage, none; "crash-until:FILE" crashes until FILE exists.
"""
import fcntl
import json
import os
import signal
import sys
import time

CARD = {
    "protocol": 1,
    "devices": [{"id": "cpu", "name": "fake", "threads": 2, "memory_bytes": 1 << 34,
                 "backends": [{"name": name, "version": "0", "precisions": ["f32", "bf16"]} for name in ("onednn", "ref")],
                 "unusable": []}],
    "datasets": [{"name": name, "available": True, "reason": None} for name in ("shapes", "fashion-mnist")],
}


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
    if how == "garbage":
        print("{]")
    elif how != "none":
        print(json.dumps(CARD))


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


class Fake:
    def __init__(self, start):
        self.start, self.seq = start, 0
        self.epochs, self.done_epochs = start["spec"]["epochs"], start["epochs_known"]

    def write(self, text):
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(1, data):]

    def line(self, kind, **fields):
        self.seq += 1
        self.write(json.dumps({"type": kind, "seq": self.seq, **fields}) + "\n")

    def hello(self, protocol=1):
        self.line("hello", protocol=protocol, backend="ref", backend_version="0", device="fake", precision="f32", threads=1, parameters=10,
                  memory_bytes=1000, resumed={"epoch": self.done_epochs, "step": 0} if self.done_epochs else None)

    def send_epoch(self, number):
        self.line("epoch", epoch=number, train={"loss": 1 / number, "accuracy": 0.5},
                  test={"loss": 1 / number, "accuracy": 0.75, "confusion": [[2, 0], [1, 1]], "softmax": [[0.25, 0.75]], "labels": [1]},
                  lr=0.1, seconds=0.5, images_per_second=100.0)

    def epoch(self):
        self.done_epochs += 1
        self.send_epoch(self.done_epochs)

    def rest(self):
        while self.done_epochs < self.epochs:
            self.epoch()

    def done(self):
        self.line("done", epochs=self.epochs)

    def progress(self, count):
        for step in range(count):
            self.line("progress", epoch=min(self.done_epochs + 1, self.epochs), epochs=self.epochs, phase="train", step=step, steps=count,
                      loss=0.5, images_per_second=10.0, seconds_left=1.0)

    def wait(self):
        while os.read(0, 4096):
            pass
        sys.exit(3)

    def keep(self):
        folder = os.path.join(self.start["dir"], "weights")
        os.makedirs(folder, exist_ok=True)
        open(os.path.join(folder, f"epoch-{self.done_epochs}.safetensors"), "w", encoding="ascii").close()

    def until(self, file):
        while not os.path.exists(os.path.join(self.start["dir"], "..", "..", file)):
            time.sleep(0.005)

    def fork(self):
        if os.fork() == 0:
            hang()

    def do(self, word):
        word, _, value = word.partition(":")
        simple = {
            "hello": self.hello, "hello2": lambda: self.hello(2), "epoch": self.epoch, "rest": self.rest, "done": self.done,
            "again": lambda: self.send_epoch(self.done_epochs), "skip": lambda: self.send_epoch(self.done_epochs + 2),
            "progress": lambda: self.progress(int(value)), "exit": lambda: os._exit(int(value)),
            "kill": lambda: os.kill(os.getpid(), int(value)), "garbage": lambda: self.write("what?\n"),
            "bytes": lambda: self.write('{"type": "\udcff"}\n'), "oversize": lambda: self.write("x" * ((1 << 20) + 5)),
            "half": lambda: self.write('{"type"'), "wait": self.wait, "hang": hang, "fork": self.fork, "keep": self.keep,
            "until": lambda: self.until(value), "say": lambda: print(value, file=sys.stderr, flush=True),
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
