#!/usr/bin/python3
"""What the service adds to training, on this machine; writes build/bench-service.json.

    service.py [start|cost] [--rounds N] [--images N] [--epochs N] [--precision P]

start: seconds from POST /v1/jobs to the job's first "progress" in an open stream, on an idle daemon; the median of the rounds.
cost:  the same training by the bare worker, in the daemon with a stream open, and in the daemon with the job's page open in Chromium, in
       turn; images per second from the end of the first epoch, in which the page opens, to that of the last one, as whoever reads the
       events sees it, and ratios to the bare worker.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from service import BUILD, ENDED, ROOT, Daemon, until  # noqa: E402  pylint: disable=wrong-import-position

STARTS = {
    "fashion-mnist resnet20": {"dataset": "fashion-mnist", "model": "resnet20", "epochs": 1},
    "shapes resnet20": {"dataset": "shapes", "model": "resnet20", "epochs": 1},
}
NICE = 10  # of the daemon's workers, so that the bare one runs under the same conditions
PATIENCE = 600


def first(job, kind):
    return lambda stream: any(e["event"] == kind and e["data"].get("job") == job for e in stream.events)


# --- start ---


def children_seconds(daemon):
    """Processor time of the daemon and its children: still while all are idle."""
    total = daemon.cpu_seconds()
    for child in daemon.children():
        try:
            fields = pathlib.Path(f"/proc/{child}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def wait_until_idle(daemon):
    def still():
        before = children_seconds(daemon)
        time.sleep(0.3)
        return children_seconds(daemon) == before

    until(still, 60, "an idle daemon")


def start_once(daemon, spec):
    wait_until_idle(daemon)
    with_stream = daemon.stream()
    with_stream.wait(lambda s: s.status == 200)
    begin = time.monotonic()
    job = daemon.submit(spec)
    with_stream.wait(first(job["id"], "progress"), PATIENCE)
    seconds = time.monotonic() - begin
    with_stream.close()
    daemon.post(f"/v1/jobs/{job['id']}/cancel")
    daemon.wait_for(job, seconds=PATIENCE)
    return seconds


def measure_start(args, folder):
    rows = {}
    daemon = Daemon(folder).start()
    daemon.wait_for_probe()
    for name, spec in STARTS.items():
        figures = [start_once(daemon, spec) for _ in range(args.rounds)]
        rows[f"start {name}"] = {"seconds": round(statistics.median(figures), 3), "all": [round(f, 3) for f in figures]}
        print(f"start {name:24} {statistics.median(figures):6.3f} s  of {', '.join(f'{f:.3f}' for f in sorted(figures))}", flush=True)
    daemon.stop()
    return rows


# --- cost ---


def bare(folder, spec):
    """Seconds from the first to the last epoch event of a worker whose lines we read ourselves."""
    line = {"protocol": protocol(), "job": "job_bare", "attempt": 1, "dir": str(folder), "epochs_known": 0, "spec": spec}
    with open(folder / "log", "wb") as log, subprocess.Popen(
            ["nice", "-n", str(NICE), BUILD / "residuum-worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as worker:
        worker.stdin.write(json.dumps(line).encode() + b"\n")
        worker.stdin.flush()
        seen = []
        for text in worker.stdout:
            kind = json.loads(text)["type"]
            if kind == "error":
                sys.exit(f"bench: the worker failed: {text.decode()}")
            if kind == "epoch":
                seen.append(time.monotonic())
    return seen[-1] - seen[0]


def protocol():
    """The number that daemon and worker of this build speak."""
    probe = subprocess.run([BUILD / "residuum-worker", "--probe"], capture_output=True, check=True)
    return json.loads(probe.stdout)["protocol"]


def in_daemon(folder, spec, browser):
    """The same seconds, as a client of the daemon's stream sees them."""
    daemon, page = Daemon(folder).start(), None
    try:
        daemon.wait_for_probe()
        stream = daemon.stream()
        wait_until_idle(daemon)
        job = daemon.submit(spec)
        if browser:
            page = open_page(f"{daemon.url}/#/jobs/{job['id']}", folder)
        seen = epoch_times(stream)
        assert daemon.job(job)["state"] == "succeeded", daemon.job(job)
        assert f"residuum_sse_streams_total {2 if browser else 1}\n" in daemon.get("/metrics").text, "the page was not open"
        stream.close()
        return seen[-1] - seen[0]
    finally:
        if page is not None:
            page.kill()
            page.wait()
        daemon.stop()


def epoch_times(stream):
    seen, epochs = [], []

    def ended(source):
        for event in source.events[len(seen):]:
            seen.append(event)
            if event["event"] == "epoch":
                epochs.append(time.monotonic())
        return seen and seen[-1]["data"].get("state") in ENDED

    stream.wait(ended, PATIENCE)
    return epochs


def open_page(url, folder):
    """A page of the dashboard in a headless browser, which draws every event."""
    argv = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}/browser"]
    return subprocess.Popen([*argv, url], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cost_spec(args):
    return {"dataset": "fashion-mnist", "model": "resnet20", "epochs": args.epochs, "precision": args.precision, "batch_size": 128,
            "train_limit": args.images, "test_limit": 2000, "threads": len(os.sched_getaffinity(0)), "backend": "onednn"}


def measure_cost(args, folder):
    ways = {"bare worker": bare, "with a stream": lambda f, s: in_daemon(f, s, False)}
    if shutil.which("chromium"):
        ways["with Chromium"] = lambda f, s: in_daemon(f, s, True)
    figures = {way: [] for way in ways}
    for number in range(args.rounds):
        for way, run in ways.items():
            place = folder / f"{number} {way}"
            place.mkdir()
            figures[way].append(args.images * (args.epochs - 1) / run(place, cost_spec(args)))
        print(f"round {number + 1}/{args.rounds}  " + ", ".join(f"{way} {figures[way][-1]:.0f}" for way in ways), flush=True)
    base, rows = statistics.median(figures["bare worker"]), {}
    for way, speeds in figures.items():
        rows[f"cost {way}"] = {"images_per_second": round(statistics.median(speeds), 1), "ratio": round(statistics.median(speeds) / base, 4)}
        print(f"cost {way:24} {statistics.median(speeds):6.0f} images/s  ratio {statistics.median(speeds) / base:.3f}")
    return rows


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("start", "cost"), help="default: both")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=12800, help="training images of an epoch")
    parser.add_argument("--epochs", type=int, default=3, help="at least 2")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    return parser.parse_args()


def main():
    args, rows = arguments(), {}
    with tempfile.TemporaryDirectory(prefix="residuum-bench-") as name:
        folder = pathlib.Path(name)
        for what, measure in (("start", measure_start), ("cost", measure_cost)):
            if args.what in (None, what):
                (folder / what).mkdir()
                rows |= measure(args, folder / what)
    part = ROOT / "build/bench-service.json.part"
    part.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    part.rename(ROOT / "build/bench-service.json")


if __name__ == "__main__":
    main()
