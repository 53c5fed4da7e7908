"""Jobs that run others again, and receipts, with workers whose hashes are as the test wants them."""
import hashlib

import pytest
from service import until


def verify(fake, job, status=202):
    answer = fake.post(f"/v1/jobs/{job['id']}/verify")
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture(name="done")
def succeeded_job(fake):
    return fake.wait_for(fake.submit(name="all", epochs=4), "succeeded")


def test_identical(fake, done):
    answer = fake.post(f"/v1/jobs/{done['id']}/verify")
    again = answer.json()
    assert answer.status_code == 202 and answer.headers["Location"] == f"/v1/jobs/{again['id']}"
    assert again["verifies"] == done["id"] and again["verification"] == {"result": "pending", "epoch": None, "job": done["id"]}
    again = fake.wait_for(again, "succeeded")
    assert again["verification"] == {"result": "identical", "epoch": None, "job": done["id"]}
    assert fake.job(done)["verification"] == {"result": "identical", "epoch": None, "job": again["id"]}
    assert done["verifies"] is None and done["verification"] is None


def test_what_the_worker_chose_is_pinned(fake, done):
    """"auto" and the default number of threads mean something else on another day."""
    again = verify(fake, done)
    assert done["spec"]["backend"] == "auto"
    assert again["spec"] == {**done["spec"], "backend": "ref", "precision": "f32", "threads": 1, "device": "cpu"}


@pytest.mark.parametrize("first, state", [(1, "cancelled"), (3, "cancelled"), (4, "succeeded")])
def test_differs(fake, epochs_of, first, state):
    """The first difference ends the job early; with the last epoch it is over anyway."""
    (fake.data / "go").touch()
    (fake.data / "some").write_text(str(first))
    done = fake.wait_for(fake.submit(name="hello,some,pause:go,rest,done", epochs=4), "succeeded")
    if state == "cancelled":
        (fake.data / "go").unlink()
    (fake.data / "other-weights").write_text(str(first))
    again = fake.wait_for(verify(fake, done), "succeeded", "cancelled")
    assert again["state"] == state and again["epochs_done"] == first
    assert again["verification"] == {"result": "differs", "epoch": first, "job": done["id"]}
    assert fake.job(done)["verification"] == {"result": "differs", "epoch": first, "job": again["id"]}
    assert epochs_of(fake, again) == list(range(1, first + 1))
    if state == "cancelled":
        assert again["reason"]["code"] == "conflict" and f"after epoch {first}" in again["reason"]["text"]
        assert fake.post(f"/v1/jobs/{again['id']}/retry").status_code == 409


@pytest.mark.parametrize("second, result, first", [(3, "identical", None), (2, "differs", 3), (4, "differs", 4)])
def test_early_stops(fake, second, result, first):
    """Both must stop at the same place: equal as far as both go is not identical."""
    (fake.data / "some").write_text("3")
    done = fake.wait_for(fake.submit(name="hello,some,early", epochs=9, validation_fraction=0.25), "succeeded")
    assert done["epochs_done"] == 3
    (fake.data / "some").write_text(str(second))
    again = fake.wait_for(verify(fake, done), "succeeded", "cancelled")
    assert again["verification"] == {"result": result, "epoch": first, "job": done["id"]}


def test_who_can_be_verified(fake, done, problem):
    running = fake.submit(name="hello,wait")
    fake.wait_for(running, "running")
    assert "running" in problem(fake.post(f"/v1/jobs/{running['id']}/verify"), 409, "conflict")["detail"]
    again = verify(fake, done)
    assert again["id"] in problem(fake.post(f"/v1/jobs/{done['id']}/verify"), 409, "conflict")["detail"]
    assert "verified" in problem(fake.delete(f"/v1/jobs/{done['id']}"), 409, "conflict")["detail"]
    problem(fake.post("/v1/jobs/job_0000000000000000000000/verify"), 404, "not-found")


def test_what_is_not_offered_any_more(make_fake, contract, problem):
    """The same data on a machine without the backend that the job ran with."""
    fake = make_fake()
    done = fake.wait_for(fake.submit(name="all"), "succeeded")
    fake.stop()
    fake.env = {**fake.env, "RESIDUUM_FAKE_PROBE": "poor"}
    fake.start()
    fake.wait_for_probe()
    answer = contract.check(fake.post(f"/v1/jobs/{done['id']}/verify"))
    problem(answer, 422, "unsupported-here", "/backend")
    assert fake.job(done)["verification"] is None


def test_on_gpus(make_fake, problem):
    """It runs on the same GPU; where the GPU was free to choose its algorithms, nothing could be told."""
    fake = make_fake(probe="gpus")
    fake.wait_for_probe()
    done = fake.wait_for(fake.submit(name="all", device="GPU-b"), "succeeded")
    again = verify(fake, done)
    assert {k: again["spec"][k] for k in ("backend", "device")} == {"backend": "cudnn", "device": "GPU-b"}
    assert fake.wait_for(again, "succeeded")["device"] == "GPU-b"
    free = fake.wait_for(fake.submit(name="all", deterministic=False), "succeeded")
    assert "deterministic" in problem(fake.post(f"/v1/jobs/{free['id']}/verify"), 409, "conflict")["detail"]
    on_cpu = fake.wait_for(fake.submit(name="all", deterministic=False, device="cpu"), "succeeded")
    assert fake.wait_for(verify(fake, on_cpu), "succeeded")["verification"]["result"] == "identical"


def test_without_an_answer(fake, done):
    """A verification that is cancelled is unfinished; another try takes it up again."""
    blocker = fake.submit(name="hello,wait")
    fake.wait_for(blocker, "running")
    again = verify(fake, done)
    assert fake.post(f"/v1/jobs/{again['id']}/cancel").json()["verification"]["result"] == "unfinished"
    assert fake.job(done)["verification"]["result"] == "unfinished"
    fake.post(f"/v1/jobs/{again['id']}/retry")
    assert fake.job(done)["verification"]["result"] == "pending"
    fake.post(f"/v1/jobs/{blocker['id']}/cancel")
    assert fake.wait_for(again, "succeeded")["verification"]["result"] == "identical"
    assert fake.delete(f"/v1/jobs/{done['id']}").status_code == 204


def test_the_verified_job_is_gone(fake, done):
    blocker = fake.submit(name="hello,wait")
    fake.wait_for(blocker, "running")
    again = verify(fake, done)
    fake.post(f"/v1/jobs/{again['id']}/cancel")
    assert fake.delete(f"/v1/jobs/{done['id']}").status_code == 204
    answer = fake.post(f"/v1/jobs/{again['id']}/retry")
    assert answer.status_code == 409 and done["id"] in answer.json()["detail"]


def test_survives_a_kill(fake):
    """What was compared before the daemon died stays compared."""
    (fake.data / "go").touch()
    done = fake.wait_for(fake.submit(name="hello,epoch,epoch,until:go,rest,done", epochs=4), "succeeded")
    (fake.data / "go").unlink()
    again = verify(fake, done)
    until(lambda: fake.job(again)["epochs_done"] == 2, 10, "two epochs")
    (fake.data / "other-weights").write_text("3")
    fake.kill()
    fake.start_again()
    (fake.data / "go").touch()
    assert fake.wait_for(again, "succeeded", "cancelled")["verification"] == {"result": "differs", "epoch": 3, "job": done["id"]}


def test_jobs_from_others_start_from_the_same(fake):
    source = fake.wait_for(fake.submit(name="all"), "succeeded")
    done = fake.wait_for(fake.submit(name="all", **{"from": {"job": source["id"]}}), "succeeded")
    assert fake.delete(f"/v1/jobs/{source['id']}").status_code == 204
    again = verify(fake, done)
    initial = [(fake.data / "jobs" / job["id"] / "initial.safetensors").read_bytes() for job in (done, again)]
    assert initial[0] == initial[1]
    assert fake.wait_for(again, "succeeded")["verification"]["result"] == "identical"


def test_receipt(fake):
    job = fake.wait_for(fake.submit(name="hello,epoch,kill:9|all", epochs=3, seed=5), "succeeded")
    receipt = fake.get(f"/v1/jobs/{job['id']}/receipt").json()
    assert receipt["spec"] == job["spec"] and receipt["seed"] == 5 and receipt["uniform"] and receipt["state"] == "succeeded"
    assert [a["attempt"] for a in receipt["attempts"]] == [1, 2]
    assert receipt["attempts"][0]["data_sha256"] == "d" * 64 and receipt["attempts"][0]["threads"] == 1
    assert [(e["epoch"], e["attempt"]) for e in receipt["epochs"]] == [(1, 1), (2, 2), (3, 2)]
    epochs = fake.get(f"/v1/jobs/{job['id']}/epochs").json()["items"]
    assert [e["weights_sha256"] for e in receipt["epochs"]] == [e["weights_sha256"] for e in epochs]


def test_receipt_hash_is_that_of_the_text(fake, done, rows):
    receipt = fake.get(f"/v1/jobs/{done['id']}/receipt")
    ((text,),) = rows(fake, f"SELECT spec FROM job WHERE id = '{done['id']}'")
    assert f'"spec":{text},' in receipt.text and hashlib.sha256(text.encode()).hexdigest() == receipt.json()["spec_sha256"]


def test_receipt_says_when_something_changed(fake):
    """A library that was replaced while the job was interrupted."""
    job = fake.submit(name="hello,epoch,until:go,kill:9|all")
    until(lambda: fake.job(job)["epochs_done"] == 1, 10, "an epoch")
    (fake.data / "other-version").write_text("9.9")
    (fake.data / "go").touch()
    fake.wait_for(job, "succeeded")
    receipt = fake.get(f"/v1/jobs/{job['id']}/receipt").json()
    assert [a["backend_version"] for a in receipt["attempts"]] == ["0", "9.9"] and not receipt["uniform"]
