"""The stream loses nothing and repeats nothing: live, replayed, resumed, filtered, across a restart, for three hundred at once."""
import signal

import pytest
from service import ENDED, FAST, pump, until

LONG = {**FAST, "epochs": 5000, "train_limit": 2048}
CLIENTS = 300
STREAMS_MAX = 1024


def ended(job):
    return lambda s: any(e["event"] == "job" and e["data"]["id"] == job["id"] and e["data"]["state"] in ENDED for e in s.events)


def ids(stream):
    return [e["id"] for e in stream.events]


def everything(daemon, query="?after=0"):
    """All that is kept now, read by a fresh stream up to the newest event."""
    newest = daemon.get("/v1/jobs").json()["cursor"]
    job = query.partition("job=")[2].partition("&")[0]
    if job:
        newest = of_job(everything(daemon), {"id": job})[-1]["id"]
    stream = daemon.stream(query).wait(lambda s: s.last_id is not None and s.last_id >= newest)
    stream.close()
    return stream.events


def test_opening(daemon):
    stream = daemon.stream()
    stream.wait(lambda s: s.retry == 3000)
    assert stream.comments == ["ok"] and stream.status == 200 and "content-type: text/event-stream" in stream.head.lower()
    stream.close()


@pytest.fixture(scope="module")
def quiet(service):
    """A stream on which nothing happens, opened by the first test and looked at by the last."""
    stream = service.stream().wait(lambda s: s.comments)
    yield stream
    stream.close()


def test_silence_begins(quiet):
    assert quiet.comments == ["ok"]


def test_events_come_at_once(daemon):
    """To a stream of all and to one of the job, not only with the next heartbeat."""
    first, job = daemon.submit(LONG), daemon.submit(LONG)
    daemon.wait_for(first, "running")
    streams = [daemon.stream(query).wait(lambda s: s.comments) for query in ("", f"?job={job['id']}")]
    daemon.post(f"/v1/jobs/{job['id']}/cancel")
    for stream in streams:
        stream.wait(ended(job), 5)
        stream.close()


def test_a_job_from_queue_to_end(daemon):
    """States in order, every epoch once, job events equal to what GET shows, progress at most once a second per phase and epoch."""
    stream = daemon.stream()
    stream.wait(lambda s: s.comments)
    job = daemon.submit()
    stream.wait(ended(job))
    assert ids(stream) == sorted(set(ids(stream)))
    states = [e["data"]["state"] for e in stream.events if e["event"] == "job"]
    assert states == ["queued", "starting", "running", "succeeded"]
    epochs = [e["data"] for e in stream.events if e["event"] == "epoch"]
    assert epochs == daemon.get(f"/v1/jobs/{job['id']}/epochs").json()["items"] and [e["epoch"] for e in epochs] == [1, 2]
    shown = daemon.job(job)
    assert stream.events[-1]["data"] == {k: v for k, v in shown.items() if k not in ("position", "cursor", "links")}
    assert shown["cursor"] == stream.last_id
    assert stream.events == everything(daemon), "a replay differs from what was seen live"
    stream.close()


def test_every_way_to_resume(daemon):
    first, second = daemon.submit(), daemon.submit()
    for job in (first, second):
        daemon.wait_for(job)
    kept = everything(daemon)
    middle = kept[len(kept) // 2]["id"]
    rest = [e for e in kept if e["id"] > middle]
    for query, headers in ((f"?after={middle}", {}), ("", {"Last_Event_ID": str(middle)}), ("?after=0", {"Last_Event_ID": str(middle)}),
                           (f"?after={middle}", {"Last_Event_ID": ""})):
        stream = daemon.stream(query, **headers).wait(lambda s: s.last_id == kept[-1]["id"])
        assert stream.events == rest, (query, headers)
        stream.close()
    for job in (first, second):
        mine = of_job(kept, job)
        assert everything(daemon, f"?after=0&job={job['id']}") == mine and len(mine) > 5
    for late in ("", "?after=999999999"):  # from now on: nothing old
        stream = daemon.stream(late).wait(lambda s: s.comments)
        third = daemon.submit(epochs=1)
        stream.wait(ended(third))
        assert stream.events[0]["data"]["state"] == "queued" and stream.events[0]["data"]["id"] == third["id"]
        stream.close()


def test_wrong_places(service, problem):
    problem(service.get("/v1/events?after=x"), 400, "invalid-field", "?after")
    problem(service.get("/v1/events", headers={"Last-Event-ID": "1x"}), 400, "invalid-field", "Last-Event-ID")
    problem(service.get("/v1/events?job=job_0000000000000000000000"), 404, "not-found")
    problem(service.get("/v1/events?jobs=x"), 400, "invalid-request", "?jobs")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_loses_and_repeats_nothing(daemon, how):
    """SIGTERM or SIGKILL in the middle of a job: a client that comes back with its last id has seen every event once."""
    job = daemon.submit(LONG, epochs=6)
    stream = daemon.stream("?after=0")
    stream.wait(lambda s: any(e["event"] == "epoch" for e in s.events))
    if how == "stop":
        daemon.process.send_signal(signal.SIGTERM)
        stream.wait(lambda s: s.ended)
        daemon.stop()
    else:
        workers = daemon.children()
        daemon.kill()
        assert workers
        stream.wait(lambda s: s.ended)
    daemon.start_again()
    back = daemon.stream("", Last_Event_ID=str(stream.last_id))
    back.wait(ended(job), 120)
    seen = stream.events + back.events
    assert seen == everything(daemon)
    assert [e["data"]["epoch"] for e in seen if e["event"] == "epoch"] == [1, 2, 3, 4, 5, 6]
    assert seen[-1]["data"]["state"] == "succeeded"
    back.close()


def test_a_stream_ends_in_order_on_sigterm(daemon):
    """Chunked to its end, so that a client knows that it was no accident."""
    daemon.submit(epochs=1)
    stream = daemon.stream("?after=0").wait(lambda s: s.events)
    daemon.process.send_signal(signal.SIGTERM)
    stream.wait(lambda s: s.ended)
    assert stream.raw == b"" and stream.text == b""


def of_job(events, job):
    return [e for e in events if e["data"].get("job", e["data"].get("id")) == job["id"]]


def test_three_hundred_clients(daemon):
    """While a job trains: a third sees all, a third each of two jobs; some come late, some leave without a word. None misses or
    repeats an event."""
    job, other = daemon.submit(epochs=60, train_limit=1024), daemon.submit(epochs=1)
    queries = ["?after=0", f"?after=0&job={job['id']}", f"?job={other['id']}&after=0"]
    streams = [(daemon.stream(queries[i % 3]), i % 3) for i in range(CLIENTS)]
    pump([s for s, _ in streams], lambda: all(s.comments for s, _ in streams), 60)
    assert f"\nresiduum_sse_clients {CLIENTS}\n" in daemon.get("/metrics").text
    for stream, _ in streams[::10]:
        stream.close()
    stayers = [pair for i, pair in enumerate(streams) if i % 10 != 0]
    stayers += [(daemon.stream("?after=0"), 0) for _ in range(20)]
    cpu = daemon.cpu_seconds()
    watched = [s for s, _ in stayers]
    pump(watched, lambda: any(ended(job)(s) for s in watched), 120)
    daemon.wait_for(other)
    kept = everything(daemon)
    wanted = [kept, of_job(kept, job), of_job(kept, other)]
    pump(watched, lambda: all(s.last_id == wanted[kind][-1]["id"] for s, kind in stayers), 60)
    for stream, kind in stayers:
        assert stream.events == wanted[kind]
        stream.close()
    assert len(wanted[1]) >= 60
    print(f"{len(kept)} events, {len(stayers)} clients: {daemon.cpu_seconds() - cpu:.2f} s of processor, RSS {daemon.rss_bytes() >> 20} MiB")


def test_at_most_so_many(daemon, problem):
    """Above the limit: 503 for programs, a short stream for browsers; the rest of the API answers; leaving makes room."""
    streams = [daemon.stream() for _ in range(STREAMS_MAX)]
    try:
        pump(streams, lambda: all(s.comments for s in streams), 60)
        with daemon.session.get(daemon.url + "/v1/events", stream=True, timeout=30) as answer:
            assert answer.status_code == 503
            problem(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        browser = daemon.get("/v1/events", headers={"Sec-Fetch-Mode": "cors"})
        assert browser.status_code == 200 and browser.text == "retry: 30000\n\n"
        assert daemon.get("/v1/version").status_code == 200
        assert daemon.rss_bytes() < 100 << 20
    finally:
        for stream in streams:
            stream.close()
    # What left is noticed when something is written: two events reach every stream that is gone.
    for _ in range(3):
        job = daemon.submit(epochs=1)
        daemon.post(f"/v1/jobs/{job['id']}/cancel")
    until(lambda: "\nresiduum_sse_clients 0\n" in daemon.get("/metrics").text, 30, "the streams to be gone")
    flood = [line for line in daemon.log().splitlines() if "event=http" in line]
    assert len(flood) <= 20, "a mass of clients that left flooded the log"


def test_a_client_that_does_not_read(daemon):
    """It holds back neither the others nor the daemon's memory."""
    jobs = [daemon.submit(epochs=1) for _ in range(3)]
    lazy = [daemon.stream("?after=0") for _ in range(50)]
    for job in jobs:
        daemon.wait_for(job, seconds=120)
    keen = daemon.stream("?after=0").wait(lambda s: all(ended(j)(s) for j in jobs))
    assert daemon.rss_bytes() < 60 << 20
    for stream in lazy:  # they may still read all of it
        stream.wait(lambda s: s.last_id == keen.last_id)
        assert stream.events == keen.events
        stream.close()
    keen.close()


def test_head(daemon):
    assert daemon.request("HEAD", "/v1/events").headers["Content-Type"] == "text/event-stream"
    until(lambda: "\nresiduum_sse_clients 0\n" in daemon.get("/metrics").text, 10, "the stream to be gone")


def test_heartbeats(quiet):
    """A comment of at least 32 bytes within 15 s of silence, again and again."""
    quiet.wait(lambda s: len(s.comments) >= 3, 35)
    assert all(len(beat) + 3 >= 32 for beat in quiet.comments[1:]) and not quiet.events
