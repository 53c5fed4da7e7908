"""What is left of uploads and imports when the daemon dies in the middle, and when two come at once."""
import http.client
import os
import threading

import pytest
from datasets import TRAIN, add, announce, archive, flowers, send, settled, show
from service import BUILD, ROOT, until


def start_again(daemon):
    daemon.start_again()
    daemon.wait_for_probe()


def files(daemon):
    """What lies in the data directory of data sets."""
    return sorted(f"{folder}/{path.name}" for folder in ("uploads", "datasets") if (daemon.data / folder).exists()
                  for path in (daemon.data / folder).iterdir())


def test_an_upload_goes_on_after_a_kill(daemon, tmp_path):
    data = archive(tmp_path)
    dataset = announce(daemon, data)
    name, port = daemon.host.rsplit(":", 1)
    connection = http.client.HTTPConnection(name, int(port))
    connection.putrequest("PATCH", f"/v1/datasets/{dataset['id']}/content?offset=0")
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    connection.send(data[:50000])  # and no more
    until(lambda: show(daemon, dataset)["upload"]["offset"] == 50000, 30, "what was sent to arrive")
    daemon.kill()
    connection.close()
    start_again(daemon)
    found = show(daemon, dataset)
    assert found["state"] == "uploading" and found["upload"]["offset"] == 50000
    assert send(daemon, dataset, data, 50000).status_code == 200
    assert settled(daemon, dataset)["state"] == "ready"
    assert files(daemon) == [f"datasets/{dataset['id']}"]


@pytest.fixture(name="stalling")
def stalling_daemon(make_daemon, tmp_path):
    """A daemon whose imports last until it is gone, as long as there is no file "go"."""
    asan = BUILD.name == "asan"
    worker = tmp_path / "worker"
    worker.write_text(f'#!/bin/sh\nif [ "$1" = --import ] && [ ! -e {tmp_path}/go ]; then exec cat > /dev/null; fi\n'
                      f'exec {ROOT / "tests/asan-worker" if asan else BUILD / "residuum-worker"} "$@"\n')
    worker.chmod(0o755)
    return make_daemon("--worker", worker, env={"RESIDUUM_ASAN_WORKER": str(BUILD / "residuum-worker")} if asan else {})


def importing(daemon, data):
    """A data set in the middle of its import."""
    dataset = announce(daemon, data)
    assert send(daemon, dataset, data).status_code == 200
    until(lambda: show(daemon, dataset)["state"] == "importing", 30, "the import")
    return dataset


def test_an_import_starts_again_after_a_kill(stalling, tmp_path):
    dataset = importing(stalling, archive(tmp_path))
    assert show(stalling, dataset)["progress"]["phase"] == "reading" and len(files(stalling)) == 2
    stalling.kill()
    (tmp_path / "go").touch()
    (stalling.data / "uploads" / "ds_unknown").write_bytes(b"x")
    start_again(stalling)
    assert settled(stalling, dataset)["state"] == "ready"
    until(lambda: files(stalling) == [f"datasets/{dataset['id']}"], 30, "the rest to be gone")
    assert stalling.wait_for(stalling.submit({"dataset": "flowers", **TRAIN}))["state"] == "succeeded"


def test_a_stop_lets_the_import_wait(stalling, tmp_path):
    dataset = importing(stalling, archive(tmp_path))
    stalling.stop()
    assert files(stalling) == [f"uploads/{dataset['id']}"]
    (tmp_path / "go").touch()
    start_again(stalling)
    assert settled(stalling, dataset)["state"] == "ready"


def test_deleting_ends_the_import(stalling, tmp_path):
    dataset = importing(stalling, archive(tmp_path))
    assert stalling.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    until(lambda: not stalling.children() and files(stalling) == [], 30, "worker and files to be gone")


def test_an_import_has_a_time_limit(make_daemon, stalling, tmp_path):
    hurried = make_daemon("--import-timeout", "1", "--worker-grace", "1", *stalling.args, env=stalling.env)
    assert importing(hurried, archive(tmp_path))["state"] == "uploading"
    failed = settled(hurried, {"id": "flowers"})
    assert failed["state"] == "failed" and "did not answer" in failed["failure"]["text"] and files(hurried) == []


def test_an_upload_that_lost_its_end_is_sent_again(stalling, tmp_path):
    """As after a power cut: the row says that all of it is there, the file system does not."""
    data = archive(tmp_path)
    dataset = importing(stalling, data)
    stalling.kill()
    os.truncate(stalling.data / "uploads" / dataset["id"], 60000)
    (tmp_path / "go").touch()
    start_again(stalling)
    found = show(stalling, dataset)
    assert found["state"] == "uploading" and found["upload"]["offset"] == 60000
    assert send(stalling, dataset, data, 60000).status_code == 200 and settled(stalling, dataset)["state"] == "ready"


def test_a_failed_import_leaves_nothing(daemon, tmp_path):
    failed = add(daemon, archive(tmp_path, {**flowers(2), "train/rose/0.png": b"\x89PNG\r\n\x1a\nno more"}))
    assert failed["state"] == "failed" and failed["failure"]["entry"] == "train/rose/0.png" and not failed["available"]
    assert files(daemon) == []
    assert daemon.delete(f"/v1/datasets/{failed['id']}").status_code == 204


def test_the_same_again_leaves_nothing(daemon, tmp_path):
    first = add(daemon, archive(tmp_path))
    again = add(daemon, archive(tmp_path, dict(sorted(flowers(8, 32).items()))), "again")
    assert again["id"] == first["id"]
    until(lambda: files(daemon) == [f"datasets/{first['id']}"], 30, "the second one's files to be gone")


def test_deleting_while_it_comes(daemon, tmp_path):
    data = archive(tmp_path)
    dataset = announce(daemon, data)
    send(daemon, dataset, data, 0, 1000)
    assert daemon.delete(f"/v1/datasets/{dataset['id']}").status_code == 204 and files(daemon) == []
    dataset = announce(daemon, data)
    send(daemon, dataset, data)
    assert daemon.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    until(lambda: files(daemon) == [], 30, "its files to be gone")
    assert add(daemon, data)["state"] == "ready"


def test_two_at_once(daemon, tmp_path):
    archives = [archive(tmp_path, flowers(6 + n, 32), f"{n}.tar") for n in range(2)]
    made = [announce(daemon, data, f"set{n}") for n, data in enumerate(archives)]

    def send_in_pieces(n):
        for offset in range(0, len(archives[n]), 10000):
            send(daemon, made[n], archives[n], offset, offset + 10000)

    threads = [threading.Thread(target=send_in_pieces, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [settled(daemon, dataset) for dataset in made]
    assert [each["state"] for each in found] == ["ready", "ready"]
    assert [each["train_images"] for each in found] == [18, 21]
    job = daemon.submit({"dataset": "set1", **TRAIN})
    assert daemon.wait_for(job)["dataset"] == made[1]["id"]


def test_two_senders_of_one_do_not_mix(daemon, tmp_path, problem):
    data = archive(tmp_path)
    dataset = announce(daemon, data)
    name, port = daemon.host.rsplit(":", 1)
    connection = http.client.HTTPConnection(name, int(port))
    connection.putrequest("PATCH", f"/v1/datasets/{dataset['id']}/content?offset=0")
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", "20")
    connection.endheaders()
    connection.send(data[:10])
    until(lambda: show(daemon, dataset)["upload"]["offset"] == 10, 30, "what was sent to arrive")
    assert "another request" in problem(send(daemon, dataset, data, 10, 20), 409, "conflict")["detail"]
    connection.close()
    until(lambda: send(daemon, dataset, data, 10, 20).status_code == 200, 30, "the first one to be given up")
    assert send(daemon, dataset, data, 20).status_code == 200
    assert settled(daemon, dataset)["state"] == "ready"
