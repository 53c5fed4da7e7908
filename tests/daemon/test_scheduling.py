"""The queue, cancelling, trying again, deleting, draining, the probe."""
import signal
import subprocess
import time

from service import BUILD, gone, until


def test_first_in_first_out_one_at_a_time(fake, rows):
    names = [f"hello,until:go{i},rest,done" for i in range(3)]
    jobs = [fake.submit(name=name) for name in names]
    fake.wait_for(jobs[0], "running")
    assert [fake.job(j)["position"] for j in jobs] == [None, 0, 1]
    device = fake.get("/v1/devices").json()["items"][0]
    assert device["state"] == "busy" and device["job"] == jobs[0]["id"]
    for i, job in enumerate(jobs):
        fake.wait_for(job, "running")
        assert len(fake.children()) == 1
        (fake.data / f"go{i}").touch()
    for job in jobs:
        fake.wait_for(job, "succeeded")
    started = rows(fake, "SELECT id FROM job ORDER BY started_us")
    assert [s for (s,) in started] == [j["id"] for j in jobs]
    assert fake.get("/v1/devices").json()["items"][0]["state"] == "ready"


def test_cancel_queued_and_running(fake):
    running = fake.submit(name="hello,epoch,wait")
    queued = fake.submit(name="all")
    fake.wait_for(running, "running")
    assert fake.post(f"/v1/jobs/{queued['id']}/cancel").json()["state"] == "cancelled"
    answer = fake.post(f"/v1/jobs/{running['id']}/cancel")
    assert answer.status_code == 200 and answer.json()["cancel_requested"]
    assert fake.post(f"/v1/jobs/{running['id']}/cancel").status_code == 200
    job = fake.wait_for(running, "cancelled")
    assert job["reason"] is None
    assert fake.post(f"/v1/jobs/{running['id']}/cancel").status_code == 200
    done = fake.wait_for(fake.submit(name="all"), "succeeded")
    assert fake.post(f"/v1/jobs/{done['id']}/cancel").status_code == 409


def test_cancel_of_a_worker_that_does_not_listen(make_fake):
    fake = make_fake("--worker-grace", "1")
    job = fake.submit(name="hello,hang")
    fake.wait_for(job, "running")
    fake.post(f"/v1/jobs/{job['id']}/cancel")
    assert fake.wait_for(job, "cancelled")["attempt"] == 1
    assert fake.children() == []


def test_cancel_wins_over_a_crash_but_not_over_success(fake):
    """A worker that dies after the request is cancelled, not tried again; one that was done before it heard has succeeded."""
    crash = fake.submit(name="hello,until:crash,kill:11")
    done = fake.submit(name="hello,until:done,rest,done")
    fake.wait_for(crash, "running")
    fake.post(f"/v1/jobs/{crash['id']}/cancel")
    (fake.data / "crash").touch()
    assert fake.wait_for(crash, "cancelled")["attempt"] == 1
    fake.wait_for(done, "running")
    fake.post(f"/v1/jobs/{done['id']}/cancel")
    (fake.data / "done").touch()
    job = fake.wait_for(done, "succeeded")
    assert job["cancel_requested"] and job["attempt"] == 1


def test_retry(fake, epochs_of):
    """A retry by a person counts tries anew, goes on after the known epochs, and forgets the cancel request."""
    job = fake.wait_for(fake.submit(name="kill:9|kill:9|hello,epoch,kill:9|hello,kill:9|all"), "failed")
    assert job["attempt"] == 3 and job["epochs_done"] == 1
    assert fake.post(f"/v1/jobs/{job['id']}/retry").status_code == 202
    job = fake.wait_for(job, "succeeded")
    assert job["attempt"] == 5 and job["reason"] is None
    assert epochs_of(fake, job) == [1, 2]
    assert fake.post(f"/v1/jobs/{job['id']}/retry").status_code == 409
    cancelled = fake.submit(name="hello,wait|all")
    fake.wait_for(cancelled, "running")
    fake.post(f"/v1/jobs/{cancelled['id']}/cancel")
    fake.wait_for(cancelled, "cancelled")
    fake.post(f"/v1/jobs/{cancelled['id']}/retry")
    assert not fake.wait_for(cancelled, "succeeded")["cancel_requested"]


def test_delete_removes_the_directory(fake):
    job = fake.submit(name="hello,until:go,rest,done")
    fake.wait_for(job, "running")
    assert fake.delete(f"/v1/jobs/{job['id']}").status_code == 409
    (fake.data / "go").touch()
    fake.wait_for(job, "succeeded")
    folder = fake.data / "jobs" / job["id"]
    assert folder.is_dir()
    assert fake.delete(f"/v1/jobs/{job['id']}").status_code == 204
    until(lambda: not folder.exists(), 10, "the directory to go")
    assert fake.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_orphaned_directories_are_swept(fake):
    """The daemon may die between the commit of a delete and the removal; a foreign directory stays."""
    job = fake.wait_for(fake.submit(name="all"), "succeeded")
    jobs = fake.data / "jobs"
    (jobs / "job_0123456789012345678901").mkdir()
    (jobs / "job_0123456789012345678901" / "file").write_text("x")
    (jobs / "mine").mkdir()
    fake.kill()
    fake.start()
    assert sorted(p.name for p in jobs.iterdir()) == sorted([job["id"], "mine"])


def test_progress_is_thinned(fake, rows):
    job = fake.wait_for(fake.submit(name="hello,progress:50,rest,done"), "succeeded")
    ((count,),) = rows(fake, f"SELECT count(*) FROM event WHERE job = '{job['id']}' AND type = 'progress'")
    assert count == 1


# --- the end and the beginning of the daemon ---


def test_drain(fake, rows, epochs_of):
    running = fake.submit(name="hello,epoch,wait|all")
    queued = fake.submit(name="all")
    until(lambda: fake.job(running)["epochs_done"] == 1, 30, "the first epoch")
    fake.stop()
    assert not (fake.data / "address").exists()
    assert rows(fake, "SELECT state, attempt, tries, reason FROM job ORDER BY seq") == [("queued", 1, 0, "unavailable"), ("queued", 0, 0, "")]
    fake.start()
    for job in (running, queued):
        fake.wait_for(job, "succeeded")
    assert epochs_of(fake, running) == [1, 2]


def test_second_signal_does_not_wait(make_fake, rows):
    fake = make_fake("--worker-grace", "1000")
    job = fake.submit(name="hello,hang|all")
    fake.wait_for(job, "running")
    fake.process.send_signal(signal.SIGTERM)
    until(lambda: "event=draining" in fake.log(), 10, "the drain")
    begin = time.monotonic()
    fake.stop()
    assert time.monotonic() - begin < 20
    assert rows(fake, "SELECT state, tries FROM job") == [("queued", 0)]


def test_killed_daemon_does_not_blame_the_job(fake, rows, epochs_of):
    job = fake.submit(name="hello,epoch,wait|hello,wait|hello,wait|hello,wait|all")
    for attempt in range(1, 5):
        until(lambda: fake.job(job)["state"] == "running" and fake.job(job)["attempt"] == attempt, 30, f"attempt {attempt}")
        worker = fake.children()[0]
        fake.kill()
        until(lambda: gone(worker), 10, "the worker to notice")
        fake.start()
    job = fake.wait_for(job, "succeeded")
    assert job["attempt"] == 5 and rows(fake, "SELECT tries FROM job") == [(1,)]
    assert epochs_of(fake, job) == [1, 2]


def test_second_daemon_is_refused(fake):
    other = subprocess.run([BUILD / "residuumd", "--data", fake.data, "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=30,
                           check=False)
    assert other.returncode != 0 and "another residuumd" in other.stderr and other.stdout == ""
    assert (fake.data / "address").read_text() == fake.url + "\n"


# --- the probe ---


def test_probe_crash_is_a_reason_and_is_tried_again(make_fake, tmp_path):
    fake = make_fake("--probe-timeout", "1000", probe=f"crash-until:{tmp_path}/repaired")
    until(lambda: fake.get("/v1/devices").json()["state"] == "failed", 30, "the probe to fail")
    devices = fake.get("/v1/devices").json()
    assert "SIGSEGV" in devices["reason"] and "the driver is upset" in devices["reason"]
    job = fake.submit(name="all")
    (tmp_path / "repaired").touch()
    fake.wait_for(job, "succeeded")
    devices = fake.get("/v1/devices").json()
    assert devices["state"] == "ready" and devices["reason"] is None and devices["items"][0]["name"] == "fake"


def test_probe_hangs(make_fake):
    fake = make_fake("--probe-timeout", "1", probe="hang")
    until(lambda: fake.get("/v1/devices").json()["state"] == "failed", 30, "the time limit")
    assert "did not answer within 1000 ms" in fake.get("/v1/devices").json()["reason"]
    until(lambda: fake.children() == [], 10, "the probe to be gone")


def test_probe_answers_garbage(make_fake):
    for probe in ("garbage", "none"):
        fake = make_fake(probe=probe)
        until(lambda: fake.get("/v1/devices").json()["state"] == "failed", 30, "the probe to fail")
        assert "not JSON" in fake.get("/v1/devices").json()["reason"]


def test_early_stop_is_a_success(fake, epochs_of):
    """Fewer epochs than asked for, by the worker's word, are all; without a validation set to judge by, the word is not taken."""
    job = fake.wait_for(fake.submit(name="hello,epoch,epoch,epoch,early", epochs=9, validation_fraction=0.25), "succeeded")
    assert job["stopped_early"] and job["epochs_done"] == 3 and job["best_epoch"] == 2 and job["test_accuracy"] == 0.75
    assert epochs_of(fake, job) == [1, 2, 3]
    whole = fake.wait_for(fake.submit(name="all", epochs=3, validation_fraction=0.25), "succeeded")
    assert not whole["stopped_early"] and whole["best_epoch"] == 2
    plain = fake.wait_for(fake.submit(name="all", epochs=3), "succeeded")
    assert plain["best_epoch"] is None
    wrong = fake.wait_for(fake.submit(name="hello,epoch,early", epochs=9), "failed")
    assert wrong["reason"]["code"] == "worker-protocol" and "without a best epoch" in wrong["reason"]["text"]
