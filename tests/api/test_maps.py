"""Looking into a network through the API: maps, filters and images of a job that really trains, against each other, against the epoch's
own record and against the contract."""
import os
from pathlib import Path

import numpy
import pytest
from service import until

SPEC = {"dataset": "shapes", "model": {"preset": "simplecnn", "width": 0.25}, "train_limit": 256, "test_limit": 64, "epochs": 3, "threads": 1,
        "backend": "ref", "batch_size": 32, "validation_fraction": 0.25, "keep_every": 0}
LONG = {**SPEC, "epochs": 5000, "validation_fraction": 0}


@pytest.fixture(scope="module")
def done(service):
    """A finished job."""
    return service.wait_for(service.submit(SPEC), "succeeded")


@pytest.fixture(scope="module")
def ask(service, contract, done):
    """Asks about the finished job; the answer fits the contract."""

    def get(query, status=200):
        answer = contract.check(service.get(f"/v1/jobs/{done['id']}/{query}"))
        assert answer.status_code == status, answer.text[:500]
        return answer.json()

    return get


def values(answer, name):
    (layer,) = [layer for layer in answer["layers"] if layer["name"] == name]
    return numpy.array(layer["values"])


def test_before_and_after_activation_and_pooling(ask):
    answer = ask("maps?layer=conv1,act1,pool1&image=3")
    assert answer["epoch"] == 3 and answer["image"]["index"] == 3
    assert (values(answer, "act1") == numpy.maximum(values(answer, "conv1"), 0)).all()
    c, h, w = values(answer, "act1").shape
    assert (values(answer, "pool1") == values(answer, "act1").reshape(c, h // 2, 2, w // 2, 2).max((2, 4))).all()


def test_softmax_is_that_of_the_epoch(service, done, ask):
    test = service.get(f"/v1/jobs/{done['id']}/epochs/last").json()["test"]
    for index in (0, 24):
        image = ask(f"maps?layer=loss&image={index}")["image"]
        assert image["label"] == test["labels"][index]
        assert numpy.allclose(image["softmax"], test["softmax"][index], rtol=1e-4, atol=1e-6)


def test_best_epoch(service, done, ask):
    best = service.job(done)["best_epoch"]
    assert best in (1, 2, 3)
    answer = ask("maps?layer=loss&epoch=best&image=7")
    assert answer["epoch"] == best
    softmax = service.get(f"/v1/jobs/{done['id']}/epochs/{best}").json()["test"]["softmax"][7]
    assert numpy.allclose(answer["image"]["softmax"], softmax, rtol=1e-4, atol=1e-6)


def test_images_and_their_maps(service, done, ask):
    images = ask("images")
    assert images["n"] == 64 and len(images["items"]) == 25
    assert [item["label"] for item in images["items"]] == service.get(f"/v1/jobs/{done['id']}/epochs/last").json()["test"]["labels"]
    known = ask("maps?layer=conv2&channels=2-3&image=24")
    assert known["image"]["pixels"] == images["items"][24]["pixels"]
    body = {"layers": ["conv2"], "channels": "2-3", "epoch": 3, "pixels": images["items"][24]["pixels"]}
    sent = service.post(f"/v1/jobs/{done['id']}/maps", body).json()
    assert sent["layers"] == known["layers"] and sent["image"]["softmax"] == known["image"]["softmax"]
    assert [item["index"] for item in ask("images?first=60&n=25")["items"]] == [60, 61, 62, 63]


def test_filters(ask):
    first = ask("filters")
    assert first["layer"] == "conv1" and numpy.array(first["values"]).shape == (8, 3, *numpy.array(first["values"]).shape[2:])
    some = ask("filters?layer=conv2&channels=1&epoch=last")
    assert some["channels"] == [1] and numpy.array(some["values"]).shape[:2] == (1, 8)


@pytest.mark.parametrize("query, status, kind, pointer", [
    ("maps?layer=conv1,conv9", 404, "not-found", "?layer"),
    ("maps?layer=conv1&image=64", 404, "not-found", "?image"),
    ("maps?layer=conv1&channels=9", 400, "invalid-field", "?channels"),
    ("maps?layer=conv1&channels=x", 400, "invalid-field", "?channels"),
    ("maps?layer=conv1&epoch=17", 404, "not-found", None),
    ("maps", 400, "invalid-field", "?layer"),
    ("maps?layers=conv1", 400, "invalid-request", "?layers"),
    ("filters?layer=fc1", 400, "invalid-field", "?layer"),
    ("filters?epoch=none", 400, "invalid-field", "?epoch"),
    ("images?n=101", 400, "invalid-field", "?n"),
])
def test_refusals(service, done, problem, contract, query, status, kind, pointer):
    problem(contract.check(service.get(f"/v1/jobs/{done['id']}/{query}")), status, kind, pointer)


def test_sent_images_that_do_not_fit(service, done, problem, contract):
    path = f"/v1/jobs/{done['id']}/maps"
    answer = contract.check(service.post(path, {"layers": ["conv1"], "pixels": [[0] * 28] * 28}))
    assert "[3][32][32]" in problem(answer, 400, "invalid-field", "/pixels")["detail"]
    problem(contract.check(service.post(path, {"layers": ["konv1"], "pixels": [[0]]})), 404, "not-found", "/layers/0")


# --- beside training ---


@pytest.fixture
def training(service):
    """A job that trains, with an epoch behind it."""
    job = service.submit(LONG)
    until(lambda: service.job(job)["epochs_done"] > 0, 60, "the first epoch")
    yield job
    service.post(f"/v1/jobs/{job['id']}/cancel")
    service.wait_for(job, "cancelled")


def test_a_job_that_trains_goes_on(service, training):
    (worker,) = service.children()
    for _ in range(3):
        answer = service.get(f"/v1/jobs/{training['id']}/maps?layer=conv1")
        assert answer.status_code == 200, answer.text
    before = service.job(training)["epochs_done"]
    until(lambda: service.job(training)["epochs_done"] > before, 60, "another epoch")
    assert worker in service.children() and service.job(training)["attempt"] == 1


def test_the_daemon_reads_no_weights_and_no_images(service, done, ask):
    """Rule 3 of the architecture: what the daemon has open and mapped while and after it answers."""
    ask("maps?layer=conv1")
    ask("images")
    maps = Path(f"/proc/{service.process.pid}/maps").read_text(encoding="ascii")
    opened = [os.readlink(fd) for fd in Path(f"/proc/{service.process.pid}/fd").iterdir() if fd.exists()]
    assert not [name for name in (*opened, maps) if "safetensors" in name or "backend-" in name or "ubyte" in name]
    assert done["id"]
