#!/usr/bin/python3
"""How long an import takes, beside a bare loop of libjpeg-turbo decodes over the same archive; writes build/bench-import.json.

    import.py [--rounds N] [ARCHIVE]

The archive is by default ../shared/data/cifar10-jpeg.tar.zst (60,000 JPEGs, a folder a class); without it nothing is measured. Both
run in turn, so that a busy or a slow machine meets both; the medians count. Then Debian's Fashion-MNIST, where it is installed. The
bars are what the project asks of itself; nothing fails when one is missed.
"""

import argparse
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
ARCHIVE = ROOT.parent / "shared" / "data" / "cifar10-jpeg.tar.zst"
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
PROTOCOL = int(re.search(r"EVENT_PROTOCOL = (\d+)", (ROOT / "common/event.h").read_text())[1])
SECONDS_BAR, RATIO_BAR = 60, 1.5


def imported(source):
    """(seconds, images) of one import, from the start of the process to its end."""
    out = tempfile.mkdtemp(prefix="residuum-import-")
    line = {"protocol": PROTOCOL, "source": str(source), "out": out, "name": "bench",
            "options": {"size": None, "fit": "crop", "channels": None, "test_fraction": 0.2, "seed": 1, "skip_damaged": False},
            "limits": {"bytes": 1 << 34, "entries": 1 << 20, "ratio": 200, "images": 1 << 20, "seconds": 600}}
    begin = time.monotonic()
    with subprocess.Popen([BUILD / "release/residuum-worker", "--import"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as worker:
        worker.stdin.write(json.dumps(line) + "\n")
        worker.stdin.flush()
        last = json.loads(worker.stdout.read().splitlines()[-1])
        log = worker.stderr.read()
    seconds = time.monotonic() - begin
    shutil.rmtree(out)
    if last["type"] != "imported":
        sys.exit(f"import: {source} failed:\n{log}")
    return seconds, last["card"]["train"]["images"] + last["card"]["test"]["images"]


def decoded(source):
    done = subprocess.run([BUILD / "release/import_decode", source], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["seconds"]


def verdict(value, bar):
    return "ok" if value <= bar else "missed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("archive", nargs="?", default=ARCHIVE, type=pathlib.Path)
    args = parser.parse_args()
    report = {}
    if args.archive.exists():
        rounds = [(imported(args.archive), decoded(args.archive)) for _ in range(args.rounds)]
        ours, bare = statistics.median(r[0][0] for r in rounds), statistics.median(r[1] for r in rounds)
        report["archive"] = {"name": args.archive.name, "images": rounds[0][0][1], "seconds": ours, "decode_seconds": bare,
                             "ratio": ours / bare}
        print(f"import of {args.archive.name}: {rounds[0][0][1]} images in {ours:.2f} s (bar {SECONDS_BAR}: "
              f"{verdict(ours, SECONDS_BAR)}); bare loop of decodes {bare:.2f} s, ratio {ours / bare:.2f} (bar {RATIO_BAR}: "
              f"{verdict(ours / bare, RATIO_BAR)})")
    else:
        print(f"import: {args.archive} is not there, nothing to measure")
    if FASHION.exists():
        runs = [imported(FASHION) for _ in range(args.rounds)]
        report["fashion-mnist"] = {"images": runs[0][1], "seconds": statistics.median(r[0] for r in runs)}
        print(f"import of Fashion-MNIST's IDX files: {runs[0][1]} images in {report['fashion-mnist']['seconds']:.2f} s")
    (BUILD / "bench-import.json").write_text(json.dumps(report, indent=2) + "\n")


main()
