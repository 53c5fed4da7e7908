"""residuumd as a program: options, address, service manager, standard streams, log."""
import os
import re
import signal
import socket
import stat
import subprocess

import pytest
from service import BUILD, until

PROGRAM = BUILD / "residuumd"


def run(*args, **options):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=30, check=False, **options)


def test_help_and_version():
    answer = run("--help")
    assert answer.returncode == 0 and answer.stderr == ""
    for option in ("--data DIR", "--listen ADDR:PORT", "--web DIR", "--worker PATH", "--allow-remote", "--version", "--help"):
        assert option in answer.stdout
    answer = run("--version")
    assert answer.returncode == 0 and re.fullmatch(r"residuumd \d+\.\d+\.\d+\n", answer.stdout)


@pytest.mark.parametrize("args, words", [
    (["--nonsense"], "no option '--nonsense'"),
    (["extra"], "no option 'extra'"),
    (["--data"], "--data needs a value"),
    (["--data="], "--data has 0 bytes"),
    (["--allow-remote=yes"], "takes no value"),
    (["--worker-silence", "soon"], "is not a number from 1"),
    (["--worker-silence", "0"], "is not a number from 1"),
    (["--queue-max", "none"], "--queue-max JOBS: 'none'"),
    (["--worker", "no-such-worker"], "no worker program"),
    (["--listen", "x" * 200], "--listen has 200 bytes"),
])
def test_wrong_usage(args, words):
    answer = run(*args)
    assert answer.returncode == 2 and words in answer.stderr and "--help" in answer.stderr and answer.stdout == ""


def test_wrong_address(tmp_path):
    for address in ("0.0.0.0:0", "localhost", "127.0.0.1:99999", "nowhere.invalid:1"):
        answer = run("--data", tmp_path / "data", "--listen", address)
        assert answer.returncode == 2, (address, answer.stderr)
        assert not (tmp_path / "data" / "address").exists()


def test_address_in_use(daemon, tmp_path):
    answer = run("--data", tmp_path / "other", "--listen", daemon.host)
    assert answer.returncode != 0 and "event=fatal" in answer.stderr and answer.stdout == ""


def test_data_directory(make_daemon, tmp_path):
    """Private, made with its parents, found by XDG_STATE_HOME."""
    daemon = make_daemon(f"--data={tmp_path}/a/b/c")
    folder = tmp_path / "a" / "b" / "c"
    assert (folder / "address").read_text() == daemon.url + "\n"
    for path in (folder, folder / "residuum.db", folder / "address"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    daemon.stop()
    assert not (folder / "address").exists()
    with subprocess.Popen([PROGRAM, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}) as process:
        url = process.stdout.readline()
        assert (tmp_path / "state" / "residuum" / "address").read_text() == url
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_service_manager_is_told(make_daemon, tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(30)
        daemon = make_daemon(env={"NOTIFY_SOCKET": path})
        assert manager.recv(100) == b"READY=1"
        daemon.stop()
        assert manager.recv(100) == b"STOPPING=1"


def test_closed_standard_streams(tmp_path):
    """Without standard streams the first files opened would take their numbers, and log lines would go into the database."""
    data = tmp_path / "data"
    with subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", PROGRAM, "--data", data, "--listen", "127.0.0.1:0"]) as process:
        until(lambda: (data / "address").exists(), 30, "the address")
        for number in range(3):
            assert os.readlink(f"/proc/{process.pid}/fd/{number}") == "/dev/null"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_log_lines_cannot_be_forged(make_fake):
    """Every line is logfmt with a time, a level and an event, whatever texts come from outside."""
    fake = make_fake()
    fake.get("/v1/jobs/%0Ats=1%20level=error")
    job = fake.wait_for(fake.submit(name='hello,error:x" level=error \\'), "failed")
    assert 'x" level=error \\' in job["reason"]["text"]
    fake.stop()
    assert 'x\\" level=error' in fake.log()
    for line in fake.log().splitlines():
        assert re.match(r"ts=\S+Z level=(debug|info|warning|error) event=[a-z-]+( [a-z_]+=(\"([^\"\\]|\\.)*\"|[^\s\"=]+))*$", line), line
