"""The network as ONNX through the API: the file is whole, comes under its epoch's name, and nothing of it stays with the daemon.
(What stands in it: tests/worker/test_onnx.py.)"""
from concurrent.futures import ThreadPoolExecutor

import pytest

SPEC = {"dataset": "shapes", "model": {"preset": "simplecnn", "width": 0.25}, "train_limit": 64, "test_limit": 32, "epochs": 2, "threads": 1,
        "backend": "ref", "batch_size": 32, "keep_every": 1}


@pytest.fixture(scope="module")
def path(service):
    return f"/v1/jobs/{service.wait_for(service.submit(SPEC), 'succeeded')['id']}/onnx"


def left(service):
    return [file.name for file in service.data.glob("exports/*")]


def test_files(service, contract, path):
    for query, epoch in (("", 2), ("?epoch=1&normalize=true", 1), ("?epoch=last&normalize=false", 2)):
        answer = contract.check(service.get(path + query))
        assert answer.status_code == 200 and f"-epoch-{epoch}.onnx" in answer.headers["Content-Disposition"]
        assert b"residuum" in answer.content[:64] and (b"image/normalized" in answer.content) == ("true" in query)
        assert b"softmax" in answer.content and answer.content.count(b"conv1.weight") >= 2
    assert left(service) == []


def test_many_at_once(service, path):
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: service.get(path), range(6)))
    assert {answer.status_code for answer in answers} == {200} and len({answer.content for answer in answers}) == 1
    assert left(service) == []


def test_refusals(service, path, problem):
    assert "those of 1, 2" in problem(service.get(path + "?epoch=7"), 404, "not-found")["detail"]
    problem(service.get(path + "?epoch=best"), 400, "invalid-field", "?epoch")
    problem(service.get(path + "?normalize=1"), 400, "invalid-field", "?normalize")
    assert left(service) == []
