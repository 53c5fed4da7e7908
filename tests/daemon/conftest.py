"""Fixtures of the daemon's tests: a daemon whose workers do what their job's name says."""
import json
import sqlite3
from pathlib import Path

import pytest
from service import Daemon

FAKE = str(Path(__file__).resolve().parent.parent / "fakes" / "fake_worker.py")


@pytest.fixture
def make_fake(make_daemon):
    """make_fake(OPTION..., probe="crash", env={...}): a daemon with fake workers."""

    def make(*args, probe="good", env=None, **options):
        return make_daemon("--worker", FAKE, *args, env={"RESIDUUM_FAKE_PROBE": probe, **(env or {})}, **options)

    return make


@pytest.fixture
def fake(make_fake):  # pylint: disable=redefined-outer-name
    return make_fake()


@pytest.fixture(scope="module")
def shared_fake(tmp_path_factory):
    """One daemon with fake workers for all tests of a file."""
    daemon = Daemon(tmp_path_factory.mktemp("fake"), "--worker", FAKE).start()
    yield daemon
    daemon.stop()


@pytest.fixture
def rows():
    """rows(daemon, SQL): what the database of a stopped or running daemon holds, read only."""

    def read(daemon, sql):
        db = sqlite3.connect(f"file:{daemon.data}/residuum.db?mode=ro", uri=True)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    return read


@pytest.fixture
def epochs_of(rows):  # pylint: disable=redefined-outer-name
    """The epoch numbers in the stream of a job, in order: each must be there once."""

    def read(daemon, job):
        found = rows(daemon, f"SELECT body FROM event WHERE job = '{job['id']}' AND type = 'epoch' ORDER BY id")
        return [json.loads(body)["epoch"] for (body,) in found]

    return read
