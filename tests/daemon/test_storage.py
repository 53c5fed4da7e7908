"""A disk that fills up while jobs run: writes are refused with 507, nothing is lost, and it goes on when there is room again."""
import os
import shutil
import subprocess

import pytest
import requests
from service import BUILD, FAST, until

MOUNT = 'mount -t tmpfs -o size=4m residuum "$0" && exec "$@"'


def stage(folder):
    """The command line that puts a small disk under a folder, for itself only; skips where that is not permitted."""
    argv = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "sh", "-c", MOUNT, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*argv, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no private mounts here (unshare): the disk cannot be made small")
    return argv


def test_full_disk(make_fake, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    fake = make_fake("--data", str(disk / "data"), prefix=stage(disk))
    inside = f"/proc/{fake.process.pid}/root{disk}"  # the daemon's view of the disk
    job = fake.submit(name="hello,epoch,until:go,epoch,wait|all", epochs=3)
    until(lambda: fake.job(job)["epochs_done"] == 1, 30, "the first epoch")
    fill(f"{inside}/filler")
    answers = [fake.post("/v1/jobs", {**FAST, "name": "x" * 80}) for _ in range(3)]
    assert {a.status_code for a in answers} <= {202, 507} and answers[-1].status_code == 507, [a.text for a in answers]
    accepted = [a.json() for a in answers if a.status_code == 202]
    assert fake.get(f"/v1/jobs/{job['id']}").status_code == 200  # reading still works
    failures = fake.log().count("event=commit-failed")
    open(f"{inside}/data/go", "wb").close()  # the job's second epoch cannot be stored: its worker is stopped
    until(lambda: fake.log().count("event=commit-failed") > failures, 30, "the failure")
    assert fake.job(job)["epochs_done"] == 1
    os.remove(f"{inside}/filler")
    done = fake.wait_for(job, "succeeded")
    assert done["attempt"] == 2 and "state=queued reason=storage-full" in fake.log()
    stream = fake.stream(f"?job={job['id']}&after=0").wait(lambda s: s.events and s.events[-1]["data"].get("state") == "succeeded")
    assert [e["data"]["epoch"] for e in stream.events if e["event"] == "epoch"] == [1, 2, 3]
    stream.close()
    later = fake.wait_for(fake.submit(name="all"), "succeeded")
    assert len(fake.get("/v1/jobs").json()["items"]) == 2 + len(accepted)
    assert later["attempt"] == 1


def test_full_disk_leaves_no_links(make_fake, tmp_path):
    """The directory of a job that starts from another one goes with the commit that failed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    fake = make_fake("--data", str(disk / "data"), prefix=stage(disk))
    jobs = f"/proc/{fake.process.pid}/root{disk}/data/jobs"
    source = fake.wait_for(fake.submit(name="all"), "succeeded")
    blocker = fake.submit(name="hello,wait")
    fake.wait_for(blocker, "running")
    fill(f"/proc/{fake.process.pid}/root{disk}/filler")
    answers = [fake.post("/v1/jobs", {**FAST, "name": "x" * 80, "from": {"job": source["id"]}}) for _ in range(3)]
    assert answers[-1].status_code == 507, [a.text for a in answers]
    accepted = {a.json()["id"] for a in answers if a.status_code == 202}
    until(lambda: set(os.listdir(jobs)) == {source["id"], blocker["id"]} | accepted, 10, "the directories")
    os.remove(f"/proc/{fake.process.pid}/root{disk}/filler")


def fill(path):
    """Leaves no page free."""
    with open(path, "wb", buffering=0) as filler, pytest.raises(OSError):
        while True:
            filler.write(b"x" * 4096)


def test_full_disk_does_not_hold_up_the_end(make_fake, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    fake = make_fake("--data", str(disk / "data"), prefix=stage(disk))
    job = fake.submit(name="hello,epoch,wait")
    until(lambda: fake.job(job)["epochs_done"] == 1, 30, "the first epoch")
    fill(f"/proc/{fake.process.pid}/root{disk}/filler")
    fake.stop()



SHIM = """
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int broken(void) {
    if (access(getenv("BROKEN_DISK"), F_OK) != 0)
        return 0;
    errno = EIO;
    return -1;
}
int fsync(int fd) { (void)fd; return broken(); }
int fdatasync(int fd) { (void)fd; return broken(); }
"""


def test_disk_that_cannot_sync(make_fake, tmp_path):
    """After a failed sync nobody knows what the disk holds: no 202, the daemon ends, and the next one starts from what is there."""
    if BUILD.name == "asan":
        pytest.skip("AddressSanitizer wants to be the first library; the release build runs this")
    source, shim, flag = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "broken"
    source.write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, source], check=True)
    fake = make_fake(env={"LD_PRELOAD": str(shim), "BROKEN_DISK": str(flag)})
    kept = fake.wait_for(fake.submit(name="all"), "succeeded")
    flag.touch()
    try:
        status = fake.post("/v1/jobs", {**FAST, "name": "all"}).status_code
    except requests.ConnectionError:
        status = None
    assert status in (500, None)
    assert fake.process.wait(30) == 7 and "event=fatal" in fake.log()
    fake.close()
    flag.unlink()
    fake.start()
    assert fake.job(kept)["state"] == "succeeded"
    fake.wait_for(fake.submit(name="all"), "succeeded")
