"""The client and the real daemon: what a student does, with real training of a tiny network."""
import json
import signal
import subprocess

import pytest
from conftest import BUILD, CLIENT, environment

DEADLINE = 120
TINY = {"dataset": "shapes", "model": "lenet5", "epochs": 2, "train_limit": 256, "test_limit": 100, "threads": 1}
ENDLESS = {**TINY, "epochs": 5000, "name": "endless"}


class Daemon:
    def __init__(self, folder):
        self.folder, self.process, self.url = folder, None, None
        self.start("127.0.0.1:0")

    def start(self, listen):
        with open(self.folder / "stderr", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([BUILD / "residuumd", "--data", self.folder / "data", "--listen", listen], stdout=subprocess.PIPE,
                                            stderr=log, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), (self.folder / "stderr").read_text()

    def kill_and_start_again(self):
        self.process.kill()
        self.process.communicate()
        self.start(self.url.removeprefix("http://"))

    def stop(self):
        self.process.terminate()
        try:
            self.process.communicate(timeout=30)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    server = Daemon(tmp_path_factory.mktemp("daemon"))
    yield server
    server.stop()


@pytest.fixture
def residuum(daemon):
    def run(*args, spec=None):
        return subprocess.run([CLIENT, *args], env=environment(RESIDUUM_SERVER=daemon.url), input=None if spec is None else json.dumps(spec),
                              stdin=subprocess.DEVNULL if spec is None else None, capture_output=True, text=True, timeout=DEADLINE, check=False)

    return run


@pytest.fixture
def begin(daemon):
    running = []

    def start(*args):
        running.append(subprocess.Popen([CLIENT, *args], env=environment(RESIDUUM_SERVER=daemon.url), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def line_with(file, text):
    for line in file:
        if text in line:
            return line
    raise AssertionError(f"{text!r} never came")


def submitted(residuum, spec):
    result = residuum("submit", "-", spec=spec)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_submit_and_watch_to_the_end(residuum):
    result = residuum("submit", "-", "--watch", "--name", "größte Übung", spec=TINY)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    job = lines[0]
    assert [line.split(":")[0] for line in lines if " done:" in line] == ["epoch 1/2 done", "epoch 2/2 done"]
    assert any(line.startswith("Test accuracy ") for line in lines) and any(line.startswith("checker") for line in lines)
    assert lines[-1].endswith(f"/#/jobs/{job}")
    shown = residuum("show", job).stdout
    assert "größte Übung" in shown and "succeeded" in shown and "momentum" in shown
    assert job in residuum("ls", "--state", "succeeded").stdout
    epochs = [json.loads(line) for line in residuum("epochs", job, "--json").stdout.splitlines()]
    assert [e["epoch"] for e in epochs] == [1, 2]
    for e in epochs:
        confusion = e["test"]["confusion"]
        assert sum(map(sum, confusion)) == 100
        assert abs(sum(confusion[i][i] for i in range(10)) / 100 - e["test"]["accuracy"]) < 1e-9
    watched = residuum("watch", job)
    assert watched.returncode == 0 and watched.stdout.splitlines()[-12:] == lines[-12:]
    assert "conv" in residuum("graph", job).stdout and residuum("graph", job, "--dot").stdout.startswith("digraph")
    assert residuum("log", job).stdout.strip()
    assert residuum("cancel", job).returncode == 5 and residuum("retry", job).returncode == 5
    assert residuum("rm", job).returncode == 0 and residuum("show", job).returncode == 4


def test_the_catalogue(residuum):
    for command, word in (("devices", "DEVICE"), ("datasets", "shapes"), ("presets", "resnet20"), ("version", "server")):
        result = residuum(command)
        assert result.returncode == 0 and word in result.stdout
        assert json.loads(residuum(command, "--json").stdout)


def test_dry_run(residuum):
    result = residuum("submit", "--dry-run", "-", spec={"dataset": "fashion-mnist", "model": "resnet20"})
    assert result.returncode == 0 and "469 steps an epoch" in result.stdout


def test_every_wrong_field_is_named(residuum):
    result = residuum("submit", "-", spec={"dataset": "shapes", "modle": "lenet5", "epochs": -1})
    assert result.returncode == 2 and "  /modle: " in result.stderr and '"model"' in result.stderr and "  /epochs: " in result.stderr
    result = residuum("ls", "--state", "quued")
    assert result.returncode == 2 and "queued" in result.stderr


def test_cancelling_ends_the_watching(residuum, begin):
    job = submitted(residuum, ENDLESS)
    watcher = begin("watch", job)
    line_with(watcher.stdout, "epoch 1/5000 done")
    assert residuum("cancel", job).returncode == 0
    _, stderr = watcher.communicate(timeout=DEADLINE)
    assert watcher.returncode == 1 and f"{job} was cancelled" in stderr


def test_watching_survives_a_killed_daemon(daemon, residuum, begin):
    job = submitted(residuum, ENDLESS)
    watcher = begin("watch", job, "--json")
    line_with(watcher.stdout, '"event":"epoch"')
    daemon.kill_and_start_again()
    line_with(watcher.stderr, "The connection is back.")
    line_with(watcher.stdout, '"event":"epoch"')
    residuum("cancel", job)
    stdout, _ = watcher.communicate(timeout=DEADLINE)
    assert watcher.returncode == 1 and json.loads(stdout.splitlines()[-1])["data"]["state"] == "cancelled"


def test_no_event_is_lost_or_repeated_over_restarts(daemon, residuum, begin):
    job = submitted(residuum, {**TINY, "epochs": 300})
    watcher = begin("watch", job, "--json")
    heard = []
    for line in watcher.stdout:
        heard.append(json.loads(line))
        epochs = [e for e in heard if e["event"] == "epoch"]
        if heard[-1]["event"] == "epoch" and len(epochs) in (5, 40):
            daemon.kill_and_start_again()
    assert watcher.wait(DEADLINE) == 0
    assert [e["data"]["epoch"] for e in heard if e["event"] == "epoch"] == list(range(1, 301))
    ids = [e["id"] for e in heard if e["id"] is not None]
    assert ids == sorted(set(ids))


def test_ctrl_c_leaves_the_job_running(residuum, begin):
    job = submitted(residuum, ENDLESS)
    watcher = begin("watch", job)
    line_with(watcher.stdout, " done:")
    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=DEADLINE)
    assert watcher.returncode == 130
    assert json.loads(residuum("show", job, "--json").stdout)["state"] == "running"
    residuum("cancel", job)


def test_a_queued_job_tells_its_place(residuum, begin):
    first, second, third = (submitted(residuum, ENDLESS) for _ in range(3))
    watcher = begin("watch", third)
    line_with(watcher.stdout, "queued, ")
    residuum("cancel", second)
    residuum("cancel", first)
    line_with(watcher.stdout, "epoch 1/5000")
    residuum("cancel", third)
    watcher.communicate(timeout=DEADLINE)
    assert watcher.returncode == 1


def test_sigterm_of_the_daemon_queues_the_job_again(daemon, residuum, begin):
    job = submitted(residuum, ENDLESS)
    watcher = begin("watch", job)
    line_with(watcher.stdout, " done:")
    daemon.stop()
    line_with(watcher.stderr, "is lost")
    daemon.start(daemon.url.removeprefix("http://"))
    line_with(watcher.stderr, "is back")
    line_with(watcher.stdout, " done:")
    residuum("cancel", job)
    watcher.communicate(timeout=DEADLINE)
    assert watcher.returncode == 1
