"""A scripted stand-in for residuumd: answers what a test tells it to, and keeps what it was asked. For faults that the real daemon
does not have: cut connections, refusals, hostile text."""
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HELD_FOR = 60  # seconds after which a held connection ends even if a test forgot it


class Answer:
    """What one request gets. cut: the connection ends without an answer. hold: a stream that stays open until Fake.release()."""

    def __init__(self, body=b"", status=200, kind="application/json", headers=None, cut=False, hold=False):
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode() if not isinstance(body, str) else body.encode()
        self.status, self.kind, self.headers, self.cut, self.hold = status, kind, headers or {}, cut, hold


def problem(status, name, detail="", errors=(), title="Refused", **headers):
    body = {"type": f"/problems/{name}", "title": title, "status": status, "detail": detail, "instance": "req-1", "errors": list(errors)}
    return Answer(body, status, "application/problem+json", {k.replace("_", "-"): v for k, v in headers.items()})


def event(number, kind, data):
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


def stream(*parts, hold=True):
    return Answer("".join((": ok\n\nretry: 1\n\n", *parts)), kind="text/event-stream", hold=hold)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.fake.next_answer(self.command, self.path, dict(self.headers), body)
        self.close_connection = True
        if answer.cut:
            return
        self.send_response_only(answer.status)
        for name, value in {"Content-Type": answer.kind, **answer.headers}.items():
            self.send_header(name, value)
        if answer.kind != "text/event-stream":
            self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)
        self.wfile.flush()
        if answer.hold:
            self.server.fake.released.wait(HELD_FOR)

    do_GET = do_POST = do_DELETE = answer


class Fake:
    """answers[(method, path without query)] is a list: each request takes the first, and the last one stays."""

    def __init__(self):
        self.answers, self.asked, self.lock, self.released = {}, [], threading.Lock(), threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.fake = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def on(self, method, path, *answers):
        self.answers[method, path] = [a if isinstance(a, Answer) else Answer(a) for a in answers]

    def next_answer(self, method, path, headers, body):
        with self.lock:
            self.asked.append((method, path, headers, body))
            queue = self.answers.get((method, path.partition("?")[0]))
            if queue is None:
                return problem(404, "not-found", f"nothing at {path}")
            return queue.pop(0) if len(queue) > 1 else queue[0]

    def requests(self, method, path):
        with self.lock:
            return [a for a in self.asked if a[0] == method and a[1].partition("?")[0] == path]

    def release(self):
        self.released.set()

    def close(self):
        self.release()
        self.server.shutdown()
        self.server.server_close()
