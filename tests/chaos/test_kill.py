"""SIGKILL at random moments to the daemon, to the worker, to both: no job is lost, none runs twice, every one finishes, and a stream that
is taken up again misses and repeats nothing. Real workers.

RESIDUUM_CHAOS_ROUNDS says how many kills a test makes (default 3; 20 for the long run), RESIDUUM_CHAOS_SEED repeats a run."""
import os
import random
import signal
import sqlite3
import time

import pytest
from service import ENDED, FAST, gone, until

ROUNDS = int(os.environ.get("RESIDUUM_CHAOS_ROUNDS", "3"))
SEED = int(os.environ.get("RESIDUUM_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
JOB = {**FAST, "epochs": 4}
SECONDS = 60 + 20 * ROUNDS

# As drawn in server/store/store.h.
MOVES = {None: {"queued"}, "queued": {"starting", "cancelled"}, "starting": {"running", "queued", "failed", "cancelled"},
         "running": {"succeeded", "failed", "cancelled", "queued"}}


@pytest.fixture
def dice(request):
    print(f"RESIDUUM_CHAOS_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")


class Listener:
    """One client that takes its stream up again with the last id it saw."""

    def __init__(self):
        self.events, self.stream = [], None

    def connect(self, daemon):
        self.leave()
        last = self.events[-1]["id"] if self.events else 0
        self.stream = daemon.stream("?after=0", Last_Event_ID=str(last))
        self.stream.events, self.heard = [], 0

    def listen(self):
        """Takes what is there; a killed daemon ends the stream anywhere, a slow reader is cut off."""
        if not self.stream.ended:
            self.stream.feed()
        self.events += self.stream.events[self.heard:]
        self.heard = len(self.stream.events)

    def leave(self):
        if self.stream is not None:
            self.listen()
            self.stream.close()
        self.stream = None


def pause(dice, seconds):
    """The random moment."""
    time.sleep(dice.uniform(0, seconds))


def finish(daemon, jobs, listener):
    """Reads the stream until all jobs have ended and their last events were heard."""

    def all_heard():
        listener.listen()
        if listener.stream.ended:
            listener.connect(daemon)
        ended = {e["data"]["id"] for e in listener.events if e["event"] == "job" and e["data"]["state"] in ENDED}
        return ended >= {j["id"] for j in jobs}

    until(all_heard, SECONDS, "all jobs to end")
    for job in jobs:
        assert daemon.job(job)["state"] == "succeeded", daemon.job(job)["reason"]
    listener.leave()


def check_stream(job, events):
    """Every state follows its predecessor, every epoch is there once and in order."""
    states = [e["data"]["state"] for e in events if e["event"] == "job"]
    for before, state in zip([None, *states], states):
        assert state in MOVES[before], states
    assert states[-1] == "succeeded" and states.count("succeeded") == 1
    attempts = [e["data"]["attempt"] for e in events if e["event"] == "job" and e["data"]["state"] == "starting"]
    assert attempts == list(range(1, len(attempts) + 1))
    assert [e["data"]["epoch"] for e in events if e["event"] == "epoch"] == list(range(1, job["epochs"] + 1))


def check(daemon, jobs, listener):
    """The oracle."""
    finish(daemon, jobs, listener)
    ids = [e["id"] for e in listener.events]
    assert ids == sorted(set(ids))
    stored = sqlite_rows(daemon, "SELECT id FROM event ORDER BY id")
    assert [(i,) for i in ids] == stored  # the interrupted stream has what the table has
    listed = {j["id"] for j in daemon.get("/v1/jobs?limit=200").json()["items"]}
    assert listed == {j["id"] for j in jobs}
    losses = set()
    for job in jobs:
        check_stream(job, [e for e in listener.events if e["data"].get("job", e["data"].get("id")) == job["id"]])
        epochs = daemon.get(f"/v1/jobs/{job['id']}/epochs").json()["items"]
        losses.add(tuple((e["train"]["loss"], e["test"]["loss"]) for e in epochs))
    assert len(losses) == 1  # the same seed: the same training, killed or not
    daemon.stop()
    assert sqlite_rows(daemon, "PRAGMA integrity_check") == [("ok",)]
    assert sqlite_rows(daemon, "PRAGMA foreign_key_check") == []


def sqlite_rows(daemon, sql):
    db = sqlite3.connect(f"file:{daemon.data}/residuum.db?mode=ro", uri=True)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def worker_of(daemon, job):
    """The process id of the job's worker, None when it is not running just now."""
    found = daemon.job(job)
    children = daemon.children()
    return children[0] if found["state"] == "running" and children else None


def test_daemon_right_after_202(make_daemon, dice):
    daemon, listener, jobs = make_daemon(), Listener(), []
    listener.connect(daemon)
    for _ in range(ROUNDS):
        jobs.append(daemon.submit(JOB))
        pause(dice, dice.choice([0, 0.02, 0.5]))  # at once, around the launch, into the training
        daemon.kill()
        listener.leave()
        daemon.start()
        listener.connect(daemon)
    check(daemon, jobs, listener)


def test_worker_mid_epoch(daemon, dice):
    listener, jobs, kills = Listener(), [], 0
    listener.connect(daemon)
    while kills < ROUNDS:
        job = daemon.submit(JOB)
        jobs.append(job)
        for _ in range(2):  # of three tries
            pid = until(lambda: worker_of(daemon, job) or daemon.job(job)["state"] == "succeeded", SECONDS, "the worker")
            if pid is True:
                break
            pause(dice, 0.4)
            kills += kill(pid)
            until(lambda: gone(pid), 30, "the worker's end")
            listener.listen()
        daemon.wait_for(job, "succeeded", seconds=SECONDS)
    check(daemon, jobs, listener)


def test_both_together(make_daemon, dice):
    daemon, listener, jobs = make_daemon(), Listener(), []
    listener.connect(daemon)
    for _ in range(ROUNDS):
        jobs.append(daemon.submit(JOB))
        pause(dice, 0.8)
        victims = [*daemon.children(), daemon.process.pid]
        dice.shuffle(victims)
        for pid in victims:
            kill(pid)
        daemon.kill()
        listener.leave()
        daemon.start()
        listener.connect(daemon)
    check(daemon, jobs, listener)


def kill(pid):
    """SIGKILL; whether there was something to kill."""
    try:
        os.kill(pid, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False
