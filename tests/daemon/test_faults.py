"""What workers do wrong: every way to die or to break the protocol ends in a named reason, and never harms the daemon."""
import os
from pathlib import Path

import pytest
from service import gone, until

# The script, then: state, attempts, code of the reason, a part of its text.
FAULTS = [
    ("all", "succeeded", 1, None, None),
    ("hello,epoch,again,rest,done", "succeeded", 1, None, None),
    ("hello,fork,rest,done", "succeeded", 1, None, None),
    # deaths: tried again, from what is known
    ("hello,epoch,kill:9|all", "succeeded", 2, None, None),
    ("hello,epoch,kill:9|hello,epoch,kill:11|all", "succeeded", 3, None, None),
    ("exit:4|all", "succeeded", 2, None, None),
    ("hello,exit:3|all", "succeeded", 2, None, None),
    ("hello,error:storage-full,exit:5|all", "succeeded", 2, None, None),
    ("hello,epoch,kill:11|hello,say:last words,kill:11", "failed", 3, "worker-died", "killed by signal 11 (SIGSEGV) (tried 3 times)"),
    ("hello,say:last words,kill:6", "failed", 3, "worker-died", "last words"),
    ("exit:77", "failed", 3, "worker-died", "exit code 77"),
    ("hello,exit:1", "failed", 3, "worker-died", "exit code 1"),
    ("hello,error:out-of-memory,exit:5", "failed", 3, "out-of-memory", "the fake says out-of-memory"),
    ("hello,error:non-finite-loss,kill:9", "failed", 3, "worker-died", "SIGKILL"),
    # failures that another try would not change
    ("hello,error:non-finite-loss,exit:1", "failed", 1, "non-finite-loss", "the fake says non-finite-loss"),
    ("error:damaged-data,exit:1", "failed", 1, "damaged-data", "the fake says"),
    # broken protocol
    ("hello1,all", "failed", 3, "worker-protocol", "protocol"),
    ("epoch", "failed", 3, "worker-protocol", "first line"),
    ("hello,hello", "failed", 3, "worker-protocol", "twice"),
    ("hello,gap,epoch", "failed", 3, "worker-protocol", "seq"),
    ("hello,garbage", "failed", 3, "worker-protocol", "not JSON"),
    ("hello,bytes", "failed", 3, "worker-protocol", "not JSON"),
    ("hello,oversize,hang", "failed", 3, "worker-protocol", "bytes"),
    ("hello,half", "failed", 3, "worker-protocol", "without saying"),
    ("hello,rest,done,half", "failed", 3, "worker-protocol", "without saying"),
    ("hello", "failed", 3, "worker-protocol", "without saying"),
    ("hello,skip", "failed", 3, "worker-protocol", "epoch 2"),
    ("hello,done", "failed", 3, "worker-protocol", "0 of 2"),
    ("hello,rest,done,progress:1", "failed", 3, "worker-protocol", "after its last line"),
    ("hello,error:no-such-code,exit:1", "failed", 3, "worker-protocol", "unknown code"),
    ("hello,progress:1000,rest,done", "failed", 3, "worker-protocol", "progress"),
    ("hello,garbage|hello,epoch,gap,epoch|all", "succeeded", 3, None, None),
]


@pytest.mark.parametrize("script, state, attempts, code, text", FAULTS, ids=[f[0] for f in FAULTS])
def test_fault(shared_fake, epochs_of, script, state, attempts, code, text):
    epochs = 3 if "kill:11|all" in script else 2
    job = shared_fake.wait_for(shared_fake.submit(name=script, epochs=epochs), state)
    assert job["attempt"] == attempts
    if code is None:
        assert job["reason"] is None
    else:
        assert job["reason"]["code"] == code and text in job["reason"]["text"], job["reason"]
    # Each epoch is in the stream once, in order, whatever happened.
    known = epochs_of(shared_fake, job)
    assert known == list(range(1, job["epochs_done"] + 1))
    assert state != "succeeded" or len(known) == epochs
    assert shared_fake.children() == []


def test_log_tells_attempts_apart(shared_fake):
    job = shared_fake.wait_for(shared_fake.submit(name="say:first,kill:9|say:second,all"), "succeeded")
    log = shared_fake.get(f"/v1/jobs/{job['id']}/log").text
    order = ["attempt 1 starts on cpu", "first", "attempt 1 ended: killed by signal 9 (SIGKILL)", "attempt 2 starts", "second",
             "attempt 2 ended: exit code 0 (done)"]
    places = [log.find(words) for words in order]
    assert places == sorted(places) and places[0] >= 0, log


def test_program_is_missing(make_daemon, tmp_path):
    """A worker that cannot be run is a reason on /v1/devices, and an installed one is found later."""
    program = tmp_path / "worker"
    daemon = make_daemon("--worker", str(program))
    devices = daemon.get("/v1/devices").json()
    assert devices["state"] == "failed" and "No such file" in devices["reason"] and devices["items"] == []
    assert daemon.get("/readyz").status_code == 200


def test_silence_is_death(make_fake):
    daemon = make_fake("--worker-silence", "1")
    job = daemon.submit(name="hello,hang|hang|hello,progress:1,hang")
    job = daemon.wait_for(job, "failed")
    assert "said nothing for 1 seconds" in job["reason"]["text"] and job["attempt"] == 3


def test_grandchildren_go_too(fake):
    """What a worker left behind neither holds the job open nor lives on."""
    job = fake.submit(name="hello,fork,until:go,rest,done")
    fake.wait_for(job, "running")
    (worker,) = fake.children()
    grandchild = until(lambda: Path(f"/proc/{worker}/task/{worker}/children").read_text(encoding="ascii").strip(), 10, "the grandchild")
    (fake.data / "go").touch()
    fake.wait_for(job, "succeeded")

    until(lambda: gone(grandchild), 10, "the grandchild's end")


def test_signal_from_outside(fake):
    """Workers start with default signals: SIGTERM ends one that does not handle it, and that counts as a death."""
    job = fake.submit(name="hello,hang|all")
    fake.wait_for(job, "running")
    os.kill(fake.children()[0], 15)
    job = fake.wait_for(job, "succeeded")
    assert job["attempt"] == 2
