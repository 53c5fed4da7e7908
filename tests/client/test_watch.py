"""Watching a job: what is printed, lost connections, interrupts, terminals."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from kit import CLIENT, JOB, PATH, environment, epoch, job, lines_until, progress, validated
from fake import Answer, event, problem, stream

DEADLINE = 30


def whole_run():
    return [event(11, "job", job("starting")), event(12, "job", job("running")), event(13, "progress", progress(100)),
            event(14, "epoch", epoch(1, 0.8)), event(15, "progress", progress(200, 2)), event(16, "epoch", epoch(2, 0.9)),
            event(17, "job", job("succeeded", epochs_done=2))]


def test_from_queued_to_the_end(fake, client):
    fake.on("GET", PATH, job(position=2))
    fake.on("GET", "/v1/events", stream(*whole_run()))
    result = client("watch", JOB)
    assert (result.returncode, result.stderr) == (0, "")
    assert fake.requests("GET", "/v1/events")[0][1] == f"/v1/events?job={JOB}&after=10"  # from the job's cursor: nothing is lost between
    lines = result.stdout.splitlines()
    assert [line for line in lines if " done: " in line] == [
        "epoch 1/2 done: train loss 0.3121 accuracy 88.95 %, test loss - accuracy 80.00 %, lr 0.05, 31.2 s, 1920 images/s",
        "epoch 2/2 done: train loss 0.3121 accuracy 88.95 %, test loss - accuracy 90.00 %, lr 0.05, 31.2 s, 1920 images/s"]
    at = lines.index("Test accuracy 90.00 % after epoch 2 of 2")
    assert lines[at + 1].startswith("Confusion matrix")
    assert lines[at + 3].split() == ["T-shirt/top", "0", "900", "100", *"00000000", "90.00", "%"]
    assert lines[at + 12].split()[:2] == ["Ankle", "boot"]
    assert max(map(len, lines[at:])) <= 80
    assert lines[-1] == f"{fake.url}/#/jobs/{JOB}"


def test_submit_and_watch(fake, client):
    fake.on("POST", "/v1/jobs", Answer(job(), 202))
    fake.on("GET", PATH, job())
    fake.on("GET", "/v1/events", stream(*whole_run()))
    result = client("submit", "--watch", "-", stdin="{}")
    assert result.returncode == 0 and result.stdout.startswith(JOB + "\n") and "Test accuracy 90.00 %" in result.stdout


@pytest.mark.parametrize("state, said", [("failed", "failed"), ("cancelled", "was cancelled")])
def test_a_job_that_does_not_succeed(fake, client, state, said):
    fake.on("GET", PATH, job("running"))
    reason = {"code": "non-finite-loss", "text": "the loss is not finite at step 37"}
    fake.on("GET", "/v1/events", stream(event(11, "job", job(state, reason=reason))))
    result = client("watch", JOB)
    assert result.returncode == 1
    assert result.stderr == f"residuum: {JOB} {said}: the loss is not finite at step 37 (non-finite-loss)\n"
    assert result.stdout.endswith(f"{fake.url}/#/jobs/{JOB}\n")


def test_a_job_that_ended_before(fake, client):
    fake.on("GET", PATH, job("succeeded", epochs_done=2))
    fake.on("GET", PATH + "/epochs", {"items": [epoch(1)], "next": 1}, {"items": [epoch(2)], "next": None})
    result = client("watch", JOB)
    assert result.returncode == 0 and result.stdout.count(" done: ") == 2 and "Test accuracy" in result.stdout
    assert fake.requests("GET", "/v1/events") == []


def test_epochs_are_printed_once(fake, client):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", PATH + "/epochs", {"items": [epoch(1)], "next": None})  # the stream has it as well
    fake.on("GET", "/v1/events", stream(*whole_run()[2:]))
    assert client("watch", JOB).stdout.count("epoch 1/2 done") == 1


def test_json_lines(fake, client):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", PATH + "/epochs", {"items": [epoch(1, 0.8)], "next": None})
    fake.on("GET", "/v1/events", stream(*whole_run()[3:]))
    result = client("watch", JOB, "--json")
    assert result.returncode == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["event"], line["id"]) for line in lines] == [("epoch", None), ("job", None), ("progress", 15), ("epoch", 16), ("job", 17)]
    assert lines[3]["data"] == epoch(2, 0.9) and lines[-1]["data"]["state"] == "succeeded"


def test_a_cut_stream_is_taken_up_again(fake, client):
    run = whole_run()
    fake.on("GET", PATH, job("running"))
    cut = stream(*run[:3], run[3][:-20], hold=False)  # in the middle of an event
    fake.on("GET", "/v1/events", cut, Answer(cut=True), problem(503, "unavailable"), Answer("x", 500), stream(*run[3:]))
    result = client("watch", JOB)
    assert result.returncode == 0
    assert [line for line in result.stderr.splitlines() if "lost" in line] and len(result.stderr.splitlines()) == 2
    assert "The connection is back." in result.stderr
    assert result.stdout.count("epoch 1/2 done") == 1 and result.stdout.count("epoch 2/2 done") == 1
    assert [r[2].get("Last-Event-ID") for r in fake.requests("GET", "/v1/events")] == [None] + ["13"] * 4


@pytest.mark.parametrize("answer, code", [(problem(404, "not-found"), 4), (problem(403, "forbidden"), 3), (problem(400, "invalid-request"), 2),
                                          (Answer("", 204), 7), (Answer("", 302, headers={"Location": "/"}), 7),
                                          (Answer("<html>", kind="text/html"), 7)])
def test_final_answers_stop_it(fake, client, answer, code):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", "/v1/events", answer)
    result = client("watch", JOB)
    assert result.returncode == code and result.stderr
    assert len(fake.requests("GET", "/v1/events")) == 1


def test_a_job_that_is_not_there(client):
    assert client("watch", JOB).returncode == 4


def test_a_job_that_is_deleted_meanwhile(fake, client):
    fake.on("GET", PATH, job("failed"))
    fake.on("GET", PATH, job("running"))
    fake.on("GET", "/v1/events", stream(event(11, "job", {"id": JOB, "state": "deleted"})))
    result = client("watch", JOB)
    assert result.returncode == 4 and "was deleted" in result.stderr


@pytest.mark.parametrize("data", ["{", "[]", '"x"', "NaN", '{"a":' * 40])
def test_broken_events_are_named(fake, client, data):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", "/v1/events", stream(f"id: 11\nevent: epoch\ndata: {data}\n\n"))
    result = client("watch", JOB)
    assert result.returncode == 7 and 'the event "epoch" number 11' in result.stderr


@pytest.mark.parametrize("broken", [{}, {"epoch": "x"}, {"epoch": 1}, {"epoch": 1, "train": 7, "test": {"confusion": [[1], 2]}}])
def test_strange_epochs_do_no_harm(fake, client, broken):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", "/v1/events", stream(event(11, "epoch", broken), event(12, "progress", {}), event(13, "new-kind", {}), whole_run()[-1]))
    assert client("watch", JOB).returncode == 0


def test_an_interrupt_detaches(fake, start):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", "/v1/events", stream(event(11, "epoch", epoch(1))))
    process = start("watch", JOB)
    lines_until(process.stdout, "epoch 1/2 done")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert stderr == f'{JOB} goes on without being watched; "residuum watch {JOB}" follows it again.\n'
    assert not fake.requests("POST", PATH + "/cancel")


def test_an_interrupt_ends_the_wait_for_a_server_that_is_gone(fake, start):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", "/v1/events", problem(503, "unavailable", Retry_After="500"))
    process = start("watch", JOB)
    lines_until(process.stderr, "lost")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 130


def test_a_pipe_sees_life_every_two_seconds(fake, start):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", "/v1/events", stream(event(11, "progress", progress(100))))
    process = start("watch", JOB)
    times = []
    for line in process.stdout:
        times.append(time.monotonic())
        if len(times) > 1:
            assert line == "epoch 1/2 train  100/469  loss 0.5000  1800 images/s  1:32 left\n"
        if len(times) == 4:
            break
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert len(gaps) == 3 and all(1.5 < gap < 2.5 for gap in gaps), gaps


def test_what_is_not_known_yet_is_a_dash(fake, start):
    first = {**progress(0), "phase": "validation", "loss": None, "images_per_second": None, "seconds_left": None}
    fake.on("GET", PATH, job("running"))
    fake.on("GET", "/v1/events", stream(event(11, "progress", first)))
    assert lines_until(start("watch", JOB).stdout, "epoch")[-1] == "epoch 1/2 validation  0/469  loss -  - images/s\n"


def test_validation_is_printed_where_there_is_any(fake, client):
    run = whole_run()
    run[3], run[5] = event(14, "epoch", validated(epoch(1, 0.8))), event(16, "epoch", validated(epoch(2, 0.9)))
    fake.on("GET", PATH, job(position=0))
    fake.on("GET", "/v1/events", stream(*run))
    assert "accuracy 88.95 %, validation loss 0.4567 accuracy 87.12 %, test loss" in client("watch", JOB).stdout
    fake.on("GET", "/v1/events", stream(*run))
    output, code = on_terminal(fake, "watch", JOB)
    assert code == 0 and re.search(r"train loss accuracy val\. loss accuracy test loss accuracy +time", output)
    assert "      1/2     0.3121  88.95 %    0.4567  87.12 %         -  80.00 %     31.2 s\r\n" in output


def test_the_place_in_the_queue_is_kept_up_to_date(fake, start):
    fake.on("GET", PATH, job(position=2), job(position=2), job(position=1))
    fake.on("GET", "/v1/events", stream())
    process = start("watch", JOB)
    lines_until(process.stdout, "queued, 2 jobs before it")
    lines_until(process.stdout, "queued, 1 job before it")


def test_quiet_prints_results_only(fake, client):
    fake.on("GET", PATH, job(position=1))
    run = whole_run()
    fake.on("GET", "/v1/events", stream(*run[:4], hold=False), stream(*run[4:]))
    result = client("watch", JOB, "--quiet")
    assert result.stderr == "" and not re.search("^(queued|starting|running|epoch .*left)", result.stdout, re.M)
    assert result.stdout.count(" done: ") == 2


def test_a_reader_that_goes_away_ends_it(fake):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", "/v1/events", stream(event(11, "progress", progress(1))))
    result = subprocess.run(["bash", "-c", f"('{CLIENT}' watch {JOB}; echo $? >&2) | head -n 1"], env=environment(RESIDUUM_SERVER=fake.url),
                            capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert result.stderr == "141\n"


# --- on a terminal ---


def on_terminal(fake, *args, **changes):
    """What the program writes to a terminal of 80 columns, and its exit code."""
    leader, follower = pty.openpty()
    os.set_blocking(leader, False)
    process = subprocess.Popen([CLIENT, *args], env=environment(RESIDUUM_SERVER=fake.url, COLUMNS="80", **changes), stdin=follower,
                               stdout=follower, stderr=follower)
    os.close(follower)
    output, deadline = b"", time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        select.select([leader], [], [], 1)
        try:
            piece = os.read(leader, 65536)
        except BlockingIOError:
            continue
        except OSError:  # EIO: the other side is closed
            break
        output += piece
    os.close(leader)
    try:
        code = process.wait(DEADLINE)
    finally:
        process.kill()
    return output.decode(), code


def paused_run():
    """A run whose stream is cut after a progress event, so that the display has time to draw it."""
    run = whole_run()
    return stream(*run[:3], hold=False), problem(503, "unavailable", Retry_After="1"), stream(*run[3:])


def test_a_terminal_gets_a_bar_and_aligned_epochs(fake):
    fake.on("GET", PATH, job(position=0))
    fake.on("GET", "/v1/events", *paused_run())
    output, code = on_terminal(fake, "watch", JOB)
    assert code == 0
    assert re.search(r"\repoch 1/2 train \[=+> +\] 100/469  loss 0\.5000  1800 images/s  1:32 left\x1b\[K", output)
    assert "      1/2      0.3121    88.95 %          -    80.00 %      0.05      31.2 s\r\n" in output
    assert output.count("train loss") == 1
    assert "\x1b[32m" in output  # the diagonal
    for line in output.replace("\r\n", "\n").split("\n"):
        shown = re.sub(r"\x1b\[[0-9;]*[mK]", "", line.rpartition("\r")[2])
        assert len(shown) <= 80 or shown.startswith("The connection"), shown


def test_no_color_keeps_the_bar(fake):
    fake.on("GET", PATH, job(position=0))
    fake.on("GET", "/v1/events", *paused_run())
    output, _ = on_terminal(fake, "watch", JOB, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*m", output) and "\x1b[K" in output


def test_a_dumb_terminal_gets_plain_lines(fake):
    fake.on("GET", PATH, job(position=0))
    fake.on("GET", "/v1/events", *paused_run())
    output, _ = on_terminal(fake, "watch", JOB, TERM="dumb")
    assert "\x1b" not in output and "\r" not in output.replace("\r\n", "\n") and "epoch 1/2 done" in output
