#!/usr/bin/python3
"""Training speed of ResNet-20 against PyTorch, measured in turn in the same run; writes build/bench.json.

    bench.py [--rounds N] [--seconds S] [--threads T] [--model PRESET] [--batch N] [--eval] [--module PATH]

Each round runs ours and both layouts of the peer for every precision, one after the other, so that a busy or a slow machine meets
all of them; the medians over the rounds count, and the peer's better layout. The peer gets the allocator settings with which its
steps are fastest.
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
LAYOUTS = ("plain", "channels_last")
SHAPE = "3x32x32"

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
    def __init__(self, args):
        self.args = args
        self.environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
        self.peer_name = "PyTorch"

    def ours(self, mode, precision):
        a = self.args
        tail = [a.model, mode, precision, str(a.batch), str(a.threads), SHAPE, str(a.seconds)]
        return run([BUILD / "release/bench_train", a.module, *tail], self.environment)["images_per_second"]

    def peer(self, mode, precision, layout):
        a = self.args
        tail = [a.model, mode, precision, layout, str(a.batch), str(a.threads), str(a.seconds)]
        result = run([sys.executable, HERE / "peer_torch.py", *tail], self.environment | PEER_ENVIRONMENT)
        self.peer_name = result["name"]
        return result["images_per_second"]

    def measure(self, modes):
        """Images per second: {(mode, precision, who): [one of each round]}."""
        figures = {}
        for number in range(self.args.rounds):
            for mode in modes:
                for precision in ("f32", "bf16"):
                    turn = {"ours": self.ours(mode, precision)}
                    turn |= {layout: self.peer(mode, precision, layout) for layout in LAYOUTS}
                    for who, value in turn.items():
                        figures.setdefault((mode, precision, who), []).append(value)
                    text = ", ".join(f"{who} {value:.0f}" for who, value in turn.items())
                    print(f"round {number + 1}/{self.args.rounds}  {mode} {precision}: {text}", flush=True)
        return figures


def summarize(figures, model, peer_name):
    """The rows of bench.json."""
    rows = {}
    for mode, precision in dict.fromkeys((m, p) for m, p, _ in figures):
        ours = statistics.median(figures[mode, precision, "ours"])
        medians = {layout: statistics.median(figures[mode, precision, layout]) for layout in LAYOUTS}
        best = max(medians, key=medians.get)
        rows[f"{mode}.{model}.{precision}"] = {
            "ours": round(ours, 1),
            "peer": round(medians[best], 1),
            "ratio": round(ours / medians[best], 3),
            "peer_name": f"{peer_name} {best}",
        }
    return rows


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--eval", action="store_true", help="measure evaluation too")
    parser.add_argument("--module", default=BUILD / "release/backend-onednn.so")
    return parser.parse_args()


def main():
    args = arguments()
    if importlib.util.find_spec("torch") is None:
        sys.exit("bench: the peer is PyTorch, which is not installed: apt-get install python3-torch (or make deps-bench)")
    bench = Bench(args)
    figures = bench.measure(["train", "eval"] if args.eval else ["train"])
    rows = summarize(figures, args.model, bench.peer_name)
    print(f"\n{'images/s, batch ' + str(args.batch):28} {'ours':>8} {'peer':>8} {'ratio':>6}  peer")
    for name, row in rows.items():
        print(f"{name:28} {row['ours']:8.0f} {row['peer']:8.0f} {row['ratio']:6.2f}  {row['peer_name']}")
    part = BUILD / "bench.json.part"
    part.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    part.rename(BUILD / "bench.json")


if __name__ == "__main__":
    main()
