#!/usr/bin/env python3
"""Trains ResNet-20 on Fashion-MNIST through the real daemon, several seeds and precisions, and prints the test accuracies.

Usage: accuracy.py [--epochs 5] [--seeds 1,2] [--precisions f32,bf16] [--bar 0.917] [--out build/accuracy.json]
Exits with 1 when a precision's mean falls below the bar. PyTorch's figures for the same recipe: README, "Figures"."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

BUILD = os.environ.get("RESIDUUM_BUILD", "build/release")


def call(url, body=None):
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def follow(server, job_id):
    """Prints a line per epoch as it comes and returns the ended job."""
    request = urllib.request.Request(f"{server}/v1/events?job={job_id}&after=0")
    with urllib.request.urlopen(request, timeout=600) as stream:
        kind = None
        for line in stream:
            line = line.decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: ") and kind == "epoch":
                epoch = json.loads(line[6:])
                print(f"  epoch {epoch['epoch']}: train loss {epoch['train']['loss']:.4f}, test accuracy "
                      f"{epoch['test']['accuracy']:.4f}, {epoch['images_per_second']:.0f} images/s, "
                      f"{epoch['seconds']:.1f} s", flush=True)
            elif line.startswith("data: ") and kind == "job":
                job = json.loads(line[6:])
                if job["state"] in ("succeeded", "failed", "cancelled"):
                    return job
    raise SystemExit("the stream ended before the job did")


def train(server, epochs, seed, precision):
    job = call(f"{server}/v1/jobs", {"name": f"accuracy {precision} seed {seed}", "dataset": "fashion-mnist",
                                     "model": "resnet20", "epochs": epochs, "seed": seed, "precision": precision})
    print(f"{precision}, seed {seed}: {job['id']}", flush=True)
    ended = follow(server, job["id"])
    if ended["state"] != "succeeded":
        raise SystemExit(f"the job {ended['state']}: {ended['reason']}")
    return call(f"{server}/v1/jobs/{job['id']}/epochs/last")


def wait_for_devices(server):
    deadline = time.monotonic() + 60
    while call(f"{server}/v1/devices")["state"] == "probing":
        if time.monotonic() > deadline:
            raise SystemExit("the devices were not probed within 60 s")
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--precisions", default="f32,bf16")
    parser.add_argument("--bar", type=float, default=0.917)
    parser.add_argument("--out", default="build/accuracy.json")
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as data:
        daemon = subprocess.Popen([f"{BUILD}/residuumd", "--data", data, "--listen", "127.0.0.1:0"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            server = daemon.stdout.readline().strip()
            wait_for_devices(server)
            for precision in args.precisions.split(","):
                epochs = [train(server, args.epochs, int(seed), precision) for seed in args.seeds.split(",")]
                results[precision] = {"accuracies": [e["test"]["accuracy"] for e in epochs],
                                      "mean": statistics.mean(e["test"]["accuracy"] for e in epochs),
                                      "images_per_second": [e["images_per_second"] for e in epochs]}
        finally:
            daemon.terminate()
            daemon.wait(60)
    with open(args.out, "w") as file:
        json.dump({"epochs": args.epochs, "seeds": args.seeds, "results": results}, file, indent=1)
    for precision, result in results.items():
        print(f"{precision}: mean {result['mean']:.4f} of {result['accuracies']}")
    return 1 if any(result["mean"] < args.bar for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
