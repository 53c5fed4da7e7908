"""Bytes that no client library sends: ambiguous framing, foreign hosts, broken targets, floods, drips and pipelines."""
import json
import socket
import time

import pytest
from service import FAST, SLOWER, until

BODY = json.dumps(FAST)


def connect(service):
    name, port = service.host.rsplit(":", 1)
    return socket.create_connection((name, int(port)), timeout=20 * SLOWER)


def read_all(link):
    data = b""
    while True:
        try:
            part = link.recv(65536)
        except ConnectionResetError:
            return data
        if not part:
            return data
        data += part


def ask(service, text):
    """Sends bytes and reads until the server closes."""
    with connect(service) as link:
        link.sendall(text if isinstance(text, bytes) else text.encode())
        return read_all(link)


def request(service, line="GET /v1/version HTTP/1.1", *headers, host=True, body="", keep=False):
    """The text of a request; keep: more follow on the connection."""
    lines = [line, *([f"Host: {service.host}"] if host else []), *headers, *([] if keep else ["Connection: close"])]
    return "\r\n".join(lines) + "\r\n\r\n" + body


def parts(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body


def refused(answer):
    """One 400 with a problem document that closes the connection; what was pipelined behind it is not answered."""
    status, head, body = parts(answer)
    assert status == 400 and "connection: close" in head, answer[:500]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert json.loads(body)["status"] == 400


SMUGGLED = "GET /v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = "POST /v1/jobs HTTP/1.1"
JSON = "Content-Type: application/json"


@pytest.mark.parametrize("headers", [
    ("Content-Length: 3", "Content-Length: 10"),
    ("Content-Length: 3", "Content-Length: 3"),
    ("Content-Length: 3", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: xchunked",),
    ("Transfer-Encoding: gzip, chunked",),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
], ids=lambda h: ", ".join(h))
def test_ambiguous_framing(service, headers):
    """Either our refusal or the library's own; never two answers, never a job."""
    before = service.get("/v1/jobs").json()["cursor"]
    answer = ask(service, request(service, POST, JSON, *headers, keep=True, body="0\r\n\r\n" + SMUGGLED))
    status, _, _ = parts(answer)
    assert status == 400 and answer.count(b"HTTP/1.1 ") == 1, answer[:500]
    if b"application/problem+json" in answer:
        refused(answer)
    assert service.get("/v1/jobs").json()["cursor"] == before


@pytest.mark.parametrize("host", ["example.org", "example.org:{port}", "localhost:65536", "127.0.0.1.example.org:{port}", "127.0.0.2:{port}",
                                  "[::2]:{port}", "localhost:{port}x", "localhost:", "", "[::1", "192.168.0.1"])
def test_foreign_host(service, host):
    port = service.host.rsplit(":", 1)[1]
    refused(ask(service, request(service, "GET /v1/jobs HTTP/1.1", f"Host: {host.format(port=port)}", host=False) + SMUGGLED))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:{port}", "localhost:1", "127.0.0.1", "127.0.0.1:{port}", "[::1]", "[::1]:{port}"])
def test_own_host(service, host):
    port = service.host.rsplit(":", 1)[1]
    answer = ask(service, request(service, "GET /v1/version HTTP/1.1", f"Host: {host.format(port=port)}", host=False))
    assert parts(answer)[0] == 200


def test_no_host_and_several(service):
    for text in (request(service, host=False), "GET /v1/version HTTP/1.0\r\n\r\n"):
        assert parts(ask(service, text))[0] == 400
    refused(ask(service, request(service, "GET /v1/version HTTP/1.1", f"Host: {service.host}")))


@pytest.mark.parametrize("target", ["/v1/jobs%00", "/app.js%00.txt", "/v1/jobs?state=%00", "/v1/jobs%0", "/v1/jobs%zz", "/v1/jobs?x=%",
                                    "/%ff", "/v1/jobs?state=%ff", "/v1%2Fjobs", "/" + "a" * 2048, "/v1/jobs?" + "&".join("abcdefghijk"),
                                    "/v1/jobs?limit=1&limit=1", "http://localhost/v1/jobs", "*", "/v1/jobs#top"])
def test_broken_target(service, target):
    answer = ask(service, request(service, f"GET {target} HTTP/1.1"))
    status, head, body = parts(answer)
    assert status == 400 and "application/problem+json" in head, answer[:300]
    assert json.loads(body)["type"] == "/problems/invalid-request"


@pytest.mark.parametrize("target", ["/%2e%2e/%2e%2e/etc/passwd", "/../etc/passwd", "/src/../index.html", "//", "/v1/jobs/", "/V1/jobs", "/."])
def test_no_way_out_of_the_table(service, target):
    status, _, body = parts(ask(service, request(service, f"GET {target} HTTP/1.1")))
    assert status == 404 and json.loads(body)["type"] == "/problems/not-found"


def test_escapes_mean_the_same(service):
    assert parts(ask(service, request(service, "GET /v1/%76ersion HTTP/1.1")))[0] == 200
    assert parts(ask(service, request(service, "GET /v1/jobs?st%61te=queued%2Crunning HTTP/1.1")))[0] == 200


def test_header_flood(service):
    answer = ask(service, request(service, "GET /v1/version HTTP/1.1", "X-Long: " + "a" * 40000))
    assert not answer or parts(answer)[0] in (400, 413, 431)


def test_pipeline_keeps_its_order(service):
    count = 5
    answer = ask(service, request(service, keep=True) + request(service, "GET /livez HTTP/1.1", keep=True) * count + request(service, "GET /nothing HTTP/1.1"))
    statuses = [int(piece.split()[0]) for piece in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200] * (count + 1) + [404]


def test_pipelined_submits_are_all_answered(service):
    post = request(service, POST, JSON, f"Content-Length: {len(BODY)}", body=BODY, keep=True)
    answer = ask(service, post * 3 + request(service))
    jobs = [piece.split(b"\r\nLocation: ")[1].split(b"\r\n")[0].decode() for piece in answer.split(b"HTTP/1.1 202 ")[1:]]
    assert len(set(jobs)) == 3, answer
    assert answer.endswith(service.get("/v1/version").content)
    for path in jobs:
        service.post(path + "/cancel")
    for path in jobs:
        service.wait_for(path.rsplit("/", 1)[1], "cancelled", "succeeded")


def test_chunked_body(service):
    half = len(BODY) // 2
    chunks = "".join(f"{len(part):x}\r\n{part}\r\n" for part in (BODY[:half], BODY[half:])) + "0\r\n\r\n"
    answer = ask(service, request(service, "POST /v1/jobs?dry_run=true HTTP/1.1", JSON, "Transfer-Encoding: chunked", body=chunks))
    assert parts(answer)[0] == 200


def test_early_413(service):
    """30 MB are announced; the refusal comes before any of them is asked for, with and without Expect."""
    for extra in ((), ("Expect: 100-continue",)):
        with connect(service) as link:
            link.sendall(request(service, POST, JSON, "Content-Length: 31457280", *extra).encode())
            answer = read_all(link)
        status, head, _ = parts(answer)
        assert status == 413 and "connection: close" in head and b"100 Continue" not in answer


def test_chunked_413_and_endless_body(service):
    """Without a declared length the rest is not kept: up to some MB the client gets its 413, beyond the connection is cut."""
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    head = request(service, POST, JSON, "Transfer-Encoding: chunked").encode()
    assert parts(ask(service, head + chunk * 6 + b"0\r\n\r\n"))[0] == 413
    before = service.rss_bytes()
    with connect(service) as link:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            link.sendall(head)
            for _ in range(1000):
                link.sendall(chunk)
    assert service.rss_bytes() - before < 4 << 20


def test_body_where_none_belongs(service):
    for line in ("GET /v1/jobs HTTP/1.1", "DELETE /v1/jobs/x HTTP/1.1", "POST /v1/jobs/x/cancel HTTP/1.1"):
        refused(ask(service, request(service, line, JSON, "Content-Length: 2", body="{}" + SMUGGLED)))


@pytest.mark.parametrize("kind,status", [
    ("application/json", 200), ("application/json;charset=utf-8", 200), ('Application/JSON; Charset="UTF-8"', 200),
    ("application/json; charset=latin1", 415), ("application/jsonx", 415), ("text/json", 415), ("application/json; q=1", 415), (None, 415),
])
def test_media_types(service, kind, status):
    headers = [f"Content-Type: {kind}"] if kind else []
    text = request(service, "POST /v1/jobs?dry_run=true HTTP/1.1", f"Content-Length: {len(BODY)}", *headers, body=BODY)
    assert parts(ask(service, text))[0] == status


def test_methods(service, contract):
    """Every path: HEAD where GET is, 405 with Allow for the rest."""
    for template, item in contract.document["paths"].items():
        path = template.replace("{id}", "job_0000000000000000000000").replace("{n}", "1").replace("{file}", "style.css")
        known = [m.upper() for m in ("get", "post", "patch", "delete") if m in item]
        allowed = sorted(known + (["HEAD"] if "GET" in known else []))
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
            if method in allowed:
                continue
            status, head, _ = parts(ask(service, request(service, f"{method} {path} HTTP/1.1")))
            allow = head.split("\r\nallow: ")[1].split("\r\n")[0].upper().split(", ") if status == 405 else None
            assert status == 405 and sorted(allow) == allowed, (method, path, status)
    assert parts(ask(service, request(service, "PUT /nothing HTTP/1.1")))[0] == 404


def test_head_has_no_body(service, contract):
    for template, item in contract.document["paths"].items():
        if "get" not in item or template == "/v1/events":
            continue
        path = template.replace("{id}", "job_0000000000000000000000").replace("{n}", "1").replace("{file}", "style.css")
        head_status, head, body = parts(ask(service, request(service, f"HEAD {path} HTTP/1.1")))
        get_status, other, content = parts(ask(service, request(service, f"GET {path} HTTP/1.1")))
        assert head_status == get_status and body == b"" and content != b"", path
        assert head.split("content-type: ")[1].split("\r\n")[0] == other.split("content-type: ")[1].split("\r\n")[0]


def test_head_of_a_stream_ends_the_connection(service):
    """libmicrohttpd sends the end of a chunked body behind it, with which the next answer would seem to begin."""
    status, head, _ = parts(ask(service, request(service, "HEAD /v1/events HTTP/1.1", keep=True)))
    assert status == 200 and "\r\nconnection: close" in head


def test_security_headers_everywhere(service):
    for path in ("/", "/livez", "/v1/jobs", "/nothing", "/metrics"):
        headers = service.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == ("no-cache" if path == "/" else "no-store")


class Drip:
    """A connection on which one more piece arrives with every call, until the server has enough of it."""

    def __init__(self, service, text, piece):
        self.link, self.piece, self.sent, self.answer, self.ended = connect(service), piece, 0, b"", None
        self.begin = time.monotonic()
        self.link.sendall(text.encode())
        self.link.settimeout(0.01)

    def go_on(self):
        """Returns whether the connection has ended."""
        try:
            if self.ended is None and not self.answer:
                self.link.sendall(self.piece)
                self.sent += len(self.piece)
            part = self.link.recv(65536)
            self.answer += part
            self.ended = self.ended or (None if part else time.monotonic() - self.begin)
        except TimeoutError:
            pass
        except (ConnectionResetError, BrokenPipeError):
            self.ended = self.ended or time.monotonic() - self.begin
        return self.ended is not None


def reaped(service):
    return int(service.get("/metrics").text.split("\nresiduum_connections_reaped_total ")[1].split("\n")[0])


def test_slow_requests_are_cut(service):
    """A byte now and then keeps an inactivity timeout happy; deadlines of headers (10 s) and bodies (1 KiB/s over 30 s) do not
    care. A slow but honest body gets its answer."""
    before, size = reaped(service), 80000
    body = request(service, "POST /v1/jobs?dry_run=true HTTP/1.1", JSON, f"Content-Length: {size}")
    headers = Drip(service, "GET /v1/version HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"a")
    silent = Drip(service, "", b"")
    slow = Drip(service, body, b" ")
    honest = Drip(service, body, b" " * 700)
    drips = [headers, silent, slow, honest]
    due = 0.0

    def all_ended():
        nonlocal due
        if time.monotonic() < due:
            return False
        due = time.monotonic() + 0.3
        return all([drip.go_on() for drip in drips])

    until(all_ended, 60, "the slow connections to end")
    assert 9 < headers.ended < 15 * SLOWER and 9 < silent.ended < 15 * SLOWER and headers.sent > 5
    assert 29 < slow.ended < 40 * SLOWER and slow.sent > 20 and slow.answer == b""
    assert honest.ended > 30 and parts(honest.answer)[0] == 400 and reaped(service) == before + 3
