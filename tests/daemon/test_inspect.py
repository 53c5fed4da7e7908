"""Questions about a network, answered by short workers: what is asked, what may wait, and every way in which an answer can fail."""
import concurrent.futures
import json
import os
import signal
import socket

import pytest
from service import gone, until

HELD = 2 + 32  # questions that may run and wait


def look(fake):
    """A running job with three epochs, of which the weights of the first and the third are kept; and its path."""
    job = fake.submit(name="hello,epoch,keep,epoch,epoch,keep,wait", epochs=5)
    until(lambda: fake.job(job)["epochs_done"] == 3, 30, "three epochs")
    until(lambda: kept(fake, job) == {"epoch-1.safetensors", "epoch-3.safetensors"}, 30, "the weights")
    return job, f"/v1/jobs/{job['id']}"


@pytest.fixture
def looked(fake):
    """A daemon and the path of such a job."""
    return fake, look(fake)[1]


def kept(fake, job):
    folder = fake.data / "jobs" / job["id"] / "weights"
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def problem(answer, status, kind, words=""):
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}"), answer.text
    assert words in answer.json()["detail"], answer.text
    return answer


# --- what is asked ---


def test_questions_as_the_worker_gets_them(looked):
    fake, path = looked
    asked = fake.get(f"{path}/maps?layer=conv1,pool1&image=7&channels=0-3&epoch=1").json()
    question = asked["asked"]
    assert asked["nice"] == 19
    assert question["want"] == {"maps": {"layers": ["conv1", "pool1"], "channels": "0-3", "image": 7}}
    assert question["epoch"] == 1 and question["weights"].endswith(f"{path.removeprefix('/v1')}/weights/epoch-1.safetensors")
    assert question["spec"] == fake.get(path).json()["spec"]
    assert fake.get(f"{path}/filters").json()["asked"]["want"] == {"filters": {"layer": None, "channels": None}}
    assert fake.get(f"{path}/filters?layer=a&channels=2").json()["asked"]["want"] == {"filters": {"layer": "a", "channels": "2"}}
    images = fake.get(f"{path}/images").json()["asked"]
    assert images["want"] == {"images": {"first": 0, "n": 25}} and images["weights"] is None
    sent = {"layers": ["conv1"], "pixels": [[1, 2], [3, 4]]}
    assert fake.post(f"{path}/maps", {**sent, "epoch": 1}).json()["asked"]["want"] == {"maps": {**sent, "channels": None}}


@pytest.mark.parametrize("query, epoch", [("", 3), ("&epoch=last", 3), ("&epoch=3", 3), ("&epoch=1", 1)])
def test_kept_epochs(looked, query, epoch):
    fake, path = looked
    assert fake.get(f"{path}/maps?layer=conv1{query}").json()["asked"]["epoch"] == epoch


def test_epochs_that_are_not_kept(looked):
    fake, path = looked
    problem(fake.get(f"{path}/maps?layer=conv1&epoch=2"), 404, "not-found", "those of 1, 3")
    problem(fake.get(f"{path}/filters?epoch=17"), 404, "not-found", "those of 1, 3")
    for epoch in ("0", "-1", "first", "1.5"):
        assert problem(fake.get(f"{path}/maps?layer=conv1&epoch={epoch}"), 400, "invalid-field").json()["errors"][0]["pointer"] == "?epoch"
    problem(fake.get(f"{path}/maps?layer=conv1&epoch=best"), 400, "invalid-field", "validation")
    answer = fake.post(f"{path}/maps", {"layers": ["conv1"], "pixels": [[1]], "epoch": True})
    assert problem(answer, 400, "invalid-field").json()["errors"][0]["pointer"] == "/epoch"


def test_weights_that_are_replaced_meanwhile(looked):
    """As training does after every epoch. The newest ones are wanted: then it is the next epoch's; else it is said which there are."""
    fake, path = looked
    answer = fake.get(f"{path}/maps?layer=late:{fake.data}/first")
    assert answer.json()["asked"]["epoch"] == 4, answer.text
    problem(fake.get(f"{path}/maps?layer=late:{fake.data}/second&epoch=4"), 404, "not-found", "those of 1, 5")
    problem(fake.get(f"{path}/maps?layer=error"), 404, "not-found", "there is no layer")


def test_a_job_without_an_epoch(fake):
    job = fake.submit(name="hello,wait")
    fake.wait_for(job, "running")
    path = f"/v1/jobs/{job['id']}"
    problem(fake.get(f"{path}/maps?layer=conv1"), 409, "conflict")
    problem(fake.get(f"{path}/filters"), 409, "conflict")
    assert fake.get(f"{path}/images").status_code == 200


def test_wrong_questions_start_no_worker(looked):
    fake, path = looked
    nobody = "/v1/jobs/job_0000000000000000000000"
    for part in ("/maps?layer=hang", "/filters", "/images"):
        problem(fake.get(nobody + part), 404, "not-found")
    problem(fake.get(f"{path}/maps"), 400, "invalid-field", "layer")
    for query in ("layer=a&image=x", "layer=a&image=-1"):
        problem(fake.get(f"{path}/maps?{query}"), 400, "invalid-field", "image")
    for query in ("n=0", "n=101", "first=-1"):
        problem(fake.get(f"{path}/images?{query}"), 400, "invalid-field")
    body = {"layers": ["a"], "pixels": [[1]]}
    assert problem(fake.post(f"{path}/maps", {**body, "pixel": 1}), 400, "unknown-field", "pixels").json()["errors"][0]["pointer"] == "/pixel"
    for wrong in ({"layers": ["a"]}, {"pixels": [[1]]}, {**body, "layers": "a"}, []):
        problem(fake.post(f"{path}/maps", wrong), 400, "invalid-field")
    problem(fake.post(f"{path}/maps", body, headers={"Origin": "http://example.org"}), 403, "forbidden")


def test_large_questions_fit_into_the_pipe(looked):
    fake, path = looked
    pixels = [[255] * 200 for _ in range(200)]
    assert len(json.dumps(pixels, separators=(",", ":"))) > 2 * 65536
    assert fake.post(f"{path}/maps", {"layers": ["a"], "pixels": pixels}).json()["asked"]["want"]["maps"]["pixels"] == pixels


# --- answers that fail ---


@pytest.mark.parametrize("layer, status, kind, words", [
    ("error", 404, "not-found", "there is no layer"),
    ("crash", 500, "worker-died", "SIGSEGV"),
    ("exit", 500, "worker-died", "the fake gives up"),
    ("garbage", 500, "worker-protocol", "not JSON"),
    ("list", 500, "worker-protocol", "not an object"),
    ("foreign", 500, "worker-protocol", "unknown code"),
    ("oversize", 500, "worker-protocol", "more than 2097152 bytes"),
])
def test_failures(looked, layer, status, kind, words):
    fake, path = looked
    problem(fake.get(f"{path}/maps?layer={layer}"), status, kind, words)
    assert fake.get(f"{path}/maps?layer=fine").status_code == 200
    assert fake.get(path).json()["state"] == "running"


def test_a_worker_that_takes_too_long(make_fake):
    fake = make_fake("--inspect-timeout", "1")
    job, path = look(fake)
    problem(fake.get(f"{path}/maps?layer=hang"), 500, "worker-died", "within 1000 ms")
    until(lambda: len(fake.children()) == 1, 10, "the worker to be gone")
    assert fake.job(job)["state"] == "running"


def test_errors_name_the_field_of_the_request(looked):
    fake, path = looked
    assert fake.get(f"{path}/maps?layer=error").json()["errors"][0]["pointer"] == "?layer"
    assert fake.post(f"{path}/maps", {"layers": ["error"], "pixels": [[1]]}).json()["errors"][0]["pointer"] == "/layers/0"


# --- several at once ---


def workers(fake):
    """Process ids of the questions' workers: the job's own is the first."""
    return fake.children()[1:]


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(HELD + 3) as threads:
        yield threads


def ask_many(pool, fake, path, count):
    """Requests that are held until DATA/go exists, each on a connection of its own."""
    import requests  # pylint: disable=import-outside-toplevel
    url = f"{fake.url}{path}/maps?layer=until:{fake.data}/go"
    return [pool.submit(requests.get, url, timeout=120) for _ in range(count)]


def test_two_at_once_and_a_bounded_queue(looked, pool):
    fake, path = looked
    asked = ask_many(pool, fake, path, HELD + 3)
    until(lambda: sum(future.done() for future in asked) == 3, 30, "a full queue")
    for future in asked:
        if future.done():
            assert int(problem(future.result(), 429, "too-many").headers["Retry-After"]) > 0
    assert len(workers(fake)) == 2
    (fake.data / "go").touch()
    assert sorted(future.result().status_code for future in asked) == [200] * HELD + [429] * 3
    assert fake.get(f"{path}/images").status_code == 200
    until(lambda: not workers(fake), 10, "the workers to be gone")


def test_a_client_that_leaves(looked):
    """Its worker is killed, and those that wait move up."""
    fake, path = looked
    name, port = fake.host.rsplit(":", 1)
    clients = []
    for _ in range(4):
        client = socket.create_connection((name, int(port)))
        client.sendall(f"GET {path}/maps?layer=hang HTTP/1.1\r\nHost: {fake.host}\r\n\r\n".encode())
        clients.append(client)
        until(lambda: len(workers(fake)) == min(2, len(clients)), 10, "the workers")
    first = workers(fake)
    for client in clients[:2]:
        client.close()
    until(lambda: all(gone(pid) for pid in first) and len(workers(fake)) == 2, 10, "the next two")
    for client in clients[2:]:
        client.close()
    until(lambda: not workers(fake), 10, "the workers to be gone")
    assert fake.get(f"{path}/images").status_code == 200


def test_draining_answers_what_waits(looked, pool):
    fake, path = looked
    asked = ask_many(pool, fake, path, 4)
    until(lambda: len(workers(fake)) == 2, 10, "the workers")
    os.kill(fake.children()[0], signal.SIGSTOP)  # so that the drain is seen
    fake.process.send_signal(signal.SIGTERM)
    for future in asked:
        problem(future.result(), 503, "unavailable")
    problem(fake.get(f"{path}/images"), 503, "unavailable")
    os.kill(fake.children()[0], signal.SIGCONT)
    fake.process.wait(30)


def test_stopping_at_once_with_questions_open(looked, pool):
    fake, path = looked
    asked = ask_many(pool, fake, path, 4)
    until(lambda: len(workers(fake)) == 2, 10, "the workers")
    children = workers(fake)
    fake.stop()
    assert all(gone(pid) for pid in children)
    assert all(future.exception() is not None or future.result().status_code == 503 for future in asked)
