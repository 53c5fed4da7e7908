"""Several devices: which job goes where, what a worker on a GPU is told, devices that fail, self-checks, memory."""
import json
import os
import subprocess

import pytest
from service import BUILD, FAST, until

GPUS = ("GPU-a", "GPU-b")
BROKEN = "hello,error:device-failed,exit:6"


@pytest.fixture
def make_gpus(make_fake):
    """make_gpus(probe=..., check=...): a daemon with fake workers and two GPUs, its probe and the GPUs' self-checks done."""

    def make(*args, probe="gpus", check="unknown", **env):
        daemon = make_fake(*args, probe=probe, env={"RESIDUUM_FAKE_CHECK": check, **env})
        settle(daemon)
        return daemon

    return make


def settle(daemon):
    daemon.wait_for_probe()
    until(lambda: all(d["job"] or d["state"] != "busy" for d in devices(daemon).values()), 30, "the self-checks")


@pytest.fixture
def gpus(make_gpus):  # pylint: disable=redefined-outer-name
    return make_gpus()


def devices(daemon):
    return {d["id"]: d for d in daemon.get("/v1/devices").json()["items"]}


def held(daemon, **changes):
    """A job that runs until its file is there."""
    return daemon.submit(name="hello,progress:1,pause:go,rest,done", **changes)


def running_on(daemon, job):
    return daemon.wait_for(job, "running")["device"]


# --- which job goes where ---


def test_two_gpus_run_two_jobs_and_the_processor_a_third(gpus):
    jobs = [held(gpus) for _ in range(3)]
    assert {running_on(gpus, job) for job in jobs[:2]} == set(GPUS)
    own = held(gpus, device="cpu")
    assert running_on(gpus, own) == "cpu"
    assert gpus.job(jobs[2])["state"] == "queued"  # it waits for a GPU, not for the processor
    shown = devices(gpus)
    assert {d["job"] for d in shown.values()} == {jobs[0]["id"], jobs[1]["id"], own["id"]}
    until(lambda: devices(gpus)["GPU-a"]["telemetry"], 30, "telemetry")
    assert devices(gpus)["GPU-a"]["telemetry"] == {"temperature_c": 61.0, "utilization": 0.9, "power_w": None, "memory_used_bytes": 1 << 30}
    assert shown["cpu"]["telemetry"] is None
    (gpus.data / "go").touch()
    for job in (*jobs, own):
        gpus.wait_for(job, "succeeded")
    assert gpus.job(jobs[2])["device"] in GPUS
    assert devices(gpus)["GPU-a"]["telemetry"] is None


def test_a_job_for_the_processor_does_not_wait_behind_jobs_for_gpus(gpus):
    waiting = [held(gpus) for _ in range(4)]
    own = gpus.submit(name="all", backend="onednn")
    assert gpus.wait_for(own, "succeeded")["device"] == "cpu"
    assert [gpus.job(job)["state"] for job in waiting[2:]] == ["queued", "queued"]


def test_a_job_goes_to_a_gpu_with_its_precision(make_gpus):
    old = make_gpus(probe="mixed")
    assert running_on(old, held(old, precision="bf16")) == "GPU-b"
    second = held(old, precision="bf16")
    assert running_on(old, held(old)) == "GPU-a"
    assert old.job(second)["state"] == "queued"
    named = held(old, device="GPU-b", precision="tf32")
    (old.data / "go").touch()
    assert old.wait_for(second, "succeeded")["device"] == old.wait_for(named, "succeeded")["device"] == "GPU-b"


def test_refusals_name_what_there_is(gpus, problem):
    for changes, pointer, words in (({"device": "GPU-c"}, "/device", "there is cpu, GPU-a, GPU-b"),
                                    ({"device": "cpu", "precision": "tf32"}, "/precision", "there is f32, bf16"),
                                    ({"device": "GPU-a", "backend": "onednn"}, "/backend", "there is cudnn")):
        document = problem(gpus.post("/v1/jobs", {**FAST, **changes}), 422, "unsupported-here", pointer)
        assert words in document["errors"][0]["detail"], document


def test_gpus_that_were_not_told_in_time_are_asked_for_again(make_fake):
    """And those that are known stay, whatever a later answer lacks."""
    late = make_fake(probe="gpus-when:there", env={"RESIDUUM_FAKE_CHECK": "pass"})
    late.wait_for_probe()
    assert set(devices(late)) == {"cpu"}
    (late.data / "there").touch()
    until(lambda: set(devices(late)) == {"cpu", *GPUS}, 60, "the second probe")
    settle(late)
    (late.data / "there").unlink()
    until(lambda: late.log().count("event=probe-answered") >= 3, 60, "the third probe")
    assert set(devices(late)) == {"cpu", *GPUS}
    assert late.wait_for(late.submit(name="all"), "succeeded")["device"] in GPUS
    assert len((late.data / "checked").read_text().splitlines()) == 2  # they are found once


# --- what a worker is told ---


def test_a_gpus_worker_sees_that_gpu_alone(make_gpus):
    gpus = make_gpus(check="pass", CUDA_VISIBLE_DEVICES="0,1", RESIDUUM_GPU_FEATURES="none-of-the-operators")
    job = gpus.wait_for(gpus.submit(name="environment,all", device="GPU-b"), "succeeded")
    lines = (gpus.data / "jobs" / job["id"] / "environment").read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines)
    assert len(told) == len(lines)
    assert told["CUDA_VISIBLE_DEVICES"] == "GPU-b" and told["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert told["RESIDUUM_PLAN_CACHE"] == f"{gpus.data}/plan-cache" and told["RESIDUUM_GPU_FEATURES"] == "fused-norm"
    own = gpus.wait_for(gpus.submit(name="environment,all", device="cpu"), "succeeded")
    text = (gpus.data / "jobs" / own["id"] / "environment").read_text()
    assert "CUDA_VISIBLE_DEVICES=0,1\n" in text and "RESIDUUM_PLAN_CACHE" not in text


def test_a_worker_on_another_device_is_a_fault(gpus):
    job = gpus.wait_for(gpus.submit(name="astray"), "failed")
    assert job["reason"]["code"] == "worker-protocol" and "the worker trains on device GPU-x" in job["reason"]["text"]


def test_epochs_of_a_gpu_keep_how_it_was(gpus, contract):
    job = gpus.wait_for(gpus.submit(name="all"), "succeeded")
    epoch = contract.check(gpus.get(f"/v1/jobs/{job['id']}/epochs/1")).json()
    assert epoch["gpu"]["energy_j"] == 120.5 and job["worker"]["device_id"] in GPUS


# --- devices that fail ---


def test_a_failed_device_is_drained_and_its_job_goes_on_elsewhere(gpus, contract, rows, epochs_of):
    job = gpus.wait_for(gpus.submit(name="hello,epoch,error:device-failed,exit:6|hello,pause:go,rest,done"), "running")
    until(lambda: gpus.job(job)["attempt"] == 2 and gpus.job(job)["state"] == "running", 30, "the second attempt")
    drained = [d for d in devices(gpus).values() if d["state"] == "drained"]
    assert len(drained) == 1 and drained[0]["reason"] == "the fake says device-failed" and drained[0]["job"] is None
    assert gpus.job(job)["device"] in set(GPUS) - {drained[0]["id"]}
    contract.check(gpus.get("/v1/devices"))
    checks = contract.check(gpus.get("/readyz")).json()["checks"]
    assert checks["drained_devices"] == [{"id": drained[0]["id"], "reason": "the fake says device-failed"}]
    assert 'residuum_devices{state="drained"} 1' in gpus.get("/metrics").text
    assert rows(gpus, "SELECT attempt, tries, reason FROM job") == [(2, 1, "device-failed")]
    assert "event=device-drained" in gpus.log()
    path = f"/v1/devices/{drained[0]['id']}/resume"
    assert contract.check(gpus.post(path)).json()["state"] == "ready"
    assert "is not drained" in contract.check(gpus.post(path)).json()["detail"]
    assert "`residuum devices` or GET /v1/devices" in gpus.post("/v1/devices/GPU-c/resume").json()["detail"]
    (gpus.data / "go").touch()
    assert gpus.wait_for(job, "succeeded")["reason"] is None
    assert epochs_of(gpus, job) == [1, 2]


def test_a_job_under_which_two_devices_fail_fails(gpus):
    job = gpus.wait_for(gpus.submit(name=f"{BROKEN}|{BROKEN}|all"), "failed")
    assert job["reason"]["code"] == "device-failed" and job["attempt"] == 2
    assert "two devices in a row failed under this job" in job["reason"]["text"]
    assert [devices(gpus)[gpu]["state"] for gpu in GPUS] == ["drained", "drained"]
    other = gpus.wait_for(gpus.submit(name="all"), "succeeded")
    assert other["device"] == "cpu"  # no GPU is left


def test_a_job_for_one_device_waits_until_it_is_back(gpus):
    job = gpus.submit(name=f"{BROKEN}|all", device="GPU-b")
    until(lambda: devices(gpus)["GPU-b"]["state"] == "drained" and gpus.job(job)["state"] == "queued", 30, "the drain")
    assert gpus.wait_for(gpus.submit(name="all"), "succeeded")["device"] == "GPU-a"
    assert gpus.job(job)["state"] == "queued" and gpus.job(job)["reason"]["code"] == "device-failed"
    assert gpus.post("/v1/devices/GPU-b/resume").status_code == 200
    assert gpus.wait_for(job, "succeeded")["device"] == "GPU-b"


def test_a_restart_puts_devices_back(gpus):
    job = gpus.submit(name=f"{BROKEN}|all", device="GPU-b")
    until(lambda: devices(gpus)["GPU-b"]["state"] == "drained", 30, "the drain")
    gpus.stop()
    gpus.start()
    assert gpus.wait_for(job, "succeeded")["device"] == "GPU-b"
    assert devices(gpus)["GPU-b"]["state"] == "ready" and devices(gpus)["GPU-b"]["reason"] is None


def test_an_exit_code_without_a_reason_drains_too(gpus):
    job = gpus.wait_for(gpus.submit(name="exit:6|all"), "succeeded")
    assert job["attempt"] == 2
    assert sorted(d["reason"] for d in devices(gpus).values() if d["state"] == "drained") == ["no reason was told"]


# --- self-checks ---


def change_record(daemon, gpu, **changes):
    path = daemon.data / "self-check" / f"{gpu}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_gpus_check_themselves_before_their_first_job(make_gpus, contract):
    gpus = make_gpus(check="pass")
    checked = (gpus.data / "checked").read_text().splitlines()
    assert sorted(checked) == [f"--self-check --brief --device {gpu} {gpu}" for gpu in GPUS]
    contract.check(gpus.get("/v1/devices"))
    assert devices(gpus)["GPU-a"]["self_check"] == {"passed": True, "at": "2026-11-24T08:00:00.000000Z", "driver": "580.65.06",
                                                    "features": ["fused-norm"]}
    gpus.stop()
    gpus.start()
    settle(gpus)
    assert (gpus.data / "checked").read_text().splitlines() == checked  # the records fit, so none is made again


def test_self_checks_run_one_after_another(make_fake):
    gpus = make_fake(probe="gpus", env={"RESIDUUM_FAKE_CHECK": "pass-when:go"})
    gpus.wait_for_probe()
    assert [devices(gpus)[gpu]["state"] for gpu in GPUS] == ["busy", "busy"]
    assert len(gpus.children()) == 1
    (gpus.data / "go").touch()
    settle(gpus)
    assert [devices(gpus)[gpu]["state"] for gpu in GPUS] == ["ready", "ready"]
    assert (gpus.data / "checked").read_text().splitlines() == [f"--self-check --brief --device {gpu} {gpu}" for gpu in GPUS]


@pytest.mark.parametrize("changed", ["driver", "cudnn", "worker"])
def test_a_record_of_other_software_is_none(make_gpus, changed):
    gpus = make_gpus(check="pass")
    gpus.stop()
    checked = (gpus.data / "checked").read_text().splitlines()
    change_record(gpus, "GPU-b", **{changed: "0.0.9"})
    gpus.start()
    settle(gpus)
    assert (gpus.data / "checked").read_text().splitlines() == [*checked, "--self-check --brief --device GPU-b GPU-b"]


def test_a_new_driver_is_checked_again(make_gpus):
    gpus = make_gpus(check="pass")
    gpus.stop()
    for gpu in GPUS:
        change_record(gpus, gpu, driver="570.1", features=["of-old"])
    gpus.env["RESIDUUM_FAKE_CHECK"] = "unknown"
    gpus.start()
    settle(gpus)
    assert "event=self-check-ignored" in gpus.log()
    assert devices(gpus)["GPU-a"]["self_check"]["driver"] == "570.1"
    job = gpus.wait_for(gpus.submit(name="environment,all"), "succeeded")
    assert "RESIDUUM_GPU_FEATURES=\n" in (gpus.data / "jobs" / job["id"] / "environment").read_text()  # what the old driver could do is off


@pytest.mark.parametrize("check, reason", [("fail:GPU-b", "kernels: the sums are wrong"), ("crash", "SIGSEGV")])
def test_a_gpu_that_does_not_pass_gets_no_jobs(make_gpus, check, reason):
    gpus = make_gpus(check=check)
    assert devices(gpus)["GPU-b"]["state"] == "drained" and reason in devices(gpus)["GPU-b"]["reason"]
    assert gpus.wait_for(gpus.submit(name="all"), "succeeded")["device"] == ("cpu" if check == "crash" else "GPU-a")


def test_a_whole_check_that_failed_stays(make_gpus):
    """A restart makes no short one, which could pass and would take the place of the record."""
    gpus = make_gpus(check="pass")
    gpus.stop()
    checked = (gpus.data / "checked").read_text()
    items = [{"item": "memory", "passed": False, "skipped": False, "measured": 3, "limit": 0, "text": "3 words are wrong"}]
    change_record(gpus, "GPU-b", brief=False, passed=False, items=items)
    for _ in range(2):
        gpus.start()
        settle(gpus)
        assert devices(gpus)["GPU-b"]["state"] == "drained" and devices(gpus)["GPU-a"]["state"] == "ready"
        assert devices(gpus)["GPU-b"]["reason"] == "its self-check failed: memory: 3 words are wrong"
        assert devices(gpus)["GPU-b"]["self_check"]["passed"] is False
        gpus.stop()
    assert (gpus.data / "checked").read_text() == checked
    change_record(gpus, "GPU-b", driver="570.1")
    gpus.start()
    settle(gpus)
    assert devices(gpus)["GPU-b"]["state"] == "ready"  # what failed there was another driver


def test_a_check_by_hand_counts_when_its_gpu_is_put_back(make_gpus):
    gpus = make_gpus(check="fail:GPU-b")
    change_record(gpus, "GPU-b", brief=False, passed=True, features=["by-hand"])
    assert devices(gpus)["GPU-b"]["self_check"]["passed"] is False
    assert gpus.post("/v1/devices/GPU-b/resume").json()["self_check"]["passed"] is True
    job = gpus.wait_for(gpus.submit(name="environment,all", device="GPU-b"), "succeeded")
    assert "RESIDUUM_GPU_FEATURES=by-hand\n" in (gpus.data / "jobs" / job["id"] / "environment").read_text()


def test_a_damaged_record_is_no_record(make_gpus):
    gpus = make_gpus()
    gpus.stop()
    (gpus.data / "self-check").mkdir()
    for gpu, text in zip(GPUS, ("{", '{"passed": true}')):
        (gpus.data / "self-check" / f"{gpu}.json").write_text(text)
    gpus.start()
    settle(gpus)
    assert [devices(gpus)[gpu]["self_check"] for gpu in GPUS] == [None, None]
    assert "event=self-check-unreadable" in gpus.log()


def test_self_check_option_runs_the_worker(tmp_path):
    """The worker's own arguments, and where its record goes."""
    worker = tmp_path / "worker"
    worker.write_text('#!/bin/sh\necho "$@" "$RESIDUUM_SELF_CHECK" "$RESIDUUM_PLAN_CACHE"\nexit 1\n')
    worker.chmod(0o755)

    def run(*args):
        return subprocess.run([BUILD / "residuumd", "--data", tmp_path / "data", "--worker", worker, *args], capture_output=True, text=True,
                              timeout=60, env={**os.environ}, check=False)

    folders = f"{tmp_path}/data/self-check {tmp_path}/data/plan-cache"
    result = run("--self-check")
    assert result.returncode == 1 and result.stdout == f"--self-check {folders}\n"
    assert run("--self-check", "--brief", "--device", "GPU-a").stdout == f"--self-check --brief --device GPU-a {folders}\n"
    wrong = run("--device", "GPU-a")
    assert wrong.returncode == 2 and "belong to --self-check" in wrong.stderr


# --- memory ---

LARGE = {"dataset": "fashion-mnist", "model": {"preset": "resnet50", "width": 2}, "batch_size": 4096}


def test_what_no_gpu_has_room_for_is_refused(gpus, problem):
    answer = gpus.post("/v1/jobs", {**LARGE, "backend": "cudnn"})
    detail = problem(answer, 422, "unsupported-here")["errors"][0]["detail"]
    assert "GiB" in detail and "room for 80.00 GiB" in detail and ("largest batch" in detail or "not even one image" in detail)
    assert "processor" not in detail
    detail = problem(gpus.post("/v1/jobs", LARGE), 422, "unsupported-here")["errors"][0]["detail"]
    assert "processor" not in detail  # which has even less


def test_a_job_goes_to_the_gpu_that_has_room(make_gpus):
    small = make_gpus(probe="small")
    medium = {"dataset": "fashion-mnist", "model": "resnet18", "batch_size": 512}
    plan = small.post("/v1/jobs?dry_run=true&gpu=GPU-a", medium).json()["gpu"]
    assert not plan["fits"] and plan["free_bytes"] == 2 << 30 and 0 < plan["largest_batch"] < 512
    jobs = [small.submit(medium, name="hello,pause:go,rest,done") for _ in range(2)]
    assert running_on(small, jobs[0]) == "GPU-b"
    assert running_on(small, held(small)) == "GPU-a"
    assert small.job(jobs[1])["state"] == "queued"


def test_memory_that_was_in_use_at_the_start_refuses_no_job(make_gpus):
    """A worker of before a restart may still have had it."""
    full = make_gpus(probe="full")
    medium = {"dataset": "fashion-mnist", "model": "resnet18", "batch_size": 512, "backend": "cudnn"}
    plan = full.post("/v1/jobs?dry_run=true&gpu=GPU-a", medium).json()["gpu"]
    assert plan["fits"] and plan["free_bytes"] == 1 << 20 and plan["largest_batch"] >= 512
    assert full.wait_for(full.submit(medium, name="all"), "succeeded")["device"] in GPUS


def test_a_drained_gpu_has_no_room_while_another_works(make_gpus, problem):
    """What fits the drained one only is refused; once all are drained, it waits for the one that it fits."""
    small = make_gpus(probe="small")
    medium = {"dataset": "fashion-mnist", "model": "resnet18", "batch_size": 512, "backend": "cudnn"}
    small.submit(medium, name=f"{BROKEN}|all", device="GPU-b")
    until(lambda: devices(small)["GPU-b"]["state"] == "drained", 30, "the drain")
    assert "2.00 GiB" in problem(small.post("/v1/jobs", medium), 422, "unsupported-here", "/batch_size")["errors"][0]["detail"]
    refusal = problem(small.post("/v1/jobs", {**medium, "backend": "auto"}), 422, "unsupported-here", "/batch_size")
    assert refusal["errors"][0]["detail"].endswith('. Or train it on the processor: "device": "cpu"')
    small.submit(name=f"{BROKEN}|all", device="GPU-a")
    until(lambda: devices(small)["GPU-a"]["state"] == "drained", 30, "the second drain")
    waiting = small.submit(medium, name="all")
    assert small.post("/v1/devices/GPU-a/resume").status_code == 200
    assert small.wait_for(small.submit(name="all"), "succeeded")["device"] == "GPU-a"
    assert small.job(waiting)["state"] == "queued"
    assert small.post("/v1/devices/GPU-b/resume").status_code == 200
    assert small.wait_for(waiting, "succeeded")["device"] == "GPU-b"


def test_a_dry_run_tells_the_gpu_that_would_take_the_job(make_gpus, contract):
    small = make_gpus(probe="small")
    medium = {"dataset": "fashion-mnist", "model": "resnet18", "batch_size": 512}
    plan = contract.check(small.post("/v1/jobs?dry_run=true", medium)).json()["gpu"]
    assert plan["name"] == "GPU-b" and plan["fits"] and plan["memory_bytes"] == 80 << 30
    assert small.post("/v1/jobs?dry_run=true", {**medium, "device": "GPU-b"}).json()["gpu"] == plan
    assert "gpu" not in contract.check(small.post("/v1/jobs?dry_run=true", {**medium, "device": "cpu"})).json()


def test_plan_for_any_gpu(gpus, contract, problem):
    spec = {"dataset": "fashion-mnist", "model": "resnet18", "batch_size": 128, "precision": "bf16"}
    plan = contract.check(gpus.post("/v1/jobs?dry_run=true&gpu=h100", spec)).json()["gpu"]
    need = plan["need"]
    assert plan["fits"] and plan["compute"] == "9.0" and "H100" in plan["device"] and plan["largest_batch"] >= 128
    assert need["total_bytes"] == sum(v for k, v in need.items() if k != "total_bytes") <= plan["free_bytes"]
    assert need["data_bytes"] == 70000 * 32 * 32
    own = gpus.post("/v1/jobs?dry_run=true&gpu=GPU-a", spec).json()["gpu"]
    assert own["device"] == "fake GPU" and own["free_bytes"] == 79 << 30 and own["need"]["train_bytes"] == need["train_bytes"]
    problem(gpus.post("/v1/jobs?dry_run=true&gpu=t4", spec), 422, "unsupported-here", "/precision")
    problem(gpus.post("/v1/jobs?dry_run=true&gpu=h100", {**spec, "backend": "onednn"}), 422, "unsupported-here", "/backend")
    for device in ("cpu", "GPU-c"):
        problem(gpus.post("/v1/jobs?dry_run=true&gpu=h100", {**spec, "device": device}), 422, "unsupported-here", "/device")
    assert gpus.post("/v1/jobs?dry_run=true&gpu=GPU-b", {**spec, "device": "GPU-b"}).json()["gpu"]["name"] == "GPU-b"
    unknown = problem(gpus.post("/v1/jobs?dry_run=true&gpu=h10", spec), 400, "invalid-field", "?gpu")
    assert "did you mean" in unknown["errors"][0]["detail"]
    problem(gpus.post("/v1/jobs?gpu=h100", spec), 400, "invalid-field", "?gpu")
