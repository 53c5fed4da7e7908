"""Data sets: announced, sent in pieces, imported, listed, trained on, looked into, renamed, deleted."""
import http.client

import pytest
from datasets import BYTES, TRAIN, add, announce, announcement, archive, flowers, send, settled, show


@pytest.fixture(scope="module", name="data")
def data_of_flowers(tmp_path_factory):
    return archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module", name="ready")
def ready_dataset(service, data):
    return add(service, data)


def test_what_was_imported_is_shown(service, ready, data):
    assert ready["state"] == "ready" and ready["available"] and ready["reason"] is None
    assert ready["shape"] == [3, 32, 32] and ready["classes"] == ["daisy", "rose", "tulip"]
    assert ready["train_images"] == 24 and ready["test_images"] == 6 and ready["jobs"] == show(service, ready)["jobs"]
    assert ready["upload"] == {"bytes": len(data), "sha256": announcement(data)["sha256"], "offset": len(data)}
    assert ready["card"]["train"]["per_class"] == [8, 8, 8] and ready["card"]["source"]["archive_sha256"] == ready["upload"]["sha256"]
    assert service.get("/v1/datasets/flowers").json() == show(service, ready)
    listed = {item["name"]: item for item in service.get("/v1/datasets").json()["items"]}
    assert list(listed)[:2] == ["fashion-mnist", "shapes"] and listed["flowers"]["id"] == ready["id"]
    builtin = service.get("/v1/datasets/shapes").json()
    assert builtin.pop("card") is None and builtin == listed["shapes"] and builtin["id"] is None


def test_sheet_is_a_picture(service, ready):
    answer = service.get(f"/v1/datasets/{ready['id']}/sheet")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "image/png" and answer.content.startswith(b"\x89PNG")


def test_training_on_it(service, ready):
    dry = service.post("/v1/jobs?dry_run=true", {"dataset": "flowers", **TRAIN}).json()
    assert dry["steps_per_epoch"] == 3 and dry["graph"]["nodes"][-1]["op"] and dry["spec"]["augment"]["flip"] is True
    on_gpu = service.post("/v1/jobs?dry_run=true&gpu=h100", {"dataset": "flowers", **TRAIN}).json()["gpu"]
    assert on_gpu["fits"] and on_gpu["need"]["data_bytes"] < 1 << 20
    job = service.wait_for(service.submit({"dataset": "flowers", **TRAIN}), "succeeded")
    assert job["dataset"] == ready["id"] and job["worker"]["train_images"] == 24 and job["worker"]["test_images"] == 6
    images = service.get(f"/v1/jobs/{job['id']}/images").json()
    assert images["n"] == 6 and len(images["items"][0]["pixels"]) == 3
    assert service.get(f"/v1/jobs/{job['id']}/maps?layer=conv1").status_code == 200
    assert service.get(f"/v1/jobs/{job['id']}/graph").status_code == 200
    layers = service.get("/v1/presets/lenet5/layers?dataset=flowers")
    assert layers.status_code == 200, layers.text


def test_verifying_a_job_on_it(service, ready):
    job = service.wait_for(service.submit({"dataset": "flowers", **TRAIN, "seed": 5}), "succeeded")
    again = service.wait_for(service.post(f"/v1/jobs/{job['id']}/verify").json(), "succeeded")
    assert again["dataset"] == ready["id"] and again["verification"]["result"] == "identical"


def test_a_job_keeps_it(daemon, data, problem):
    dataset = add(daemon, data)
    job = daemon.wait_for(daemon.submit({"dataset": "flowers", **TRAIN}))
    assert "1 job uses it" in problem(daemon.delete(f"/v1/datasets/{dataset['id']}"), 409, "conflict")["detail"]
    assert daemon.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert daemon.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    problem(daemon.get(f"/v1/datasets/{dataset['id']}"), 404, "not-found")
    problem(daemon.post("/v1/jobs", {"dataset": "flowers", **TRAIN}), 400, "invalid-field", "/dataset")
    assert not list((daemon.data / "datasets").iterdir())


def test_after_a_rename_its_jobs_go_on(daemon, data, problem):
    dataset = add(daemon, data)
    job = daemon.wait_for(daemon.submit({"dataset": "flowers", **TRAIN}), "succeeded")
    renamed = daemon.request("PATCH", f"/v1/datasets/{dataset['id']}", json={"name": "tulips"})
    assert renamed.status_code == 200 and renamed.json()["name"] == "tulips" and renamed.json()["title"] == "tulips"
    problem(daemon.post("/v1/jobs", {"dataset": "flowers", **TRAIN}), 400, "invalid-field", "/dataset")
    assert daemon.get(f"/v1/jobs/{job['id']}/graph").status_code == 200
    assert daemon.get(f"/v1/jobs/{job['id']}/images").json()["n"] == 6
    assert daemon.wait_for(daemon.submit({"dataset": "tulips", **TRAIN}), "succeeded")["dataset"] == dataset["id"]


def test_same_content_is_one_data_set(service, ready, data, tmp_path):
    other = archive(tmp_path, dict(sorted(flowers(8, 32).items())))  # another order, another archive, the same images
    assert other != data
    second = announce(service, other, "again")
    assert send(service, second, other).status_code == 200
    first = settled(service, second)
    assert second["id"] != ready["id"] and first["id"] == ready["id"] and first["name"] == "flowers"
    assert [item["name"] for item in service.get("/v1/datasets").json()["items"]].count("again") == 0


@pytest.mark.parametrize("changes, pointer", [
    ({"name": "shapes"}, "/name"), ({"name": "a b"}, "/name"), ({"name": "ds_x"}, "/name"), ({"name": "x" * 33}, "/name"), ({"name": "-x"}, "/name"),
    ({"bytes": 0}, "/bytes"), ({"bytes": None}, "/bytes"), ({"sha256": "F" * 64}, "/sha256"), ({"sha256": "00"}, "/sha256"), ({"sizes": 1}, "/sizes"),
    ({"options": {"size": 7}}, "/options/size"), ({"options": {"fit": "cut"}}, "/options/fit"), ({"options": {"channels": 2}}, "/options/channels"),
    ({"options": {"test_fraction": 0}}, "/options/test_fraction"), ({"options": {"crop": 1}}, "/options/crop"), ({"options": []}, "/options"),
])
def test_wrong_announcements_name_the_field(service, problem, data, changes, pointer):
    problem(service.post("/v1/datasets", {**announcement(data, "wrong"), **changes}), 400, None, pointer)


def test_a_name_is_taken_once(service, ready, data, problem):
    assert ready["name"] == "flowers"
    problem(service.post("/v1/datasets", announcement(data)), 409, "conflict", "/name")


def test_an_unfinished_one_cannot_be_trained_on(service, data, problem):
    dataset = announce(service, data, "unfinished")
    answer = problem(service.post("/v1/jobs", {"dataset": "unfinished", **TRAIN}), 400, "invalid-field", "/dataset")
    assert "uploading" in answer["detail"]
    problem(service.get(f"/v1/datasets/{dataset['id']}/sheet"), 409, "conflict")
    assert service.delete(f"/v1/datasets/{dataset['id']}").status_code == 204


def answer_to_chunks(service, path):
    """The status for a body without a length, of which nothing is sent."""
    name, port = service.host.rsplit(":", 1)
    connection = http.client.HTTPConnection(name, int(port), timeout=30)
    connection.putrequest("PATCH", path)
    for header, value in {**BYTES, "Transfer-Encoding": "chunked"}.items():
        connection.putheader(header, value)
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_offsets(service, data, problem):
    dataset = announce(service, data, "pieces")
    content = f"/v1/datasets/{dataset['id']}/content"
    assert send(service, dataset, data, 0, 1000).json()["upload"]["offset"] == 1000
    assert "offset=1000" in problem(send(service, dataset, data, 0, 10), 409, "conflict", "?offset")["detail"]
    problem(send(service, dataset, data, 2000, 2010), 409, "conflict", "?offset")
    problem(service.request("PATCH", content, data=b"x", headers=BYTES), 400, "invalid-field", "?offset")
    assert answer_to_chunks(service, content + "?offset=1000") == 400
    problem(service.request("PATCH", content + "?offset=1000", data=b"x"), 415, "unsupported-media-type")
    assert announce(service, data, "pieces")["upload"]["offset"] == 1000  # announced again: goes on
    nearly = len(data) - 5
    assert send(service, dataset, data, 1000, nearly).json()["state"] == "uploading"
    problem(service.request("PATCH", f"{content}?offset={nearly}", data=b"x" * 6, headers=BYTES), 413, "too-large")
    assert send(service, dataset, data, nearly).json()["state"] in ("queued", "importing")
    problem(send(service, dataset, data, len(data)), 409, "conflict")


def test_a_wrong_hash_fails(service, data):
    failed = add(service, data, "wrong-hash", sha256="0" * 64)
    assert failed["state"] == "failed" and "announced" in failed["failure"]["text"] and failed["reason"] == failed["failure"]["text"]


def test_a_bad_archive_fails_with_its_entry(service, tmp_path):
    bad = archive(tmp_path, {**flowers(2), "../escape.png": b"x"})
    failed = add(service, bad, "bad")
    assert failed["state"] == "failed" and failed["failure"]["entry"] == "../escape.png"


def test_too_large_is_refused_before_the_body(make_daemon, data, problem):
    daemon = make_daemon("--dataset-max", "1")
    problem(daemon.post("/v1/datasets", {**announcement(data), "bytes": (1 << 20) + 1}), 413, "too-large")
