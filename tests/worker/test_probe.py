"""What --probe says, also when a module crashes, hangs or lies."""
import json
import os
import subprocess
import textwrap
import time

import pytest
from harness import DONE, FAILED, PROGRAM, PROTOCOL, ROOT, installed, run, spec

MODULE = """
    #include <signal.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    #include "server/backend/backend.h"

    static int probe(int index, struct backend_info *info, struct err *err) {
        (void)index, (void)err;
        strcpy(info->name, "onednn");
        %s
        return 0;
    }
    __attribute__((visibility("default"))) const struct residuum_backend residuum_backend = {
        .abi = %s, .name = "onednn", .probe = probe};
"""


def fake_module(directory, probe, abi="BACKEND_ABI"):
    source = directory / "fake.c"
    source.write_text(textwrap.dedent(MODULE % (probe, abi)))
    subprocess.run(["gcc", "-shared", "-fPIC", f"-I{ROOT}", "-o", directory / "backend-onednn.so", source], check=True)


def probe(program, **options):
    done = subprocess.run([program, "--probe"], capture_output=True, timeout=60, check=True, **options)
    document = json.loads(done.stdout)
    assert done.stdout.count(b"\n") == 1
    return document


def unusable(document, name):
    return next(u["reason"] for u in document["devices"][0]["unusable"] if u["name"] == name)


def test_the_real_modules():
    document = probe(PROGRAM)
    cpu = document["devices"][0]
    assert document["protocol"] == PROTOCOL and cpu["id"] == "cpu" and cpu["threads"] >= 1 and cpu["memory_bytes"] > 1 << 28
    assert all(cpu[k] is None for k in ("memory_free_bytes", "compute", "driver", "profile", "note"))
    names = [b["name"] for b in cpu["backends"]]
    assert names[-1] == "ref" and names == [n for n in ("onednn", "ref") if n in names]  # in the order of preference
    assert cpu["backends"][-1]["precisions"] == ["f32"]
    if len(document["devices"]) == 1:
        assert unusable(document, "cudnn")


def test_data_sets_are_looked_for(tmp_path):
    rows = {d["name"]: d for d in probe(PROGRAM, env={"RESIDUUM_DATASETS": str(tmp_path)})["datasets"]}
    assert rows["shapes"] == {"name": "shapes", "available": True, "reason": None}
    assert rows["fashion-mnist"]["available"] is False and str(tmp_path) in rows["fashion-mnist"]["reason"]


@pytest.mark.parametrize("body, reason, complete", [
    ("abort();", "SIGABRT", False),
    ("signal(SIGSEGV, SIG_DFL); raise(SIGSEGV);", "SIGSEGV", False),
    ("_exit(7);", "exit code 7", False),
    ("for (;;) pause();", "did not end within 3000 ms", False),
    ('strcpy(err->text, "no device"); err->code = ERR_UNAVAILABLE; return -1;', "no device", True),
    ('strcpy(info->name, "other");', 'calls itself "other"', True),
    ("memset(info, 0x41, sizeof *info);", "calls itself", True),
])
def test_a_module_that_fails_is_a_reason(tmp_path, body, reason, complete):
    program = installed(tmp_path / "bin", "ref")
    fake_module(tmp_path / "bin", body)
    document = probe(program, env={**os.environ, "RESIDUUM_PROBE_MS": "3000"})
    assert document["complete"] is complete
    assert reason in unusable(document, "onednn")
    assert [b["name"] for b in document["devices"][0]["backends"]] == ["ref"]


@pytest.mark.parametrize("make, reason", [
    (lambda d: fake_module(d, "", "BACKEND_ABI + 1"), "interface"),
    (lambda d: (d / "backend-onednn.so").write_bytes(b"\x7fELF garbage"), "cannot be loaded"),
])
def test_a_module_of_another_kind_is_a_reason(tmp_path, make, reason):
    program = installed(tmp_path / "bin", "ref")
    make(tmp_path / "bin")
    assert reason in unusable(probe(program), "onednn")


def test_what_a_module_prints_reaches_nobody(tmp_path):
    program = installed(tmp_path / "bin", "ref")
    fake_module(tmp_path / "bin", 'puts("{\\"type\\": \\"done\\"}"); fflush(stdout); write(1, "x\\n", 2); abort();')
    assert "SIGABRT" in unusable(probe(program), "onednn")


def test_modules_of_an_installation(tmp_path):
    installed(tmp_path / "lib", "ref")
    (tmp_path / "lib" / "residuum-worker").unlink()
    program = installed(tmp_path / "bin")
    (tmp_path / "lib").rename(tmp_path / "residuum")
    (tmp_path / "lib").mkdir()
    (tmp_path / "residuum").rename(tmp_path / "lib" / "residuum")
    assert [b["name"] for b in probe(program)["devices"][0]["backends"]] == ["ref"]


def test_auto_passes_a_crashing_module_by(tmp_path):
    program = installed(tmp_path / "bin", "ref")
    fake_module(tmp_path / "bin", "abort();")
    worker, status = run(tmp_path / "job", spec(backend="auto", epochs=1), program=program)
    assert status == DONE and worker.events[0]["backend"] == "ref" and "SIGABRT" in worker.text()


def test_auto_without_any_module(tmp_path):
    program = installed(tmp_path / "bin")
    worker, status = run(tmp_path / "job", spec(backend="auto"), program=program)
    assert status == FAILED and worker.events[-1]["code"] == "unavailable"


def test_the_probe_of_a_real_machine_is_quick():
    start = time.monotonic()
    probe(PROGRAM)
    assert time.monotonic() - start < 10


def test_help_version_and_usage():
    assert b"--probe" in subprocess.run([PROGRAM, "--help"], capture_output=True, timeout=60, check=True).stdout
    assert b"residuum-worker " in subprocess.run([PROGRAM, "--version"], capture_output=True, timeout=60, check=True).stdout
    wrong = subprocess.run([PROGRAM, "--nonsense"], capture_output=True, timeout=60, check=False)
    assert wrong.returncode == 2 and b"usage" in wrong.stderr and not wrong.stdout
