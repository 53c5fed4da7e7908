#!/usr/bin/python3
"""Speed and peak memory of training and evaluation against PyTorch, measured in turn in the same run; writes build/bench.json.

    bench.py [--rounds N] [--seconds S] [--threads T] [--batch N] [--models M,...] [--modes train,eval] [--precisions f32,bf16]
             [--module PATH]

Each round runs ours and the peer one after the other for every row, so that a busy or a slow machine meets both; the medians over
the rounds count. The first round tries every variant of the peer (both layouts; for evaluation TorchScript, frozen, too), the others
only those within a tenth of the best one, and the best one counts. The peer gets the allocator settings with which its steps are fastest. Memory is the peak resident set of the
whole process. The bars are what the project asks of itself; nothing fails when one is missed.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build"
LAYOUTS = {"train": ("plain", "channels_last"), "eval": ("plain", "channels_last", "frozen")}
NEAR = 0.9
SHAPE = "3x32x32"
MEMORY_BAR = 0.5

# At least so many times the peer's images a second.
SPEED_BARS = {
    ("train", "resnet20", "f32"): 1.5,
    ("train", "resnet20", "bf16"): 2.1,
    ("train", "resnet18", "f32"): 1.5,
    ("train", "resnet18", "bf16"): 1.35,
    ("eval", "resnet20", "f32"): 1.2,
    ("eval", "resnet20", "bf16"): 1.5,
    ("eval", "resnet18", "f32"): 1.2,
    ("eval", "resnet18", "bf16"): 1.5,
}

PEER_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def run(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))} failed:\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


class Bench:
    """Measures rows (mode, model, precision)."""

    def __init__(self, args):
        self.args = args
        self.environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
        self.peer_name = "PyTorch"

    def ours(self, row):
        a, (mode, model, precision) = self.args, row
        tail = [model, mode, precision, str(a.batch), str(a.threads), SHAPE, str(a.seconds)]
        return run([BUILD / "release/bench_train", a.module, *tail], self.environment)

    def peer(self, row, layout):
        a, (mode, model, precision) = self.args, row
        tail = [model, mode, precision, layout, str(a.batch), str(a.threads), str(a.seconds)]
        result = run([sys.executable, HERE / "peer_torch.py", *tail], self.environment | PEER_ENVIRONMENT)
        self.peer_name = result["name"]
        return result

    def turn(self, row, layouts):
        """One run of ours and of each layout: {who: {"images_per_second", "rss_mb"}}."""
        return {"ours": self.ours(row)} | {layout: self.peer(row, layout) for layout in layouts}

    def measure(self, rows):
        """{row: {who: [results of the rounds]}}."""
        figures = {row: {} for row in rows}
        layouts = {row: LAYOUTS[row[0]] for row in rows}
        for number in range(self.args.rounds):
            for row in rows:
                turn = self.turn(row, layouts[row])
                for who, result in turn.items():
                    figures[row].setdefault(who, []).append(result)
                text = ", ".join(f"{who} {result['images_per_second']:.0f}" for who, result in turn.items())
                print(f"round {number + 1}/{self.args.rounds}  {' '.join(row)}: {text}", flush=True)
                best = max(turn[layout]["images_per_second"] for layout in layouts[row])
                layouts[row] = [w for w in layouts[row] if turn[w]["images_per_second"] >= NEAR * best]
        return figures


def median(results, key):
    return statistics.median(result[key] for result in results)


def summarize(row, results, peer_name):
    """The row of bench.json."""
    # a layout that the first round left out has fewer results, and was slower
    layout = max((who for who in results if who != "ours"), key=lambda who: median(results[who], "images_per_second"))
    ours, peer = results["ours"], results[layout]
    speeds = [median(who, "images_per_second") for who in (ours, peer)]
    sizes = [median(who, "rss_mb") for who in (ours, peer)]
    return {
        "ours": round(speeds[0], 1),
        "peer": round(speeds[1], 1),
        "ratio": round(speeds[0] / speeds[1], 3),
        "bar": SPEED_BARS.get(row),
        "ours_mb": round(sizes[0]),
        "peer_mb": round(sizes[1]),
        "memory_ratio": round(sizes[0] / sizes[1], 3),
        "memory_bar": MEMORY_BAR,
        "peer_name": f"{peer_name} {layout}",
    }


def show(rows, batch):
    print(f"\n{'batch ' + str(batch):22} {'images/s':>17} {'ratio':>7} {'bar':>8} {'peak MB':>13} {'ratio':>6} {'bar':>8}  peer")
    for name, r in rows.items():
        bar = f">= {r['bar']:.2f}" if r["bar"] else ""
        speed = f"{r['ours']:8.0f} {r['peer']:8.0f} {r['ratio']:7.2f} {bar:>8}"
        memory = f"{r['ours_mb']:6.0f} {r['peer_mb']:6.0f} {r['memory_ratio']:6.2f} {'<= %.2f' % r['memory_bar']:>8}"
        print(f"{name:22} {speed} {memory}  {r['peer_name']}")


def words(text):
    return text.split(",")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--models", type=words, default=["resnet20", "resnet18"])
    parser.add_argument("--modes", type=words, default=["train", "eval"])
    parser.add_argument("--precisions", type=words, default=["f32", "bf16"])
    parser.add_argument("--module", default=BUILD / "release/backend-onednn.so")
    return parser.parse_args()


def main():
    args = arguments()
    if importlib.util.find_spec("torch") is None:
        sys.exit("bench: the peer is PyTorch, which is not installed: apt-get install python3-torch (or make deps-bench)")
    bench = Bench(args)
    figures = bench.measure([(mode, model, p) for model in args.models for mode in args.modes for p in args.precisions])
    rows = {".".join(row): summarize(row, results, bench.peer_name) for row, results in figures.items()}
    show(rows, args.batch)
    part = BUILD / "bench.json.part"
    part.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    part.rename(BUILD / "bench.json")


if __name__ == "__main__":
    main()
