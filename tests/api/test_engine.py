"""What the engine promises, through the API and with the real worker: the same bits again, whatever way a training goes."""
import hashlib
import json
import struct

import pytest
from service import FAST, until

CONSTANT = {**FAST, "schedule": {"kind": "constant", "lr": 0.05}, "optimizer": {"kind": "adam"}, "average_decay": 0.9,
            "validation_fraction": 0.25}


def hashes(service, job):
    return [e["weights_sha256"] for e in service.get(f"/v1/jobs/{job['id']}/receipt").json()["epochs"]]


@pytest.fixture(name="whole", scope="module")
def whole_job(service):
    """Four epochs in one training."""
    return service.wait_for(service.submit(CONSTANT, epochs=4, keep_every=1))


def test_verified(service, whole):
    answer = service.post(f"/v1/jobs/{whole['id']}/verify")
    again = service.wait_for(answer.json(), "succeeded")
    assert again["verification"]["result"] == "identical" and hashes(service, again) == hashes(service, whole)


def test_resumed_as_if_it_were_one(service, whole):
    """Two epochs, and two more by another job: weights, averages, moments and choices of both together are those of one training."""
    half = service.wait_for(service.submit(CONSTANT, epochs=2))
    rest = service.submit(CONSTANT, epochs=4, **{"from": {"job": half["id"], "resume": True}})
    rest = service.wait_for(rest, "succeeded")
    assert rest["epochs_done"] == 4 and hashes(service, rest) == hashes(service, whole)
    assert rest["best_epoch"] == whole["best_epoch"] and rest["worker"]["initial"]["fresh"] == []
    ours, theirs = ([e["test"] for e in service.get(f"/v1/jobs/{job['id']}/epochs").json()["items"]] for job in (rest, whole))
    assert ours == theirs


def test_resuming_needs_more_epochs(service, whole, problem):
    spec = {**CONSTANT, "epochs": 3, "from": {"job": whole["id"], "resume": True}}
    assert "it must be at least 5" in problem(service.post("/v1/jobs", spec), 400, "invalid-field", "/epochs")["detail"]


def test_started_from_kept_weights(service, whole):
    """What fits is taken; a layer for another number of channels begins anew and is named."""
    tuned = service.wait_for(service.submit(CONSTANT, epochs=1, **{"from": {"job": whole["id"], "epoch": 2}}), "succeeded")
    assert tuned["spec"]["from"]["epoch"] == 2 and tuned["worker"]["initial"]["fresh"] == [] and tuned["worker"]["initial"]["taken"]
    wider = service.submit(CONSTANT, epochs=1, model={"preset": "lenet5", "width": 2}, **{"from": {"job": whole["id"]}})
    wider = service.wait_for(wider, "succeeded")
    assert wider["worker"]["initial"]["fresh"] and wider["spec"]["from"]["epoch"] == 4
    assert hashes(service, wider) != hashes(service, tuned)


def test_early_stop(service):
    """Nothing is learnt at a rate of nothing, so that patience runs out."""
    job = service.submit(CONSTANT, epochs=50, schedule={"kind": "constant", "lr": 1e-12}, selection={"metric": "loss", "patience": 2, "min_delta": 1})
    job = service.wait_for(job, "succeeded")
    assert job["stopped_early"] and job["epochs_done"] < 50 and 1 <= job["best_epoch"] <= job["epochs_done"]
    assert service.get(f"/v1/jobs/{job['id']}/predictions").json()["images"] == 256


def test_predictions_agree_with_the_last_epoch(service, whole):
    """Page by page, and as binary files."""
    path, items, after = f"/v1/jobs/{whole['id']}/predictions", [], 0
    while after is not None:
        page = service.get(f"{path}?limit=100&after={after}&one_hot=true").json()
        items += page["items"]
        after = page["next"]
    test = service.get(f"/v1/jobs/{whole['id']}/epochs/last").json()["test"]
    assert [i["index"] for i in items] == list(range(256)) and [i["label"] for i in items[:25]] == test["labels"]
    for truth, row in enumerate(test["confusion"]):
        assert row == [sum(i["label"] == truth and i["predicted"] == k for i in items) for k in range(10)]
    for item in items:
        assert item["one_hot"].index(1) == item["predicted"] and item["probability"] == max(item["softmax"])
    raw = service.get(f"{path}?format=f32").content
    values = [struct.unpack("<f", struct.pack("<f", v))[0] for item in items for v in item["softmax"]]
    assert list(struct.unpack(f"<{len(values)}f", raw)) == values, "nine digits are the f32"


def test_weights_have_names_and_their_hash(service, whole):
    listed = service.get(f"/v1/jobs/{whole['id']}/weights").json()["items"]
    epochs = service.get(f"/v1/jobs/{whole['id']}/epochs").json()["items"]
    assert [(i["epoch"], i["sha256"]) for i in listed] == [(e["epoch"], e["exported_sha256"]) for e in epochs]
    assert [e["weights_sha256"] for e in epochs] == hashes(service, whole) != [i["sha256"] for i in listed], "the job has an average"
    data = service.get(f"/v1/jobs/{whole['id']}/weights/best").content
    header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
    digest = hashlib.sha256(data[8 + struct.unpack("<Q", data[:8])[0]:]).hexdigest()
    assert digest == header["__metadata__"]["sha256"] == listed[whole["best_epoch"] - 1]["sha256"] and "conv1.weight" in header


def test_last_weights_while_training(service):
    """Replaced every few milliseconds, they are there and whole whenever one asks."""
    job = service.submit(FAST, epochs=5000, train_limit=256, test_limit=64)
    until(lambda: service.job(job)["epochs_done"] > 0, 60, "an epoch")
    for _ in range(30):
        answer = service.get(f"/v1/jobs/{job['id']}/weights/last")
        assert answer.status_code == 200, answer.text
        size = struct.unpack("<Q", answer.content[:8])[0]
        entries = json.loads(answer.content[8:8 + size])
        assert len(answer.content) == 8 + size + max(e["data_offsets"][1] for name, e in entries.items() if name != "__metadata__")
    service.post(f"/v1/jobs/{job['id']}/cancel")
    service.wait_for(job, "cancelled")


def test_a_preset_is_its_layers(service):
    """Printed as layers and submitted again it is the same network, and trains to the same bits."""
    layers = service.get("/v1/presets/lenet5/layers?dataset=shapes").json()
    dry = service.post("/v1/jobs?dry_run=true&format=layers", FAST).json()
    assert dry["layers"] == layers and service.post("/v1/jobs?dry_run=true", {**FAST, "model": layers}).json()["parameters"] == dry["parameters"]
    preset, listed = (service.wait_for(service.submit(FAST, epochs=1, model=model)) for model in ("lenet5", layers))
    assert hashes(service, preset) == hashes(service, listed)
    assert service.get(f"/v1/jobs/{listed['id']}/graph?format=layers").json() == layers


def test_dry_run_formats(service, problem):
    problem(service.post("/v1/jobs?dry_run=true&format=dot", FAST), 400, "invalid-field", "?format")
    problem(service.post("/v1/jobs?format=layers", FAST), 400, "invalid-field", "?format")
