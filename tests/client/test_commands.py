"""The client's commands that ask once: output, errors, exit codes."""
import json
import re
import subprocess

import pytest
from kit import CLIENT, JOB, PATH, environment, epoch, job, validated
from fake import Answer, problem

HOSTILE = "\x1b]0;owned\x07\x1b[31mred\u009b2J\u202e\r\n"


def clean(text):
    """No character of the text can steer a terminal."""
    return not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f]", text)


# --- submit ---


def test_submit_prints_the_id_and_where_to_look(fake, client, tmp_path):
    fake.on("POST", "/v1/jobs", Answer(job(position=2), 202))
    spec = tmp_path / "job.json"
    spec.write_text('{"dataset": "fashion-mnist",\n "model": "resnet20"}')
    result = client("submit", str(spec))
    assert (result.returncode, result.stdout) == (0, JOB + "\n")
    assert result.stderr == f"Queued, 2 jobs before it: {fake.url}/#/jobs/{JOB}\n"
    ((_, path, headers, body),) = fake.asked
    assert path == "/v1/jobs" and headers["Content-Type"] == "application/json"
    assert body == spec.read_bytes()  # as it stands in the file
    assert re.fullmatch("[!-~]{16,255}", headers["Idempotency-Key"])


def test_submit_repeats_with_the_same_key_when_the_network_fails(fake, client):
    fake.on("POST", "/v1/jobs", Answer(cut=True), Answer(cut=True), Answer(job(), 200, headers={"Idempotent-Replayed": "true"}))
    result = client("submit", "-", stdin='{"dataset": "shapes"}')
    assert (result.returncode, result.stdout) == (0, JOB + "\n")
    assert result.stderr.count("trying again") == 2 and "queued by an earlier try" in result.stderr
    requests = fake.requests("POST", "/v1/jobs")
    assert len(requests) == 3
    assert len({(r[2]["Idempotency-Key"], r[3]) for r in requests}) == 1
    client("submit", "-", stdin="{}")
    assert fake.asked[-1][2]["Idempotency-Key"] != requests[0][2]["Idempotency-Key"]  # another job, another key


def test_submit_waits_as_long_as_a_busy_server_asks(fake, client):
    fake.on("POST", "/v1/jobs", problem(503, "unavailable", Retry_After="1"), Answer(job(), 202))
    result = client("submit", "-", stdin="{}")
    assert result.returncode == 0 and "status 503" in result.stderr


def test_submit_gives_up_in_the_end(fake, client):
    fake.on("POST", "/v1/jobs", Answer(cut=True))
    result = client("submit", "-", stdin="{}")
    assert result.returncode == 6 and result.stdout == ""
    assert len(fake.asked) == 5


def test_submit_does_not_repeat_a_refusal(fake, client):
    errors = [{"pointer": "/epochs", "detail": "must be 1 to 1000"}, {"pointer": "/modle", "detail": 'unknown; did you mean "model"?'}]
    fake.on("POST", "/v1/jobs", problem(400, "invalid-field", "2 fields are wrong", errors, "Invalid field"))
    result = client("submit", "-", stdin="{}")
    assert result.returncode == 2 and len(fake.asked) == 1
    assert result.stderr == (
        "residuum: Invalid field (400): 2 fields are wrong\n"
        "  /epochs: must be 1 to 1000\n"
        '  /modle: unknown; did you mean "model"?\n'
    )


def test_a_single_wrong_field_is_told_once(fake, client):
    errors = [{"pointer": "/epochs", "detail": "must be 1 to 1000"}]
    fake.on("POST", "/v1/jobs", problem(400, "invalid-field", "/epochs must be 1 to 1000", errors, "Invalid field"))
    assert client("submit", "-", stdin="{}").stderr == "residuum: Invalid field (400): /epochs must be 1 to 1000\n"


def test_the_text_of_a_single_wrong_field_is_told_once_its_place_in_any_case(fake, client):
    errors = [{"pointer": "/precision", "detail": "Use f32"}]
    fake.on("POST", "/v1/jobs", problem(422, "unsupported-here", "Use f32", errors, "Unsupported here"))
    assert client("submit", "-", stdin="{}").stderr == "residuum: Unsupported here (422): Use f32\n  /precision\n"


def test_submit_name_replaces_the_name(fake, client):
    fake.on("POST", "/v1/jobs", Answer(job(), 202))
    assert client("submit", "-", "--name", "größer", stdin='{"name": "x", "seed": 9007199254740991}').returncode == 0
    assert json.loads(fake.asked[0][3]) == {"name": "größer", "seed": 9007199254740991}


def test_submit_dry_run_shows_the_network(fake, client):
    graph = {"title": "t", "parameters": 272474, "flops": 81600000,
             "nodes": [{"name": "conv1", "op": "conv", "inputs": ["input"], "shape": [16, 32, 32], "parameters": 432, "flops": 884736,
                        "activation_bytes": 65536, "attributes": {}}]}
    fake.on("POST", "/v1/jobs", {"spec": {}, "graph": graph, "parameters": 272474, "flops": 81600000, "memory_bytes": 3 << 20,
                                 "steps_per_epoch": 469})
    result = client("submit", "--dry-run", "-", stdin="{}")
    assert result.returncode == 0
    assert fake.asked[0][1] == "/v1/jobs?dry_run=true" and "Idempotency-Key" not in fake.asked[0][2]
    assert "conv1  conv  16x32x32         432  884.7 k" in result.stdout
    assert "272,474 parameters, 81.6 M FLOPs an image, about 3.0 MiB of memory on the processor, 469 steps an epoch" in result.stdout
    assert json.loads(client("submit", "--dry-run", "--json", "-", stdin="{}").stdout)["graph"] == graph
    fake.on("POST", "/v1/jobs", {"graph": graph, "steps_per_epoch": 469, **gpu_plan(True)})
    assert "about 6.0 GiB of memory on a GPU, 469 steps" in client("submit", "--dry-run", "-", stdin="{}").stdout


@pytest.mark.parametrize("stdin, args, text", [
    ("{", ("--name", "x"), "not valid JSON"),
    ("[]", ("--name", "x"), "not a JSON object"),
    (" " * (256 * 1024 + 1), (), "more than 262144 bytes"),
    ("{}", ("--dry-run", "--watch"), "nothing to --watch"),
], ids=["syntax", "array", "large", "watch"])
def test_submit_explains_wrong_input(fake, client, stdin, args, text):
    result = client("submit", "-", *args, stdin=stdin)
    assert result.returncode == 2 and text in result.stderr and fake.asked == []


def test_submit_of_a_missing_file_is_wrong_usage(fake, client, tmp_path):
    result = client("submit", str(tmp_path / "none.json"))
    assert result.returncode == 2 and "none.json: No such file" in result.stderr and fake.asked == []


# --- refusals ---


@pytest.mark.parametrize("status, name, code", [
    (400, "invalid-request", 2), (403, "forbidden", 3), (401, "something-new", 3), (404, "not-found", 4), (409, "conflict", 5),
    (422, "impossible-shape", 2), (422, "idempotency-mismatch", 5), (429, "too-many", 5), (500, "internal", 7), (507, "storage-full", 7),
    (503, "unavailable", 7), (418, "none", 2), (302, "moved", 7),
])
def test_exit_codes_of_refusals(fake, client, status, name, code):
    fake.on("GET", PATH, problem(status, name, "why it was", Location="/v1/devices"))
    result = client("show", JOB)
    assert (result.returncode, result.stdout) == (code, "")
    assert f"({status}): why it was" in result.stderr
    assert len(fake.asked) == 1  # no redirect is followed


def test_a_server_error_names_its_request(fake, client):
    fake.on("GET", PATH, problem(500, "internal", "oops"))
    assert "request req-1" in client("show", JOB).stderr


@pytest.mark.parametrize("body, kind", [("<html>Bad Request</html>", "text/html"), ("{", "application/problem+json"),
                                        ("[1]", "application/problem+json"), ("", "application/problem+json")])
def test_refusals_without_an_explanation(fake, client, body, kind):
    fake.on("GET", PATH, Answer(body, 400, kind))
    result = client("show", JOB)
    assert result.returncode == 2 and "status 400 and no explanation" in result.stderr


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{", '{"a": ' * 100])
def test_answers_that_are_no_object(fake, client, body):
    fake.on("GET", PATH, Answer(body))
    for options in ((), ("--json",)):
        result = client("show", JOB, *options)
        assert (result.returncode, result.stdout) == (7, "") and "is it a residuum server?" in result.stderr


def test_nobody_answers(client):
    result = client("ls", url="http://127.0.0.1:9")
    assert result.returncode == 6 and "cannot reach http://127.0.0.1:9" in result.stderr and "RESIDUUM_SERVER" in result.stderr


@pytest.mark.parametrize("url", ["ftp://h", "http://", "127.0.0.1:8080", "http://h/?x=1", "http://h/#x", "http://a:b@h", "file:///etc/passwd"])
def test_addresses_that_cannot_be(client, url):
    result = client("ls", url=url)
    assert result.returncode == 2 and "http://127.0.0.1:8080" in result.stderr


def test_server_option_wins_and_a_path_and_slashes_are_fine(fake, client):
    fake.on("GET", "/behind/proxy/v1/presets", {"items": []})
    assert client("presets", "--server", fake.url + "/behind/proxy//", url="http://127.0.0.1:9").returncode == 0


def test_a_proxy_is_not_used_for_this_machine(fake, client):
    fake.on("GET", "/v1/presets", {"items": []})
    assert client("presets", http_proxy="http://127.0.0.1:9").returncode == 0


@pytest.mark.parametrize("word", ["..", "../devices", "job_x/cancel", "job_x?y", "", "job_ä", "x" * 65])
def test_what_is_no_job_id_is_never_sent(fake, client, word):
    result = client("rm", word)
    assert result.returncode == 2 and "is no job id" in result.stderr and fake.asked == []


# --- lists ---


def many(first, n):
    return [job("succeeded", id=f"job_{i:022d}", name=f"job {i}", epochs_done=2) for i in range(first, first + n)]


def test_ls_follows_pages(fake, client):
    fake.on("GET", "/v1/jobs", {"items": many(0, 200), "next": "a+b/c=", "cursor": 1}, {"items": many(200, 40), "next": "d", "cursor": 1})
    result = client("ls", "--limit", "240", "--state", "succeeded,failed")
    assert result.returncode == 0
    assert result.stdout.count("\n") == 241
    assert [a[1] for a in fake.asked] == ["/v1/jobs?limit=200&state=succeeded%2Cfailed",
                                          "/v1/jobs?limit=40&state=succeeded%2Cfailed&before=a%2Bb%2Fc%3D"]
    assert "more jobs" in result.stderr
    assert "more jobs" not in client("ls", "--quiet").stderr


def test_ls_columns(fake, client):
    fake.on("GET", "/v1/jobs", {"items": [job("running", epochs_done=1), job(name="")], "next": None, "cursor": 1})
    assert client("ls").stdout == (
        "JOB                         STATE    EPOCHS  CREATED               NAME\n"
        f"{JOB}  running     1/2  2026-11-24 06:50:28Z  first\n"
        f"{JOB}  queued      0/2  2026-11-24 06:50:28Z  (resnet20)\n"
    )
    lines = client("ls", "--json").stdout.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["running", "queued"]


def test_ls_of_a_model_without_a_preset(fake, client):
    own = job(name="")
    own["spec"] = {**own["spec"], "model": {"layers": []}}
    fake.on("GET", "/v1/jobs", {"items": [own], "next": None, "cursor": 1})
    assert client("ls").stdout.endswith("(own layers)\n")


def test_ls_ends_when_the_server_runs_in_circles(fake, client):
    fake.on("GET", "/v1/jobs", {"items": [], "next": "same", "cursor": 1})
    assert client("ls").returncode == 0 and len(fake.asked) == 1


@pytest.mark.parametrize("limit", ["0", "-1", "x", "3x", "", "99999999999999999999"])
def test_ls_limit_must_be_a_number(fake, client, limit):
    result = client("ls", "--limit", limit)
    assert result.returncode == 2 and "whole number" in result.stderr and fake.asked == []


def test_hostile_text_cannot_steer_the_terminal(fake, client):
    bad = job("failed", name=HOSTILE, device=HOSTILE, reason={"code": "backend", "text": HOSTILE}, owner=HOSTILE)
    bad["spec"] = {"name": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}}
    fake.on("GET", PATH, bad)
    fake.on("GET", "/v1/jobs", {"items": [bad], "next": None})
    fake.on("GET", PATH + "/log", Answer(("line\n\tnext " + HOSTILE).encode() + b"\xff", kind="text/plain; charset=utf-8"))
    fake.on("GET", "/v1/presets", problem(400, "x", HOSTILE, [{"pointer": HOSTILE, "detail": HOSTILE}], HOSTILE))
    fake.on("GET", "/v1/devices", {"items": [{"id": HOSTILE, "name": HOSTILE, "unusable": [{"name": HOSTILE, "reason": HOSTILE}],
                                              "backends": [{"name": HOSTILE, "version": HOSTILE, "precisions": [HOSTILE]}]}],
                                   "state": "failed", "reason": HOSTILE})
    fake.on("GET", "/v1/version", {"version": HOSTILE, "sqlite": HOSTILE, "microhttpd": HOSTILE, "api": 1})
    fake.on("POST", "/v1/jobs", Answer(job(id=HOSTILE), 202))
    fake.on("GET", PATH + "/weights", {"items": [{"epoch": 1, "bytes": 1, "sha256": HOSTILE}]})
    fake.on("GET", PATH + "/epochs/last", {"epoch": HOSTILE, "test": {"report": HOSTILE, "most_confused": HOSTILE}})
    fake.on("GET", PATH + "/receipt", {"job": HOSTILE, "spec_sha256": HOSTILE, "attempts": [{"program": HOSTILE}], "epochs": [{"weights_sha256": HOSTILE}]})
    fake.on("GET", PATH + "/predictions", {"items": [{"index": HOSTILE, "label": 99}], "next": HOSTILE})
    for args in (["show", JOB], ["ls"], ["log", JOB], ["presets"], ["devices"], ["version"], ["submit", "-"], ["show", HOSTILE],
                 ["watch", JOB], ["report", JOB], ["weights", JOB], ["receipt", JOB], ["predictions", JOB], ["show", JOB, "--json"], ["ls", "--json"], ["devices", "--json"]):
        result = client(*args, stdin="{}")
        text = result.stdout + result.stderr
        assert clean(text), args
        assert len(text) > 10
    assert client("log", JOB).stdout.startswith("line\n\tnext \\x1b]0;owned\\x07\\x1b[31mred\\x9b2J\\u202e\\x0d\n")
    assert json.loads(client("show", JOB, "--json").stdout) == bad


# --- the other commands ---


def test_show_prints_every_field(fake, client):
    worker = {"backend": "onednn", "backend_version": "2.6.3", "device": "AMD EPYC", "precision": "f32", "threads": 2, "parameters": 272474,
              "memory_bytes": 3 << 20, "resumed": None}
    fake.on("GET", PATH, job("running", worker=worker, device="cpu", started="2026-11-24T06:50:29.000000Z"))
    rows = dict(re.split("  +", line, maxsplit=1) for line in client("show", JOB).stdout.splitlines() if "  " in line)
    assert rows["Job"] == JOB and rows["State"] == "running" and rows["Epochs"] == "0 of 2"
    assert rows["Started"] == "2026-11-24 06:50:29Z" and rows["Ended"] == "-"
    assert rows["Backend"] == "onednn 2.6.3, f32, 2 threads" and rows["Parameters"] == "272,474"
    assert rows["model.preset"] == "resnet20" and rows["optimizer.momentum"] == "0.9" and rows["seed"] == "1"


@pytest.mark.parametrize("command, method, path, status, text", [
    ("cancel", "POST", "/cancel", 200, "will stop in a moment"), ("retry", "POST", "/retry", 202, "queued again, with 0 of 2 epochs"),
    ("rm", "DELETE", "", 204, "is deleted"),
])
def test_changes(fake, client, command, method, path, status, text):
    fake.on(method, PATH + path, Answer(b"" if status == 204 else job("running"), status))
    result = client(command, JOB)
    assert result.returncode == 0 and text in result.stderr and result.stdout == ""
    assert client(command, JOB, "--quiet").stderr == ""
    fake.on(method, PATH + path, problem(409, "conflict", "it has ended"))
    assert client(command, JOB).returncode == 5


def test_log_as_json(fake, client):
    fake.on("GET", PATH + "/log", Answer('a "quoted"\nline', kind="text/plain; charset=utf-8"))
    assert json.loads(client("log", JOB, "--json").stdout) == {"log": 'a "quoted"\nline'}


def test_epochs_follow_pages(fake, client):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", PATH + "/epochs", {"items": [epoch(1)], "next": 1}, {"items": [epoch(2)], "next": None}, {"items": [epoch(1)], "next": 1},
            {"items": [epoch(2)], "next": None})
    lines = client("epochs", JOB).stdout.splitlines()
    assert lines[0].split() == ["epoch", "train", "loss", "accuracy", "test", "loss", "accuracy", "lr", "time"]
    assert [line.split()[0] for line in lines[1:]] == ["1/2", "2/2"] and "-    90.00 %" in lines[1]
    assert fake.asked[-1][1] == PATH + "/epochs?after=1"
    assert [json.loads(line) for line in client("epochs", JOB, "--json").stdout.splitlines()] == [epoch(1), epoch(2)]


def test_epochs_with_a_validation_set(fake, client):
    fake.on("GET", PATH, job("running"))
    fake.on("GET", PATH + "/epochs", {"items": [validated(epoch(1))], "next": None})
    head, line = client("epochs", JOB).stdout.splitlines()
    assert head.split() == ["epoch", "train", "loss", "accuracy", "val.", "loss", "accuracy", "test", "loss", "accuracy", "time"]
    assert line.split() == ["1/2", "0.3121", "88.95", "%", "0.4567", "87.12", "%", "-", "90.00", "%", "31.2", "s"]
    assert max(len(head), len(line)) <= 80


def test_graph_as_table_and_as_dot(fake, client):
    node = {"name": "conv1", "op": "conv", "inputs": [], "shape": [16, 32, 32], "parameters": 432, "flops": 884736, "attributes": {}}
    fake.on("GET", PATH + "/graph", {"title": "t", "nodes": [node], "parameters": 432, "flops": 884736})
    assert client("graph", JOB).stdout.splitlines()[-1].split() == ["total", "432", "884.7", "k"]
    fake.on("GET", PATH + "/graph", Answer("digraph {\n\ta -> b\n}\n", kind="text/vnd.graphviz; charset=utf-8"))
    assert client("graph", JOB, "--dot").stdout == "digraph {\n\ta -> b\n}\n"
    assert fake.asked[-1][1] == PATH + "/graph?format=dot"


def test_graph_as_layers(fake, client):
    model = {"layers": [{"name": "fc", "op": "linear", "units": 10}]}
    fake.on("GET", PATH + "/graph", model)
    result = client("graph", JOB, "--layers")
    assert json.loads(result.stdout) == model and result.stdout.count("\n") > 3 and fake.asked[-1][1] == PATH + "/graph?format=layers"
    assert client("graph", JOB, "--layers", "--json").stdout.count("\n") == 1
    assert client("graph", JOB, "--layers", "--dot").returncode == 2


# --- results ---


REPORT = {"precision": [0.6667, 1.0], "recall": [1.0, 0.5], "f1": [0.8, 0.6667], "support": [2, 2],
          "macro": {"precision": 0.8333, "recall": 0.75, "f1": 0.7333}, "weighted": {"precision": 0.8333, "recall": 0.75, "f1": 0.7333}}


def reported():
    pairs = [{"true": 1, "predicted": 0, "count": 12}, {"true": 0, "predicted": 1, "count": 3}]
    test = {"accuracy": 0.75, "top5": 0.99, "ece": 0.02, "report": REPORT,
            "most_confused": {"pairs": pairs, "classes": [{"class": 1, "count": 15}, {"class": 0, "count": 15}]}}
    return {**epoch(3), "test": {**epoch(3)["test"], **test}}


def test_report(fake, client):
    fake.on("GET", PATH, job("succeeded"))
    fake.on("GET", PATH + "/epochs/last", reported())
    fake.on("GET", PATH + "/epochs/2", reported())
    text = client("report", JOB).stdout
    assert text.startswith("Epoch 3: test accuracy 75.00 %, among the first five 99.00 %, calibration error 2.00 %\n")
    rows = [line.split() for line in text.splitlines()]
    assert ["1", "Trouser", "100.00", "%", "50.00", "%", "66.67", "%", "2"] in rows
    assert ["mean", "of", "classes", "83.33", "%", "75.00", "%", "73.33", "%"] in rows
    assert ["Trouser", "15", "Trouser", "T-shirt/top", "12"] in rows and ["T-shirt/top", "15", "T-shirt/top", "Trouser", "3"] in rows
    assert "Trouser         3" not in client("report", JOB, "--confused", "1").stdout and fake.requests("GET", PATH + "/epochs/2") == []
    assert client("report", JOB, "--epoch", "2").returncode == 0 and fake.requests("GET", PATH + "/epochs/2")
    assert json.loads(client("report", JOB, "--json").stdout) == REPORT
    for options in (("--confused", "0"), ("--confused", "11"), ("--epoch", "last")):
        assert client("report", JOB, *options).returncode == 2


def test_weights(fake, client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    item = {"epoch": 2, "bytes": 1 << 20, "sha256": "ab" * 32, "last": True, "best": True}
    data = bytes(range(256)) * 4096
    fake.on("GET", PATH + "/weights", {"items": [item]})
    fake.on("GET", PATH + "/weights/best", Answer(data, kind="application/octet-stream"))
    assert client("weights", JOB).stdout.splitlines()[1].split() == ["2", "last,", "best", "1.0", "MiB", "ab" * 32]
    result = client("weights", JOB, "best")
    name = f"{JOB}-epoch-best.safetensors"
    assert result.returncode == 0 and result.stderr == f"Saved as {name}.\n" and (tmp_path / name).read_bytes() == data
    assert client("weights", JOB, "best", "-o", "net").returncode == 0 and (tmp_path / "net").read_bytes() == data
    raw = subprocess.run([CLIENT, "weights", JOB, "best", "--output", "-"], env=environment(RESIDUUM_SERVER=fake.url), capture_output=True,
                         timeout=60, check=True)
    assert raw.stdout == data
    refused = client("weights", JOB, "7", "--output", "seven")
    assert refused.returncode == 4 and "nothing at" in refused.stderr and not list(tmp_path.glob("seven*"))
    assert client("weights", JOB, "best", "--output", "no/such/folder").returncode == 7
    for wrong in (("first",), ("../x",), ("",)):
        assert client("weights", JOB, *wrong).returncode == 2
    assert client("weights", JOB, "--output", "x").returncode == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "net"])


def test_export(fake, client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = bytes(range(256)) * 64
    fake.on("GET", PATH + "/onnx", Answer(data, kind="application/octet-stream"))
    name = f"{JOB}-epoch-last.onnx"
    assert client("export", JOB, "--onnx").stderr == f"Saved as {name}.\n" and (tmp_path / name).read_bytes() == data
    assert client("export", JOB, "3", "--normalize", "-o", "net.onnx").returncode == 0 and (tmp_path / "net.onnx").read_bytes() == data
    assert [asked[1] for asked in fake.requests("GET", PATH + "/onnx")] == [
        PATH + "/onnx?epoch=last&normalize=false", PATH + "/onnx?epoch=3&normalize=true"]
    assert client("export", JOB, "first").returncode == 2
    fake.on("GET", PATH + "/onnx", problem(404, "not-found", "epoch 4 is not kept"))
    assert client("export", JOB, "4").returncode == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "net.onnx"])


def test_a_download_that_is_cut_leaves_nothing(fake, client, tmp_path):
    fake.on("GET", PATH + "/weights/1", Answer(b"x" * 100, kind="application/octet-stream", headers={"Transfer-Encoding": "chunked"}))
    result = client("weights", JOB, "1", "--output", str(tmp_path / "net"))
    assert result.returncode == 6 and list(tmp_path.iterdir()) == []


def test_predictions(fake, client, tmp_path):
    def item(i, predicted):
        return {"index": i, "label": 1, "predicted": predicted, "probability": 0.75, "softmax": [0.25, 0.75]}

    fake.on("GET", PATH, job("succeeded"))
    fake.on("GET", PATH + "/predictions", {"items": [item(0, 1)], "next": 1}, {"items": [item(1, 0)], "next": None}, {"items": [item(0, 1)], "next": None})
    lines = client("predictions", JOB).stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [["0", "Trouser", "Trouser", "75.00", "%"], ["1", "Trouser", "T-shirt/top", "75.00", "%", "wrong"]]
    assert [a[1] for a in fake.requests("GET", PATH + "/predictions")] == [PATH + "/predictions?after=0&limit=50", PATH + "/predictions?after=1&limit=49"]
    assert [json.loads(line) for line in client("predictions", JOB, "--json").stdout.splitlines()] == [item(0, 1)]
    fake.on("GET", PATH + "/predictions", {"items": [{**item(0, 1), "one_hot": [0, 1]}], "next": None})
    lines = client("predictions", JOB, "--one-hot").stdout.splitlines()
    assert lines[0].split()[-1] == "ONE-HOT" and lines[1].split()[-1] == "01"
    assert fake.requests("GET", PATH + "/predictions")[-1][1] == PATH + "/predictions?after=0&limit=50&one_hot=true"
    both = client("predictions", JOB, "--one-hot", "--output", str(tmp_path / "p"))
    assert both.returncode == 2 and "--one-hot is for what is printed" in both.stderr
    assert "newest" not in client("help", "predictions").stdout
    fake.on("GET", PATH + "/predictions", Answer(b"tensors", kind="application/octet-stream"))
    assert client("predictions", JOB, "--output", str(tmp_path / "p")).returncode == 0
    assert (tmp_path / "p").read_bytes() == b"tensors" and fake.asked[-1][1] == PATH + "/predictions?format=safetensors"


@pytest.mark.parametrize("state, verification, code, words", [
    ("succeeded", {"result": "identical", "epoch": None}, 0, "identical: the weights are the same after each of 2 epochs\n"),
    ("cancelled", {"result": "differs", "epoch": 2}, 1, "differs: the weights are not the same after epoch 2\n"),
    ("succeeded", {"result": "differs", "epoch": 2}, 1, "differs: the weights are not the same after epoch 2\n"),
    ("failed", {"result": "unfinished", "epoch": None}, 1, "unfinished: the verifying job ended without an answer\n"),
])
def test_verify(fake, client, state, verification, code, words):
    again = "job_0000000000000000000000"
    done = job(state, id=again, verifies=JOB, verification={**verification, "job": JOB}, epochs_done=2)
    fake.on("POST", PATH + "/verify", Answer(job(id=again), 202))
    fake.on("GET", f"/v1/jobs/{again}", done)
    fake.on("GET", f"/v1/jobs/{again}/epochs", {"items": [], "next": None})
    result = client("verify", JOB)
    assert result.returncode == code and result.stdout.endswith(words) and f"{again} runs {JOB} again." in result.stderr
    result = client("verify", JOB, "--json")
    assert result.returncode == code and json.loads(result.stdout.splitlines()[-1]) == {"verification": {**verification, "job": JOB}}
    fake.on("POST", PATH + "/verify", problem(409, "conflict", "it is running"))
    assert client("verify", JOB).returncode == 5


def test_receipt(fake, client):
    attempt = {"attempt": 1, "program": "0.1.0", "backend": "onednn", "backend_version": "2.6.3", "algorithms": "a1", "device": "AMD EPYC",
               "precision": "f32", "threads": 2, "data_sha256": "d" * 64}
    receipt = {"job": JOB, "seed": 7, "spec_sha256": "e" * 64, "uniform": False, "attempts": [attempt],
               "epochs": [{"epoch": 1, "attempt": 1, "weights_sha256": "f" * 64}]}
    fake.on("GET", PATH + "/receipt", receipt)
    result = client("receipt", JOB)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["Seed", "7"] in rows and ["Data", "d" * 64] in rows and ["Spec", "e" * 64] in rows and ["1", "f" * 64] in rows
    assert ["1", "0.1.0", "onednn", "2.6.3", "a1", "f32", "2", "AMD", "EPYC"] in rows and "Not all attempts ran alike" in result.stderr
    assert json.loads(client("receipt", JOB, "--json").stdout) == receipt


def test_catalogue(fake, client):
    device = {"id": "cpu", "name": "AMD EPYC", "threads": 2, "memory_bytes": 8 << 30, "state": "ready", "job": None,
              "backends": [{"name": "onednn", "version": "2.6.3", "precisions": ["f32", "bf16"]}],
              "unusable": [{"name": "cudnn", "reason": "no driver"}, {"name": "ref", "reason": "not installed"}]}
    fake.on("GET", "/v1/devices", {"items": [device], "state": "ready", "reason": None})
    fake.on("GET", "/v1/presets", {"items": [{"name": "resnet20", "title": "ResNet-20", "paper": "He et al. 2015", "residual": True}]})
    fake.on("GET", "/v1/version", {"version": "0.1.0", "api": 1, "sqlite": "3.40.1", "microhttpd": "0.9.75"})
    devices, datasets, presets, version = client("devices"), client("datasets"), client("presets"), client("version")
    assert "cpu     ready        2  8.0 GiB  AMD EPYC  onednn 2.6.3 (f32 bf16)" in devices.stdout
    assert devices.stderr == "No GPU: no driver\ncpu cannot use ref: not installed\n"
    assert "fashion-mnist  yes    1x28x28       10  60,000  10,000  Fashion-MNIST" in datasets.stdout
    assert "resnet20  yes       ResNet-20  He et al. 2015" in presets.stdout
    assert "server  0.1.0 (API 1, SQLite 3.40.1, libmicrohttpd 0.9.75)" in version.stdout and version.stdout.startswith("client  0.1.0")
    assert json.loads(client("devices", "--json").stdout)["items"] == [device]


GPU = {"id": "GPU-a", "name": "NVIDIA H100", "threads": 1, "memory_bytes": 80 << 30, "memory_free_bytes": 79 << 30, "compute": "9.0",
       "driver": "580.65.06", "profile": None, "note": "not yet run", "unusable": [], "state": "busy", "job": JOB, "reason": None,
       "backends": [{"name": "cudnn", "version": "9.19.0", "precisions": ["f32", "bf16", "tf32"]}],
       "telemetry": {"temperature_c": 61.4, "utilization": 0.93, "power_w": None, "memory_used_bytes": 4 << 30},
       "self_check": {"passed": True, "at": "2026-11-24T08:00:00.000000Z", "driver": "580.65.06", "features": []}}
OLDER = {**GPU, "id": "GPU-c", "state": "ready", "job": None, "backends": [{"name": "cudnn", "version": "9.19.0", "precisions": ["f32"]}]}
DRAINED = {**GPU, "id": "GPU-b", "state": "drained", "job": None, "reason": "it fell off the bus", "telemetry": None, "self_check": None}
CPU = {**GPU, "id": "cpu", "name": "AMD EPYC", "compute": None, "driver": None, "memory_bytes": 8 << 30, "memory_free_bytes": None, "note": None,
       "state": "ready", "job": None, "telemetry": None, "self_check": None,
       "backends": [{"name": "onednn", "version": "2.6.3", "precisions": ["f32", "bf16"]}]}


def test_gpus(fake, client):
    fake.on("GET", "/v1/devices", {"items": [CPU, GPU, DRAINED], "state": "ready", "reason": None})
    result = client("devices")
    assert "GPU-a   busy           1  80.0 GiB  NVIDIA H100  cudnn 9.19.0 (f32 bf16 tf32)" in result.stdout
    assert "GPU-a  9.0      580.65.06  79.0 GiB  passed 2026-11-24 08:00:00Z  61 C, 93 % busy, 4.0 GiB used" in result.stdout
    assert "GPU-b  9.0      580.65.06  79.0 GiB  not done" in result.stdout
    assert "GPU-b gets no jobs: it fell off the bus\n" in result.stderr and "GPU-a: not yet run\n" in result.stderr
    fake.on("POST", "/v1/devices/GPU-b/resume", {**DRAINED, "state": "ready"})
    result = client("devices", "--resume", "GPU-b")
    assert result.returncode == 0 and result.stderr == "GPU-b gets jobs again.\n"
    fake.on("POST", "/v1/devices/GPU-a/resume", problem(409, "conflict", "it is in use"))
    assert client("devices", "--resume", "GPU-a").returncode == 5


def gpu_plan(fits, **changes):
    need = {"train_bytes": 3 << 30, "evaluate_bytes": 1 << 30, "data_bytes": 200 << 20, "workspace_bytes": 512 << 20,
            "context_bytes": 700 << 20, "total_bytes": 6 << 30}
    return {"gpu": {"name": "h100", "device": "NVIDIA H100", "compute": "9.0", "fits": fits, "need": need, "memory_bytes": 80 << 30,
                    "free_bytes": 80 << 30, "largest_batch": 4096, **changes}, "memory_bytes": 5 << 30}


@pytest.mark.parametrize("fits, code, words", [(True, 0, "The job fits.\n"), (False, 1, "The job does not fit.\n")])
def test_plan_for_a_gpu(fake, client, fits, code, words):
    fake.on("POST", "/v1/jobs", gpu_plan(fits))
    result = client("plan", "-", "--gpu", "h100", stdin="{}")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert result.returncode == code and result.stdout.endswith(words) and result.stdout.startswith("NVIDIA H100 (compute capability 9.0)")
    assert ["to", "train", "3.0", "GiB"] in lines and ["all", "together", "6.0", "GiB"] in lines and ["memory", "of", "the", "card", "80.0", "GiB"] in lines
    assert "free" not in result.stdout and ["largest", "batch_size", "(the", "most", "there", "is)", "4,096"] in lines
    assert fake.requests("POST", "/v1/jobs")[0][1] == "/v1/jobs?dry_run=true&gpu=h100"
    result = client("plan", "-", "--gpu", "h100", "--json", stdin="{}")
    assert result.returncode == code and json.loads(result.stdout) == gpu_plan(fits)["gpu"]
    fake.on("POST", "/v1/jobs", gpu_plan(fits, free_bytes=7 << 30, largest_batch=512))
    lines = [line.split() for line in client("plan", "-", "--gpu", "GPU-a", stdin="{}").stdout.splitlines()]
    assert ["free", "of", "that", "7.0", "GiB"] in lines and ["largest", "batch_size", "512"] in lines


def test_plan_for_the_servers_devices(fake, client):
    """The job fits when it fits on one of them; what one of them cannot do at all is told, and is no end."""
    fake.on("GET", "/v1/devices", {"items": [CPU, GPU, DRAINED], "state": "ready", "reason": None})
    fake.on("POST", "/v1/jobs", problem(422, "unsupported-here", "no bf16 there"), Answer(gpu_plan(True)))
    result = client("plan", "-", stdin="{}")
    assert result.returncode == 0 and "no bf16 there" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["GPU-a", "NVIDIA", "H100", "-", "80.0", "GiB", "-", "no"]
    assert lines[2].split() == ["GPU-b", "NVIDIA", "H100", "6.0", "GiB", "80.0", "GiB", "4,096", "yes"] and len(lines) == 3
    fake.on("POST", "/v1/jobs", problem(400, "invalid-field", "no"))
    assert client("plan", "-", stdin="{}").returncode == 2


@pytest.mark.parametrize("gpus, spec, rows", [
    ([GPU, OLDER], {}, ["GPU-a", "GPU-c"]),
    ([GPU, OLDER], {"precision": "bf16"}, ["GPU-a"]),
    ([OLDER], {"precision": "bf16"}, ["cpu"]),
    ([GPU, OLDER], {"device": "cpu"}, ["cpu"]),
    ([GPU, OLDER], {"device": "GPU-c"}, ["GPU-c"]),
    ([GPU, OLDER], {"backend": "onednn"}, ["cpu"]),
    ([DRAINED], {}, ["GPU-b", "cpu"]),
    ([DRAINED], {"backend": "cudnn"}, ["GPU-b"]),
])
def test_plan_shows_the_devices_on_which_the_job_may_run(fake, client, gpus, spec, rows):
    fake.on("GET", "/v1/devices", {"items": [CPU, *gpus], "state": "ready", "reason": None})
    fake.on("POST", "/v1/jobs", gpu_plan(True))
    result = client("plan", "-", stdin=json.dumps(spec))
    assert result.returncode == 0 and [line.split()[0] for line in result.stdout.splitlines()[1:]] == rows


def test_plan_for_a_device_that_is_not_there_is_the_servers_refusal(fake, client):
    fake.on("GET", "/v1/devices", {"items": [CPU, GPU], "state": "ready", "reason": None})
    fake.on("POST", "/v1/jobs", problem(422, "unsupported-here", "no such device"))
    result = client("plan", "-", stdin='{"device": "gpu"}')
    assert result.returncode == 1 and result.stdout == "" and "no such device" in result.stderr


def test_plan_without_gpus(fake, client):
    fake.on("GET", "/v1/devices", {"items": [CPU], "state": "ready", "reason": None})
    fake.on("POST", "/v1/jobs", {"memory_bytes": 9 << 30}, {"memory_bytes": 7 << 30})
    assert client("plan", "-", stdin="{}").returncode == 1
    result = client("plan", "-", stdin="{}")
    assert result.returncode == 0 and ["cpu", "AMD", "EPYC", "7.0", "GiB", "8.0", "GiB", "-", "yes"] in [x.split() for x in result.stdout.splitlines()]


def test_help_and_version_need_no_server(client):
    for args in (["help"], ["--help"], ["help", "watch"], ["watch", "--help"], ["--version"]):
        result = client(*args, url="nonsense")
        assert result.returncode == 0 and result.stderr == "" and result.stdout
    assert client("help", "wach").returncode == 2
    assert client().returncode == 2


# --- the output ---


def test_a_reader_that_goes_away_is_no_error(fake):
    fake.on("GET", "/v1/jobs", {"items": many(0, 200), "next": "x", "cursor": 1})
    command = f"'{CLIENT}' ls --limit 1000; echo $? >&2"
    result = subprocess.run(["bash", "-c", f"({command}) | head -n 1"], env=environment(RESIDUUM_SERVER=fake.url), capture_output=True,
                            text=True, timeout=60, check=False)
    assert result.stdout.startswith("JOB") and result.stderr == "141\n"  # 128 + SIGPIPE, and not a word


def test_json_to_a_reader_that_goes_away_ends_early(fake):
    fake.on("GET", "/v1/jobs", {"items": many(0, 200), "next": "x", "cursor": 1})
    command = f"'{CLIENT}' ls --json --limit 1000000; echo $? >&2"
    result = subprocess.run(["bash", "-c", f"({command}) | head -n 1"], env=environment(RESIDUUM_SERVER=fake.url), capture_output=True,
                            text=True, timeout=60, check=False)
    assert result.stderr == "141\n" and len(fake.asked) < 100


def test_a_full_disk_is_an_error(fake, client):
    with open("/dev/full", "w", encoding="utf-8") as full:
        result = subprocess.run([CLIENT, "help"], stdout=full, stderr=subprocess.PIPE, env=environment(), text=True, timeout=60, check=False)
    assert result.returncode == 7 and "No space left on device" in result.stderr
