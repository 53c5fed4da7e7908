"""Jobs through the API: defaults, dry run, keys, pages, results, and what a person may do when."""
import re
import threading

import pytest
from service import FAST

MINIMAL = {"dataset": "shapes", "model": "resnet20"}
LONG = {**FAST, "epochs": 5000, "train_limit": 2048}


@pytest.fixture(scope="module")
def finished(service):
    """A job with five epochs that nobody changes."""
    return service.wait_for(service.submit(epochs=5, train_limit=256, name="<b>five</b>"))


def test_every_default_is_shown(service):
    spec = service.post("/v1/jobs?dry_run=true", MINIMAL).json()["spec"]
    assert spec["model"] == {"preset": "resnet20"}
    assert (spec["epochs"], spec["batch_size"], spec["seed"], spec["precision"], spec["backend"]) == (5, 128, 1, "f32", "auto")
    assert service.post("/v1/jobs?dry_run=true", spec).json()["spec"] == spec, "a canonical spec is its own canonical spec"


def test_dry_run_queues_nothing(service):
    before = service.get("/v1/jobs").json()["cursor"]
    found = service.post("/v1/jobs?dry_run=true", {**MINIMAL, "train_limit": 1000}).json()
    graph = found["graph"]
    assert found["parameters"] == graph["parameters"] == sum(n["parameters"] for n in graph["nodes"]) == 269722  # as akamaster's PyTorch version, option A
    assert found["flops"] == graph["flops"] == sum(n["flops"] for n in graph["nodes"])
    assert found["steps_per_epoch"] == 8 and found["memory_bytes"] > 4 * found["parameters"]
    bigger = service.post("/v1/jobs?dry_run=true", {**MINIMAL, "train_limit": 1000, "batch_size": 256}).json()
    assert bigger["memory_bytes"] > found["memory_bytes"] and bigger["steps_per_epoch"] == 4
    halved = service.post("/v1/jobs?dry_run=true", {**MINIMAL, "train_limit": 1000, "validation_fraction": 0.5}).json()
    assert halved["steps_per_epoch"] == 4, "validation images are not trained"
    assert service.get("/v1/jobs").json()["cursor"] == before


def test_padding_changes_the_input(service):
    small = service.post("/v1/jobs?dry_run=true", {**FAST, "pad": 4}).json()["graph"]["nodes"][0]
    assert small["op"] == "input" and small["shape"] == [3, 40, 40]


def test_dry_run_values(service, problem):
    assert service.post("/v1/jobs?dry_run=true", FAST).status_code == 200
    problem(service.post("/v1/jobs?dry_run=1", FAST), 400, "invalid-field", "?dry_run")
    problem(service.post("/v1/jobs?dry_rum=true", FAST), 400, "invalid-request", "?dry_rum")


def test_a_detail_names_its_field(service):
    """The line that a person reads first has a subject, whichever check found the mistake."""
    def detail(model):
        return service.post("/v1/jobs?dry_run=true", {**MINIMAL, "model": model}).json()["detail"]
    assert detail({"preset": "resnet20", "kernel": 4}).startswith("/model/kernel is 4; in a residual block it must be odd")
    assert detail({"preset": "resnet20", "depth": [1, 2]}).startswith("/model/depth has 2 numbers")
    assert detail({"preset": "resnet20", "overrides": [{"stage": 9, "kernel": 3}]}).startswith("/model/overrides/0/stage is 9")
    assert detail("resnet21").startswith("There is no preset 'resnet21'"), "a whole sentence stands alone"


def test_answer_of_a_submit(daemon):
    answer = daemon.post("/v1/jobs", {**LONG, "name": "first"})
    job = answer.json()
    assert answer.status_code == 202 and answer.headers["Location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert job["state"] == "queued" and job["name"] == "first" and job["position"] == 0 and job["attempt"] == 0
    daemon.wait_for(job, "running")
    places = [daemon.submit(LONG)["position"] for _ in range(3)]
    assert places == [0, 1, 2]


def test_a_202_survives_a_kill(daemon):
    job = daemon.submit()
    daemon.kill()
    daemon.start_again()
    assert daemon.wait_for(job, "succeeded")["epochs_done"] == 2


def test_idempotency_key(daemon, problem):
    key = {"Idempotency-Key": "k1"}
    first = daemon.post("/v1/jobs", LONG, headers=key)
    assert first.status_code == 202 and "Idempotent-Replayed" not in first.headers
    again = daemon.post("/v1/jobs", LONG, headers=key)
    assert again.status_code == 200 and again.headers["Idempotent-Replayed"] == "true" and again.json()["id"] == first.json()["id"]
    problem(daemon.post("/v1/jobs", FAST, headers=key), 422, "idempotency-mismatch")
    problem(daemon.post("/v1/jobs", {}, headers={"Idempotency-Key": "k2"}), 400)
    assert daemon.post("/v1/jobs", FAST, headers={"Idempotency-Key": "k2"}).status_code == 202, "a refused body used the key up"
    for wrong in ("", "a b", "x" * 256):
        problem(daemon.post("/v1/jobs", FAST, headers={"Idempotency-Key": wrong}), 400, "invalid-request", "Idempotency-Key")
    daemon.kill()
    daemon.start_again()
    assert daemon.post("/v1/jobs", LONG, headers=key).json()["id"] == first.json()["id"]
    assert len(daemon.get("/v1/jobs").json()["items"]) == 2


def test_one_key_from_many_at_once(daemon):
    """Twenty requests in one moment, a few of them in one turn of the loop: one job."""
    answers = []

    def post():
        import requests
        answers.append(requests.post(daemon.url + "/v1/jobs", json=LONG, headers={"Idempotency-Key": "race"}, timeout=30))

    threads = [threading.Thread(target=post) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a.status_code for a in answers) == [200] * 19 + [202]
    assert len({a.json()["id"] for a in answers}) == 1 and len(daemon.get("/v1/jobs").json()["items"]) == 1


def test_pages(daemon, problem):
    made = [daemon.submit(LONG, name=str(i))["id"] for i in range(7)]
    daemon.wait_for(made[0], "running")
    seen, path = [], "/v1/jobs?limit=3"
    while path:
        page = daemon.get(path)
        seen += [job["id"] for job in page.json()["items"]]
        following = page.json()["next"]
        link = page.links.get("next", {}).get("url")
        assert (link is None) == (following is None) and (link is None or f"before={following}" in link)
        path = link
    assert seen == made[::-1]
    assert [j["id"] for j in daemon.get("/v1/jobs?state=running").json()["items"]] == made[:1]
    assert len(daemon.get("/v1/jobs?state=queued&limit=2").json()["items"]) == 2
    page = daemon.get("/v1/jobs?state=queued,running&limit=4")
    rest = daemon.get(page.links["next"]["url"]).json()
    assert len(rest["items"]) == 3 and rest["next"] is None
    for query, pointer in (("limit=0", "?limit"), ("limit=201", "?limit"), ("limit=x", "?limit"), ("limit=", "?limit"), ("limit=1e1", "?limit"),
                           ("before=x", "?before"), ("before=c0", "?before"), ("before=", "?before"), ("state=runing", "?state"),
                           ("state=", "?state"), ("state=queued,", "?state")):
        problem(daemon.get(f"/v1/jobs?{query}"), 400, "invalid-field", pointer)
    assert "running" in daemon.get("/v1/jobs?state=runing").json()["detail"]


def test_epochs(service, finished, problem):
    path = f"/v1/jobs/{finished['id']}/epochs"
    every = service.get(path).json()
    assert [e["epoch"] for e in every["items"]] == [1, 2, 3, 4, 5] and every["next"] is None
    for epoch in every["items"]:
        confusion, softmax = epoch["test"]["confusion"], epoch["test"]["softmax"]
        total = sum(map(sum, confusion))
        assert total == 256 and abs(sum(confusion[i][i] for i in range(10)) / total - epoch["test"]["accuracy"]) < 1e-9
        assert len(softmax) == 25 == len(epoch["test"]["labels"]) and all(abs(sum(row) - 1) < 1e-4 for row in softmax)
        assert service.get(f"{path}/{epoch['epoch']}").json() == epoch
    assert service.get(f"{path}/last").json() == every["items"][-1]
    paged, after = [], 0
    while after is not None:
        page = service.get(f"{path}?limit=2&after={after}").json()
        paged += page["items"]
        after = page["next"]
    assert paged == every["items"]
    assert service.get(f"{path}?after=5").json() == {"items": [], "next": None}
    for n in ("0", "6", "-1", "1.0", "99999999999999999999", "4294967297"):
        problem(service.get(f"{path}/{n}"), 404, "not-found")


def test_parts_of_epochs(service, finished, problem):
    path = f"/v1/jobs/{finished['id']}/epochs"
    every = service.get(path).json()["items"]
    parts = service.get(f"{path}?fields=train,test.accuracy,layers.weights.name,lr,nothing,lr.within").json()
    assert parts["next"] is None and parts["items"] == [
        {"job": finished["id"], "train": e["train"], "test": {"accuracy": e["test"]["accuracy"]},
         "layers": {"weights": {"name": e["layers"]["weights"]["name"]}}, "lr": e["lr"], "epoch": e["epoch"]} for e in every]
    for both in ("test,test.accuracy", "test.accuracy,test"):
        assert service.get(f"{path}?fields={both}&limit=1").json()["items"][0]["test"] == every[0]["test"]
    for wrong in ("", "train,", "Train", "a" * 64, ",".join("abcdefghijklmnopq")):
        problem(service.get(f"{path}?fields={wrong}"), 400, "invalid-field", "?fields")


def test_log(service, finished):
    path = f"/v1/jobs/{finished['id']}/log"
    whole = service.get(path)
    assert whole.headers["Content-Type"] == "text/plain; charset=utf-8" and finished["id"] in whole.text
    end = service.get(f"{path}?limit=200").text
    assert len(end) <= 200 and whole.text.endswith(end) and end


def test_graph(service, finished):
    path = f"/v1/jobs/{finished['id']}/graph"
    graph = service.get(path).json()
    assert graph == service.post("/v1/jobs?dry_run=true", finished["spec"]).json()["graph"]
    dot = service.get(f"{path}?format=dot")
    assert dot.headers["Content-Type"] == "text/vnd.graphviz; charset=utf-8" and dot.text.startswith("digraph ")
    assert dot.text.count("->") == sum(len(n["inputs"]) for n in graph["nodes"])


def test_names_are_text(service, finished):
    assert service.get(f"/v1/jobs/{finished['id']}").json()["name"] == "<b>five</b>"


def test_deleting(daemon, problem):
    job = daemon.submit(epochs=1)
    problem(daemon.delete(f"/v1/jobs/{job['id']}"), 409, "conflict")
    daemon.wait_for(job)
    folder = daemon.data / "jobs" / job["id"]
    assert folder.is_dir()
    assert daemon.delete(f"/v1/jobs/{job['id']}").status_code == 204
    problem(daemon.get(f"/v1/jobs/{job['id']}"), 404, "not-found")
    assert not folder.exists() and daemon.get("/v1/jobs").json()["items"] == []


@pytest.mark.parametrize("headers,status", [
    ({"Origin": "http://example.org"}, 403), ({"Origin": "null"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403), ({"Origin": "http://localhost:1"}, 403), ({"Sec-Fetch-Site": "same-origin"}, 200),
    ({"Sec-Fetch-Site": "none"}, 200), ({"Origin": "own"}, 200),
])
def test_foreign_pages_change_nothing(service, headers, status):
    headers = {k: service.url if v == "own" else v for k, v in headers.items()}
    assert service.post("/v1/jobs?dry_run=true", FAST, headers=headers).status_code == status
    assert service.get("/v1/jobs", headers=headers).status_code == 200


def test_request_ids(service):
    ids = [service.get(path).headers["X-Request-Id"] for path in ("/livez", "/livez", "/nothing", "/v1/jobs")]
    assert len(set(ids)) == 4 and all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", i) for i in ids)


def test_metrics_count(daemon):
    for _ in range(3):
        daemon.get("/livez")
    daemon.request("HEAD", "/livez")
    daemon.get("/nothing")
    job = daemon.submit(LONG)
    text = daemon.get("/metrics").text
    assert 'residuum_http_requests_total{route="/livez",method="GET",code="200"} 3\n' in text
    assert 'residuum_http_requests_total{route="/livez",method="HEAD",code="200"} 1\n' in text
    assert 'residuum_http_requests_total{route="none",method="any",code="404"} 1\n' in text
    assert 'residuum_http_requests_total{route="/v1/jobs",method="POST",code="202"} 1\n' in text
    assert job["id"] not in text
    samples = dict(re.findall(r"^([^#\s]+) (\S+)$", text, re.M))
    assert sum(float(v) for k, v in samples.items() if k.startswith("residuum_jobs{")) == 1
    assert float(samples["residuum_http_request_duration_seconds_count"]) == 6
    assert abs(float(samples["process_resident_memory_bytes"]) - daemon.rss_bytes()) < 4e6
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{(\w+=\"[^\"]*\",?)+\})? [-+.e0-9]+", line), line
