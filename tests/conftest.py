"""Fixtures around the real daemon for every suite: a fresh one per test (`daemon`), one per file (`service`), or made to measure
(`make_daemon`). RESIDUUM_BUILD says which build is used (default build/release)."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contract import Contract  # noqa: E402  pylint: disable=wrong-import-position
import service as rig  # noqa: E402  pylint: disable=wrong-import-position


def make_factory(folder):
    made = []

    def make(*args, **options):
        place = folder / f"daemon{len(made)}"
        place.mkdir()
        made.append(rig.Daemon(place, *args, **options))
        return made[-1].start()

    def stop():
        failures = []
        for each in made:
            try:
                each.stop()
            except Exception as failure:  # stop them all, then say what failed
                failures.append(failure)
        if failures:
            raise failures[0]

    return make, stop


@pytest.fixture
def make_daemon(tmp_path):
    """make_daemon("--worker", PATH, listen=..., env={...}): a started Daemon on an empty data directory."""
    make, stop = make_factory(tmp_path)
    yield make
    stop()


@pytest.fixture
def daemon(make_daemon):  # pylint: disable=redefined-outer-name
    return make_daemon()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """One daemon for all tests of a file, its probe done. For tests that leave it as they found it, or do not care."""
    make, stop = make_factory(tmp_path_factory.mktemp("service"))
    started = make()
    started.wait_for_probe()
    yield started
    stop()


@pytest.fixture
def submit(daemon):  # pylint: disable=redefined-outer-name
    return daemon.submit


@pytest.fixture
def wait_for(daemon):  # pylint: disable=redefined-outer-name
    return daemon.wait_for


@pytest.fixture(scope="session")
def contract():
    return Contract()


@pytest.fixture(scope="session")
def problem(contract):  # pylint: disable=redefined-outer-name
    """problem(answer, 400, "invalid-field", "/epochs"): the answer is this problem; returns the document."""

    def check(answer, status, kind=None, pointer=None):
        assert answer.status_code == status, answer.text[:500]
        assert answer.headers["Content-Type"] == "application/problem+json"
        document = answer.json()
        contract.named("Problem", document)
        assert document["status"] == status and document["instance"] == answer.headers["X-Request-Id"]
        if kind is not None:
            assert document["type"] == f"/problems/{kind}", document
        if pointer is not None:
            assert pointer in [e["pointer"] for e in document.get("errors", [])], document
        return document

    return check
