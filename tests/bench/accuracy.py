#!/usr/bin/python3
"""Accuracy beside PyTorch's, and what makes a deep plain network hard to train; writes tests/bench/ACCURACY.md.

    accuracy.py [--part recipe|deep] [--only ours|peer] [--epochs 5,15] [--precisions bf16,f32] [--seeds 1,2,3] [--threads T]
                [--train-limit N] [--report]

Part "recipe": ResNet-20 on Fashion-MNIST through the real daemon and, with the same recipe, by peer_accuracy.py; several seeds. Part
"deep": plain-56 and ResNet-56, with the gradient norms of their layers. Each finished run is kept in build/accuracy.json and not run
again, so that the script can be stopped at any time and started again for the rest. --report only writes the page. With a train
limit, for trying the script, runs are kept beside the others and the page is left alone.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from accuracy_page import write_page
from bench import PEER_ENVIRONMENT

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("RESIDUUM_BUILD") or HERE.parent.parent / "build/release")
STORE = HERE.parent.parent / "build/accuracy.json"

# The runs of part "recipe": epochs and precision. f32 takes twice the time of bf16.
RECIPE = [(5, "bf16"), (5, "f32"), (15, "bf16")]
DEEP = ["plain56", "resnet56"]
DEEP_EPOCHS, DEEP_LIMIT = 4, 30000  # images: half of the training set


class Store:
    """Finished runs by name, on disk after each."""

    def __init__(self, path):
        self.path = path
        self.runs = json.loads(path.read_text()).get("runs", {}) if path.exists() else {}

    def once(self, name, make):
        if name in self.runs:
            print(f"{name}: kept from before", flush=True)
            return
        print(f"{name}: running", flush=True)
        start = time.monotonic()
        self.runs[name] = make()
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"runs": self.runs}, indent=1) + "\n")
        part.rename(self.path)


class Service:
    """The real daemon in a directory of its own, started with the first job."""

    def __init__(self):
        self.process, self.directory, self.url = None, None, None

    def call(self, path, body=None):
        request = urllib.request.Request(self.url + path, data=None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def start(self):
        self.directory = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen([BUILD / "residuumd", "--data", self.directory.name, "--listen", "127.0.0.1:0"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().strip()
        deadline = time.monotonic() + 60
        while self.call("/v1/devices")["state"] == "probing":
            if time.monotonic() > deadline:
                sys.exit("accuracy: the devices were not probed within 60 s")
            time.sleep(0.1)

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.directory.cleanup()

    def follow(self, job_id):
        """Prints a line per epoch as it comes and returns the ended job."""
        with urllib.request.urlopen(f"{self.url}/v1/events?job={job_id}&after=0", timeout=600) as stream:
            kind = None
            for line in stream:
                field, _, text = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    kind = text
                elif field == "data" and kind == "epoch":
                    epoch = json.loads(text)
                    print(f"  epoch {epoch['epoch']}: train loss {epoch['train']['loss']:.4f}, test accuracy "
                          f"{epoch['test']['accuracy']:.4f}, {epoch['images_per_second']:.0f} images/s", flush=True)
                elif field == "data" and kind == "job" and json.loads(text)["state"] in ("succeeded", "failed", "cancelled"):
                    return json.loads(text)
        sys.exit("accuracy: the stream ended before the job did")

    def train(self, document):
        """Trains a job to its end and returns what its epochs recorded."""
        if self.process is None:
            self.start()
        ended = self.follow(self.call("/v1/jobs", document)["id"])
        if ended["state"] != "succeeded":
            sys.exit(f"accuracy: the job {ended['state']}: {ended['reason']}")
        return self.call(f"/v1/jobs/{ended['id']}/epochs")["items"]


def document(args, model, epochs, seed, precision):
    """Residuum's defaults for Fashion-MNIST, said in full: this is the recipe of peer_accuracy.py."""
    return {"name": f"accuracy {model} {precision} seed {seed}", "dataset": "fashion-mnist", "model": model, "epochs": epochs, "seed": seed,
            "precision": precision, "pad": 2, "batch_size": 128, "threads": args.threads, "train_limit": args.train_limit,
            "optimizer": {"kind": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
            "schedule": {"kind": "one_cycle", "lr": 0.1}, "augment": {"crop": 4, "flip": True}}


def run_ours(args, service, epochs, seed, precision):
    items = service.train(document(args, "resnet20", epochs, seed, precision))
    return {"accuracies": [e["test"]["accuracy"] for e in items], "losses": [e["test"]["loss"] for e in items],
            "seconds": sum(e["seconds"] for e in items),
            "images_per_second": statistics.median(e["images_per_second"] for e in items), "name": backend_name(service)}


def backend_name(service):
    backend = service.call("/v1/devices")["items"][0]["backends"][0]
    return f"{backend['name']} {backend['version']}"


def run_peer(args, epochs, seed, precision):
    command = [sys.executable, HERE / "peer_accuracy.py", epochs, seed, precision, args.threads]
    done = subprocess.run(list(map(str, command)), env=os.environ | PEER_ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_deep(args, service, model):
    job = document(args, model, DEEP_EPOCHS, 1, "bf16") | {"train_limit": args.train_limit or DEEP_LIMIT}
    return [{"train": e["train"], "test": {k: e["test"][k] for k in ("loss", "accuracy")}, "weights": e["layers"]["weights"]}
            for e in service.train(job)]


def run_all(args, store):
    service = Service()
    limited = f" limit {args.train_limit}" if args.train_limit else ""
    try:
        for epochs, precision in [r for r in RECIPE if r[0] in args.epochs and r[1] in args.precisions] if args.part != "deep" else []:
            for seed in args.seeds:
                key = f"{epochs} {precision} {seed}{limited}"
                if args.only != "peer":
                    store.once(f"ours {key}", lambda: run_ours(args, service, epochs, seed, precision))
                if args.only != "ours" and not limited:
                    store.once(f"peer {key}", lambda: run_peer(args, epochs, seed, precision))
        for model in DEEP if args.part != "recipe" and args.only != "peer" else []:
            store.once(f"deep {model}{limited}", lambda: run_deep(args, service, model))
    finally:
        service.stop()


def numbers(text):
    return [int(n) for n in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["recipe", "deep"])
    parser.add_argument("--only", choices=["ours", "peer"])
    parser.add_argument("--epochs", type=numbers, default=[5, 15])
    parser.add_argument("--precisions", type=lambda text: text.split(","), default=["bf16", "f32"])
    parser.add_argument("--seeds", type=numbers, default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--train-limit", type=int, default=0)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    store = Store(STORE)
    if not args.report:
        run_all(args, store)
    if not args.train_limit:
        write_page(HERE / "ACCURACY.md", store.runs, RECIPE, DEEP, (DEEP_EPOCHS, DEEP_LIMIT), time.strftime("%Y-%m-%d"))


if __name__ == "__main__":
    main()
