"""The client and the real daemon: what a student does, with real training of a tiny network."""
import functools
import json
import signal
import subprocess

import pytest
from kit import CLIENT, LIMIT, environment, lines_until

TINY = {"dataset": "shapes", "model": "lenet5", "epochs": 2, "train_limit": 256, "test_limit": 100, "threads": 1}
ENDLESS = {**TINY, "epochs": 5000, "name": "endless"}


@pytest.fixture
def residuum(service):
    """residuum("ls", "--json") runs the client to its end; spec goes to its standard input."""

    def run(*args, spec=None):
        return subprocess.run([CLIENT, *args], env=environment(RESIDUUM_SERVER=service.url), input=None if spec is None else json.dumps(spec),
                              stdin=subprocess.DEVNULL if spec is None else None, capture_output=True, text=True, timeout=LIMIT, check=False)

    return run


@pytest.fixture
def watch(service, begin):
    return functools.partial(begin, service.url, "watch")


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


def test_what_a_job_leaves(residuum, tmp_path):
    """Report, weights, predictions, receipt, the network to edit, and the same bits again."""
    job = submitted(residuum, {**TINY, "validation_fraction": 0.25})
    assert residuum("watch", job).returncode == 0
    assert "checker" in residuum("report", job).stdout and "MISTAKES" in residuum("report", job, "--epoch", "1").stdout
    assert "last" in residuum("weights", job).stdout
    for args, name in ((("weights", job, "best"), "best"), (("predictions", job), "predictions")):
        assert residuum(*args, "--output", str(tmp_path / name)).returncode == 0
        assert b'"dtype"' in (tmp_path / name).read_bytes()[:4000]
    assert len(residuum("predictions", job, "--limit", "100", "--json").stdout.splitlines()) == 100
    edited = json.loads(residuum("graph", job, "--layers").stdout)
    assert residuum("submit", "-", "--dry-run", spec={**TINY, "model": edited}).returncode == 0
    verified = residuum("verify", job)
    assert verified.returncode == 0 and verified.stdout.splitlines()[-1] == "identical: the weights are the same after each of 2 epochs"
    hashes = [json.loads(residuum("receipt", j, "--json").stdout)["epochs"][-1]["weights_sha256"]
              for j in (job, verified.stderr.split(" runs ")[0])]
    assert hashes[0] == hashes[1] and hashes[0] in residuum("receipt", job).stdout


def test_the_catalogue(residuum):
    for command, word in (("devices", "cpu"), ("datasets", "shapes"), ("presets", "resnet20"), ("version", "server")):
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


def test_ls_follows_the_pages_of_the_server(residuum, service):
    for i in range(3):
        service.submit({**ENDLESS, "name": f"page {i}"})
    listed = [json.loads(line) for line in residuum("ls", "--json", "--state", "queued,starting,running").stdout.splitlines()]
    assert [job["name"] for job in listed] == ["page 2", "page 1", "page 0"]
    assert residuum("ls", "--limit", "2").stdout.count("job_") == 2
    for job in listed:
        assert residuum("cancel", job["id"]).returncode == 0
    service.wait_for(listed[-1], "cancelled")


def test_cancelling_ends_the_watching(residuum, watch):
    job = submitted(residuum, ENDLESS)
    watcher = watch(job)
    lines_until(watcher.stdout, "epoch 1/5000 done")
    assert residuum("cancel", job).returncode == 0
    _, stderr = watcher.communicate(timeout=LIMIT)
    assert watcher.returncode == 1 and f"{job} was cancelled" in stderr


def test_watching_survives_a_killed_daemon(service, residuum, watch):
    job = submitted(residuum, ENDLESS)
    watcher = watch(job, "--json")
    lines_until(watcher.stdout, '"event":"epoch"')
    service.kill()
    service.start_again()
    lines_until(watcher.stderr, "The connection is back.")
    lines_until(watcher.stdout, '"event":"epoch"')
    residuum("cancel", job)
    stdout, _ = watcher.communicate(timeout=LIMIT)
    assert watcher.returncode == 1 and json.loads(stdout.splitlines()[-1])["data"]["state"] == "cancelled"


def test_no_event_is_lost_or_repeated_over_restarts(service, residuum, watch):
    job = submitted(residuum, {**TINY, "epochs": 40})
    watcher = watch(job, "--json")
    heard = []
    for line in watcher.stdout:
        heard.append(json.loads(line))
        if heard[-1]["event"] == "epoch" and heard[-1]["data"]["epoch"] in (5, 20):
            service.kill()
            service.start_again()
    assert watcher.wait(LIMIT) == 0
    assert [e["data"]["epoch"] for e in heard if e["event"] == "epoch"] == list(range(1, 41))
    ids = [e["id"] for e in heard if e["id"] is not None]
    assert ids == sorted(set(ids))


def test_ctrl_c_leaves_the_job_running(residuum, watch):
    job = submitted(residuum, ENDLESS)
    watcher = watch(job)
    lines_until(watcher.stdout, " done:")
    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=LIMIT)
    assert watcher.returncode == 130
    assert json.loads(residuum("show", job, "--json").stdout)["state"] == "running"
    residuum("cancel", job)


def test_a_queued_job_tells_its_place(residuum, watch):
    first, second, third = (submitted(residuum, ENDLESS) for _ in range(3))
    watcher = watch(third)
    lines_until(watcher.stdout, "queued, ")
    residuum("cancel", second)
    residuum("cancel", first)
    lines_until(watcher.stdout, "epoch 1/5000")
    residuum("cancel", third)
    watcher.communicate(timeout=LIMIT)
    assert watcher.returncode == 1


def test_a_draining_daemon_queues_the_job_again(service, residuum, watch):
    job = submitted(residuum, ENDLESS)
    watcher = watch(job)
    lines_until(watcher.stdout, " done:")
    service.stop()
    lines_until(watcher.stderr, "is lost")
    service.start_again()
    lines_until(watcher.stderr, "is back")
    lines_until(watcher.stdout, " done:")
    residuum("cancel", job)
    watcher.communicate(timeout=LIMIT)
    assert watcher.returncode == 1
