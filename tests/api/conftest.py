"""Fixtures of the API's tests."""
import pytest
from contract import Contract


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
