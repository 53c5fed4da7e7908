"""Fixtures of the client's tests: a fake server, the program run against it or against any server."""
import functools
import subprocess
import threading

import pytest
from fake import Fake
from kit import CLASSES, CLIENT, LIMIT, PATH, environment


@pytest.fixture
def fake():
    server = Fake()
    server.on("GET", "/v1/datasets", {"items": [{"name": "fashion-mnist", "title": "Fashion-MNIST", "source": "x", "shape": [1, 28, 28],
                                                 "classes": CLASSES, "train_images": 60000, "test_images": 10000, "available": True,
                                                 "reason": None}]})
    server.on("GET", PATH + "/epochs", {"items": [], "next": None})
    yield server
    server.close()


@pytest.fixture
def client(fake):
    """client("ls", "--json") runs the program against the fake; the result has returncode, stdout, stderr."""

    def run(*args, stdin=None, url=None, **changes):
        env = environment(RESIDUUM_SERVER=url or fake.url, **changes)
        return subprocess.run([CLIENT, *args], input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, env=env,
                              capture_output=True, text=True, timeout=LIMIT, check=False)

    return run


@pytest.fixture
def begin():
    """begin(url, "watch", ...) runs the program without waiting for its end: a Popen with text pipes. It is killed after LIMIT, so that
    a test that reads what never comes fails."""
    running = []

    def run(url, *args):
        process = subprocess.Popen([CLIENT, *args], env=environment(RESIDUUM_SERVER=url), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
        timer = threading.Timer(LIMIT, process.kill)
        timer.start()
        running.append((process, timer))
        return process

    yield run
    for process, timer in running:
        timer.cancel()
        process.kill()
        process.communicate()


@pytest.fixture
def start(fake, begin):
    """The same with the fake as its server."""
    return functools.partial(begin, fake.url)
