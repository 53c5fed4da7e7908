"""The real daemon as tests use it: start, stop, kill, ask, stream. Used through the fixtures of conftest.py."""
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / (os.environ.get("RESIDUUM_BUILD") or "build/release")
SLOWER = 6 if BUILD.name == "asan" else 1  # deadlines, not work
FAST = {"dataset": "shapes", "model": "lenet5", "train_limit": 512, "test_limit": 256, "epochs": 2, "threads": 1}
ENDED = ("succeeded", "failed", "cancelled")
SANITIZER = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:")


def until(condition, seconds=30, what="the condition"):
    """Polls until condition() is true and returns its value; fails after the deadline."""
    deadline = time.monotonic() + seconds * SLOWER
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds * SLOWER} s for {what}"
        time.sleep(0.02)


def gone(pid):
    """Whether a process has ended; a zombie, whose new parent has not looked yet, counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Daemon:
    """One data directory and the daemon on it. Requests go through get, post, delete (requests.Response)."""

    def __init__(self, folder, *args, listen="127.0.0.1:0", env=None, prefix=()):
        self.folder, self.args, self.listen, self.env = Path(folder), args, listen, env or {}
        if BUILD.name == "asan" and "--worker" not in args:
            self.args = ("--worker", ROOT / "tests" / "asan-worker", *args)
            self.env = {"RESIDUUM_ASAN_WORKER": str(BUILD / "residuum-worker"), **self.env}
        self.prefix = prefix  # of the command line: a program that sets a stage and execs the rest
        self.data, self.log_path = self.folder / "data", self.folder / "stderr"
        self.process = self.url = self.session = None

    def start(self):
        begin = time.monotonic()
        argv = [*self.prefix, BUILD / "residuumd", "--data", self.data, "--listen", self.listen, *self.args]
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                                            env={**os.environ, **self.env})
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), self.log()
        self.ready_seconds = time.monotonic() - begin
        self.session = requests.Session()
        self.session.trust_env = False
        return self

    def start_again(self):
        """On the same address, as a restarted service."""
        self.listen = self.url.removeprefix("http://")
        return self.start()

    def log(self):
        return self.log_path.read_text(encoding="utf-8") if self.log_path.exists() else ""

    def close(self):
        if self.session is not None:
            self.session.close()
        if self.process is not None:
            self.process.stdout.close()
        self.process = self.session = None

    def stop(self, seconds=30):
        """SIGTERM; the daemon must end with 0 and without a sanitizer's report."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds * SLOWER)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.close()
        assert code == 0, f"exit code {code}\n{self.log()[-4000:]}"
        assert not SANITIZER.search(self.log()), self.log()[-8000:]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.close()

    # --- HTTP ---

    @property
    def host(self):
        return self.url.removeprefix("http://")

    def request(self, method, path, **options):
        return self.session.request(method, self.url + path, timeout=30 * SLOWER, **options)

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, json=None, **options):  # pylint: disable=redefined-outer-name
        return self.request("POST", path, json=json, **options)

    def delete(self, path, **options):
        return self.request("DELETE", path, **options)

    def submit(self, spec=None, **changes):
        """Queues FAST (or spec) with changes; the job."""
        answer = self.post("/v1/jobs", {**(spec or FAST), **changes})
        assert answer.status_code == 202, answer.text
        return answer.json()

    def job(self, job):
        answer = self.get(f"/v1/jobs/{job if isinstance(job, str) else job['id']}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for(self, job, *states, seconds=60):
        """The job once it is in one of the states (default: ended)."""
        wanted = states or ENDED

        def there():
            found = self.job(job)
            assert found["state"] in wanted or found["state"] not in ENDED, f"ended otherwise: {found['state']}, {found['reason']}"
            return found if found["state"] in wanted else None

        return until(there, seconds, f"a job to be {' or '.join(wanted)}")

    def wait_for_probe(self):
        until(lambda: self.get("/v1/devices").json()["state"] != "probing", 60, "the probe")

    def stream(self, query="", **headers):
        return Stream(self.host, query, headers)

    # --- what the kernel counts ---

    def children(self):
        """Process ids of the workers."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]

    def rss_bytes(self):
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1)) * 1024

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Stream:
    """One client of /v1/events: events are dicts {"id", "event", "data"}; comments are kept apart. Parses chunks itself, so that
    hundreds can be read by one loop (pump)."""

    def __init__(self, host, query="", headers=None):
        name, port = host.rsplit(":", 1)
        self.socket = socket.create_connection((name, int(port)), timeout=30)
        lines = [f"GET /v1/events{query} HTTP/1.1", f"Host: {host}", *(f"{k.replace('_', '-')}: {v}" for k, v in (headers or {}).items())]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.socket.setblocking(False)
        self.raw, self.text, self.head, self.status = b"", b"", None, None
        self.events, self.comments, self.retry, self.ended = [], [], None, False

    @property
    def last_id(self):
        return self.events[-1]["id"] if self.events else None

    def close(self):
        self.socket.close()

    def feed(self):
        """Takes what has arrived."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
            return
        self.raw += data
        if self.head is None:
            if b"\r\n\r\n" not in self.raw:
                return
            head, self.raw = self.raw.split(b"\r\n\r\n", 1)
            self.head = head.decode()
            self.status = int(self.head.split()[1])
        if "transfer-encoding: chunked" in self.head.lower():
            self.unchunk()
        else:
            self.text, self.raw = self.text + self.raw, b""
        self.parse()

    def unchunk(self):
        start = 0
        while True:
            line = self.raw.find(b"\r\n", start)
            if line < 0:
                break
            size = int(self.raw[start:line], 16)
            if len(self.raw) < line + 4 + size:
                break
            if size == 0:
                self.ended = True
            self.text += self.raw[line + 2:line + 2 + size]
            start = line + 4 + size
        self.raw = self.raw[start:]

    def parse(self):
        while b"\n\n" in self.text:
            block, self.text = self.text.split(b"\n\n", 1)
            event = {}
            for line in block.decode().split("\n"):
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "":
                    self.comments.append(value)
                elif field == "retry":
                    self.retry = int(value)
                else:
                    assert field in ("id", "event", "data") and field not in event, line
                    event[field] = value
            if event:
                self.events.append({"id": int(event["id"]), "event": event["event"], "data": json.loads(event["data"])})

    def wait(self, condition, seconds=30):
        """Reads until condition(self) is true; returns self."""
        pump([self], lambda: condition(self), seconds)
        return self


def pump(streams, done, seconds=60):
    """Reads all streams until done(); fails after the deadline. A stream that ends is left out."""
    deadline = time.monotonic() + seconds * SLOWER
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            if not stream.ended:
                selector.register(stream.socket, selectors.EVENT_READ, stream)
        while not done():
            assert time.monotonic() < deadline, f"waited {seconds * SLOWER} s for events"
            for key, _ in selector.select(0.2):
                key.data.feed()
                if key.data.ended:
                    selector.unregister(key.data.socket)
