"""The manual page and the completions know what the command table knows."""
import re
import shutil
import subprocess

import pytest
from kit import CLIENT, ROOT, environment

GLOBAL = ["--server", "--json", "--quiet", "--help", "--version"]
FILES = ["residuum.1", "completions/residuum.bash", "completions/residuum.fish", "completions/_residuum"]


def table():
    """Commands and long options, from the help that comes out of the table."""
    usage = subprocess.run([CLIENT, "help"], capture_output=True, text=True, timeout=60, check=True).stdout
    commands = re.findall(r"^  (\w+)", usage.split("Commands:")[1].split("Options")[0], re.M)
    options = set()
    for command in commands:
        text = subprocess.run([CLIENT, "help", command], capture_output=True, text=True, timeout=60, check=True).stdout
        options.update(re.findall(r"^  (?:-\w, |    )--([\w-]+)", text, re.M))
    return commands, options


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_missing(name):
    text = (ROOT / "client" / name).read_text().replace("\\-", "-")
    commands, options = table()
    assert len(commands) == 23 and len(options) == 27
    for command in commands:
        assert re.search(rf"\b{command}\b", text), command
    for option in options:
        assert re.search(rf"(--|-l ){option}\b", text), option


def test_version_and_exit_codes_agree():
    usage = subprocess.run([CLIENT, "help"], capture_output=True, text=True, timeout=60, check=True).stdout
    page = (ROOT / "client" / "residuum.1").read_text()
    codes = re.findall(r"^  (\d+)  ", usage.split("Exit codes:")[1], re.M)
    version = subprocess.run([CLIENT, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    assert f'"{version}"' in page
    assert codes == re.findall(r"^\.B (\d+)$", page, re.M) and codes[-1] == "130"


def complete(*words):
    script = (f"source '{ROOT}/client/completions/residuum.bash'; COMP_WORDS=(residuum \"$@\"); COMP_CWORD=$#; _residuum; "
              'printf "%s\\n" "${COMPREPLY[@]}"')
    env = environment(PATH=f"{CLIENT.parent}:/usr/bin:/bin", RESIDUUM_SERVER="http://127.0.0.1:9")
    result = subprocess.run(["bash", "-c", f"compopt() {{ :; }}; {script}", "bash", *words], capture_output=True, text=True, env=env,
                            timeout=60, check=True)
    assert result.stderr == ""
    return result.stdout.split()


def test_bash_completes():
    assert complete("d") == ["devices", "datasets", "dataset"]
    assert complete("dataset", "s") == ["show", "sheet"] and complete("dataset", "add", "--fit", "c") == ["crop"]
    assert complete("--s") == ["--server"]
    assert complete("submit", "--") == [*GLOBAL, "--watch", "--dry-run", "--name"]
    assert complete("plan", "--") == [*GLOBAL, "--gpu"] and complete("plan", "--gpu", "h") == ["h100"]
    assert complete("ls", "--state", "s") == ["starting", "succeeded"]
    assert complete("help", "w") == ["watch", "weights"]
    assert complete("weights", "--o") == ["--output"] and complete("report", "--") == [*GLOBAL, "--epoch", "--confused"]
    assert complete("--server", "http://x", "gr") == ["graph"]


def test_bash_completes_devices(fake):
    gpu = {"id": "GPU-a", "state": "drained", "compute": "9.0", "threads": 1, "memory_bytes": 1, "name": "x", "backends": []}
    fake.on("GET", "/v1/devices", {"items": [gpu, {**gpu, "id": "GPU-b"}], "state": "ready", "reason": None})
    assert complete("--server", fake.url, "devices", "--resume", "GPU-") == ["GPU-a", "GPU-b"]


def test_bash_completes_job_ids(fake):
    fake.on("GET", "/v1/jobs", {"items": [{"id": "job_abc", "state": "queued"}, {"id": "job_xyz", "state": "queued"}], "next": None})
    assert complete("--server", fake.url, "show", "job_a") == ["job_abc"]


@pytest.mark.skipif(shutil.which("man") is None, reason="no man program to format the page with")
def test_the_manual_page_formats_without_a_warning():
    result = subprocess.run(["man", "--warnings=w", "-l", str(ROOT / "client" / "residuum.1")], capture_output=True, text=True, timeout=60,
                            env=environment(MANPAGER="cat", LC_ALL="C.UTF-8"), check=False)
    assert result.returncode == 0 and result.stderr == "" and "EXIT STATUS" in result.stdout
