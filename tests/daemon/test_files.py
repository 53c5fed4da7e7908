"""What workers leave in their jobs' directories, and jobs that start from it: weights, predictions, "from", with workers that make up
small files."""
import json
import shutil
import struct

import pytest
from service import until

VALIDATED = {"validation_fraction": 0.25}


@pytest.fixture(name="trained", scope="module")
def trained_job(shared_fake):
    """Five epochs, of which 2 is the best and 2, 4 and 5 are kept."""
    return shared_fake.wait_for(shared_fake.submit(name="all", epochs=5, keep_every=2, **VALIDATED), "succeeded")


def weights_of(data):
    """The tensors of a safetensors file as lists."""
    size = struct.unpack("<Q", data[:8])[0]
    header, values = json.loads(data[8:8 + size]), data[8 + size:]
    kinds = {"F32": "f", "I32": "i"}
    return {name: list(struct.unpack(f"<{(t['data_offsets'][1] - t['data_offsets'][0]) // 4}{kinds[t['dtype']]}",
                                     values[t["data_offsets"][0]:t["data_offsets"][1]])) for name, t in header.items()}


# --- weights ---


def test_weights_are_listed(shared_fake, trained):
    items = shared_fake.get(f"/v1/jobs/{trained['id']}/weights").json()["items"]
    assert [(i["epoch"], i["last"], i["best"]) for i in items] == [(2, False, True), (4, False, False), (5, True, False)]
    epoch = shared_fake.get(f"/v1/jobs/{trained['id']}/epochs/4").json()
    assert items[1]["sha256"] == epoch["exported_sha256"] == "e" * 64 != epoch["weights_sha256"]
    for item in items:
        file = shared_fake.get(f"/v1/jobs/{trained['id']}/weights/{item['epoch']}")
        assert len(file.content) == item["bytes"] and weights_of(file.content)["fc"] == [item["epoch"], 0.5]


def test_weights_by_name(shared_fake, trained, problem):
    path = f"/v1/jobs/{trained['id']}/weights"
    last = shared_fake.get(f"{path}/last")
    assert last.headers["Content-Type"] == "application/octet-stream"
    assert last.headers["Content-Disposition"] == f'attachment; filename="{trained["id"]}-epoch-5.safetensors"'
    assert weights_of(last.content)["fc"][0] == 5 and weights_of(shared_fake.get(f"{path}/best").content)["fc"][0] == 2
    head = shared_fake.request("HEAD", f"{path}/last")
    assert head.content == b"" and int(head.headers["Content-Length"]) == len(last.content)
    assert "2, 4, 5" in problem(shared_fake.get(f"{path}/3"), 404, "not-found")["detail"]
    for name in ("0", "6", "-1", "first", "checkpoint", "99999999999999999999"):
        problem(shared_fake.get(f"{path}/{name}"), 404, "not-found")
    plain = shared_fake.wait_for(shared_fake.submit(name="all"), "succeeded")
    assert "validation_fraction" in problem(shared_fake.get(f"/v1/jobs/{plain['id']}/weights/best"), 404, "not-found")["detail"]


def test_no_weights_yet(fake, problem):
    job = fake.submit(name="hello,wait")
    fake.wait_for(job, "running")
    assert fake.get(f"/v1/jobs/{job['id']}/weights").json() == {"items": []}
    problem(fake.get(f"/v1/jobs/{job['id']}/weights/last"), 404, "not-found")
    problem(fake.get(f"/v1/jobs/{job['id']}/predictions"), 404, "not-found")


# --- predictions ---


def test_predictions_in_pages(shared_fake, trained, problem):
    path = f"/v1/jobs/{trained['id']}/predictions"
    page = shared_fake.get(f"{path}?one_hot=true").json()
    assert page["images"] == 4 and page["classes"] == 2 and page["next"] is None
    assert page["items"][3] == {"index": 3, "label": 1, "predicted": 1, "probability": 0.75, "one_hot": [0, 1], "softmax": [0.25, 0.75]}
    assert [i["label"] for i in page["items"]] == [0, 0, 1, 1] and [i["predicted"] for i in page["items"]] == [0, 0, 0, 1]
    seen, after = [], 0
    while after is not None:
        part = shared_fake.get(f"{path}?limit=3&after={after}").json()
        assert "one_hot" not in part["items"][0]
        seen += [i["index"] for i in part["items"]]
        after = part["next"]
    assert seen == [0, 1, 2, 3]
    assert shared_fake.get(f"{path}?after=99").json()["items"] == []
    for query, pointer in (("limit=0", "?limit"), ("limit=1001", "?limit"), ("after=-1", "?after"), ("one_hot=1", "?one_hot"),
                           ("format=csv", "?format")):
        problem(shared_fake.get(f"{path}?{query}"), 400, "invalid-field", pointer)


def test_predictions_as_files(shared_fake, trained):
    path = f"/v1/jobs/{trained['id']}/predictions"
    whole = weights_of(shared_fake.get(f"{path}?format=safetensors").content)
    softmax = shared_fake.get(f"{path}?format=f32").content
    assert list(struct.unpack("<8f", softmax)) == whole["softmax"] == [0.75, 0.25, 1.0, 0.0, 0.5, 0.5, 0.25, 0.75]
    assert whole["labels"] == [0, 0, 1, 1] and whole["predicted"] == [0, 0, 0, 1]


def tensors(**entries):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 64


GOOD = {"softmax": {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]}, "labels": {"dtype": "I32", "shape": [4], "data_offsets": [32, 48]},
        "predicted": {"dtype": "I32", "shape": [4], "data_offsets": [48, 64]}}


@pytest.mark.parametrize("data", [
    b"", b"\0" * 7, struct.pack("<Q", 1 << 60), struct.pack("<Q", 100) + b"{}", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 2) + b"{]",
    tensors(), tensors(**{**GOOD, "labels": {**GOOD["labels"], "dtype": "F32"}}), tensors(**{**GOOD, "labels": {**GOOD["labels"], "shape": [5]}}),
    tensors(**{**GOOD, "labels": {**GOOD["labels"], "data_offsets": [52, 68]}}), tensors(**{**GOOD, "labels": {**GOOD["labels"], "data_offsets": [-16, 0]}}),
    tensors(**{**GOOD, "predicted": {"dtype": "I32", "shape": [2], "data_offsets": [48, 56]}}),
    tensors(**{**GOOD, "softmax": {"dtype": "F32", "shape": [1 << 30, 1 << 30], "data_offsets": [0, 32]}}),
    tensors(**GOOD)[:-64] + b"\0" * 32 + b"\xff" * 32, tensors(**{**GOOD, "softmax": 7}),
], ids=range(15))
def test_damaged_predictions(fake, problem, data):
    job = fake.wait_for(fake.submit(name="all"), "succeeded")
    (fake.data / "jobs" / job["id"] / "predictions.safetensors").write_bytes(data)
    problem(fake.get(f"/v1/jobs/{job['id']}/predictions"), 500, "damaged-data")


# --- jobs that start from others ---


def test_from_links_the_weights(fake):
    """The files are the new job's own: the source may go before it starts."""
    source = fake.wait_for(fake.submit(name="all", epochs=4, **VALIDATED), "succeeded")
    blocker = fake.submit(name="hello,until:go,rest,done")
    fake.wait_for(blocker, "running")
    last = fake.submit(name="all", **{"from": {"job": source["id"]}})
    best = fake.submit(name="all", **{"from": {"job": source["id"], "epoch": 2}})
    assert last["spec"]["from"] == {"job": source["id"], "epoch": 4, "resume": False}, "the epoch is not left open"
    for job, epoch in ((last, 4), (best, 2)):
        assert weights_of((fake.data / "jobs" / job["id"] / "initial.safetensors").read_bytes())["fc"][0] == epoch
    assert fake.delete(f"/v1/jobs/{source['id']}").status_code == 204
    (fake.data / "go").touch()
    for job in (last, best):
        assert fake.wait_for(job, "succeeded")["worker"]["initial"] == {"taken": ["fc"], "fresh": []}


def test_resume_links_checkpoint_and_epochs(fake, problem):
    source = fake.wait_for(fake.submit(name="all", epochs=2), "succeeded")
    job = fake.submit(name="hello,wait", epochs=4, **{"from": {"job": source["id"], "resume": True}})
    folder = fake.data / "jobs" / job["id"]
    assert (folder / "initial.safetensors").exists() and (folder / "initial-epochs.ndjson").read_text() == "{}\n{}\n"
    fake.wait_for(job, "running")
    start = {**source["spec"], "epochs": 4, "from": {"job": source["id"], "resume": True}}
    for changes, pointer in (({"epochs": 2}, "/epochs"), ({"seed": 7}, "/seed"), ({"model": "resnet20"}, "/model"), ({"pad": 2}, "/pad"),
                             ({"optimizer": {"kind": "adam"}}, "/optimizer/kind"), ({"validation_fraction": 0.5}, "/validation_fraction"),
                             ({"from": {"job": job["id"], "resume": True}}, "/from/job")):
        problem(fake.post("/v1/jobs", {**start, "schedule": {"kind": "constant", "lr": 0.1}, **changes}), 400, "invalid-field", pointer)
    longer = fake.post("/v1/jobs?dry_run=true", {**start, "schedule": {"kind": "constant", "lr": 0.01}})
    assert longer.status_code == 200, "the rate may change"


def test_resume_links_the_best_weights(fake):
    """A job that verifies the one that goes on gets the same."""
    source = fake.wait_for(fake.submit(name="all", epochs=4, **VALIDATED), "succeeded")
    assert source["best_epoch"] == 2
    spec = {**source["spec"], "epochs": 6, "from": {"job": source["id"], "resume": True}}
    job = fake.wait_for(fake.post("/v1/jobs", spec).json(), "succeeded")
    again = fake.post(f"/v1/jobs/{job['id']}/verify").json()
    wanted = fake.get(f"/v1/jobs/{source['id']}/weights/best").content
    for started in (job, again):
        assert (fake.data / "jobs" / started["id"] / "initial-best.safetensors").read_bytes() == wanted


def test_from_what_is_not_there(fake, problem):
    source = fake.wait_for(fake.submit(name="all", epochs=3), "succeeded")
    unborn = fake.submit(name="hello,wait")
    fake.wait_for(unborn, "running")

    def refuse(wanted, pointer, words):
        before = set(fake.data.glob("jobs/*"))
        for query in ("", "?dry_run=true"):
            answer = fake.post(f"/v1/jobs{query}", {**source["spec"], "from": wanted})
            assert words in problem(answer, 400, "invalid-field", pointer)["detail"]
        assert set(fake.data.glob("jobs/*")) == before

    refuse({"job": "job_0000000000000000000000"}, "/from/job", "no job")
    refuse({"job": "../../etc"}, "/from/job", "no job")
    refuse({"job": source["id"], "epoch": 1}, "/from/epoch", "those of 3")
    refuse({"job": unborn["id"]}, "/from/job", "no weights of any epoch")
    refuse({"job": unborn["id"], "resume": True}, "/from/job", "has ended")
    fake.post(f"/v1/jobs/{unborn['id']}/cancel")
    fake.wait_for(unborn, "cancelled")
    refuse({"job": unborn["id"], "resume": True}, "/from/job", "nothing to resume")
    (fake.data / "jobs" / source["id"] / "epochs.ndjson").unlink()
    answer = fake.post("/v1/jobs", {**source["spec"], "epochs": 9, "from": {"job": source["id"], "resume": True}})
    before = set(fake.data.glob("jobs/*"))
    assert "epochs.ndjson" in problem(answer, 400, "invalid-field", "/from/job")["detail"]
    assert set(fake.data.glob("jobs/*")) == before


def test_nothing_of_a_lost_commit_is_left(fake):
    """A daemon that died between link and commit: the next one sweeps the directory."""
    source = fake.wait_for(fake.submit(name="all"), "succeeded")
    fake.kill()
    orphan = fake.data / "jobs" / "job_0000000000000000000000"
    shutil.copytree(fake.data / "jobs" / source["id"], orphan)
    fake.start_again()
    assert not orphan.exists() and until(lambda: fake.get("/readyz").status_code == 200, 10, "the daemon")


# --- the queue's limit ---


def test_queue_has_an_end(make_fake, problem):
    fake = make_fake("--queue-max", "2")
    done = fake.wait_for(fake.submit(name="all"), "succeeded")
    running = fake.submit(name="hello,wait")
    fake.wait_for(running, "running")
    queued = [fake.submit(name="all") for _ in range(2)]
    before = set(fake.data.glob("jobs/*"))
    assert "2 jobs wait" in problem(fake.post("/v1/jobs", {**done["spec"], "from": {"job": done["id"]}}), 429, "too-many")["detail"]
    problem(fake.post(f"/v1/jobs/{done['id']}/verify"), 429, "too-many")
    assert set(fake.data.glob("jobs/*")) == before and len(fake.get("/v1/jobs").json()["items"]) == 4
    fake.post(f"/v1/jobs/{queued[0]['id']}/cancel")
    fake.submit(name="all")
