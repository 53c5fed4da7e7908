"""residuum dataset against the real daemon: add, show, sheet, ls, rm; going on after a broken connection."""
import http.server
import subprocess
import threading

import pytest
import requests
from datasets import announce, archive, flowers, send, settled
from kit import CLIENT, LIMIT, environment


@pytest.fixture
def residuum(daemon, tmp_path):
    def run(*args, url=daemon.url):
        return subprocess.run([CLIENT, "dataset", *args], env=environment(RESIDUUM_SERVER=url), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=LIMIT, check=False, cwd=tmp_path)

    return run


def test_from_a_file_to_a_job(residuum, daemon, tmp_path):
    archive(tmp_path)
    added = residuum("add", "flowers.tar", "--wait", "--size", "16,20", "--fit", "pad", "--channels", "1")
    assert added.returncode == 0 and added.stdout == "flowers\n", added.stderr
    shown = residuum("show", "flowers")
    assert shown.returncode == 0 and "1x16x20" in shown.stdout and "daisy (8, 2)" in shown.stdout
    assert "flowers" in residuum("ls").stdout
    saved = residuum("sheet", "flowers")
    assert saved.returncode == 0 and (tmp_path / "flowers.png").read_bytes().startswith(b"\x89PNG")
    job = daemon.submit({"dataset": "flowers", "model": "lenet5", "epochs": 1, "batch_size": 8, "threads": 1})
    daemon.wait_for(job)
    kept = residuum("rm", "flowers")
    assert kept.returncode == 5 and "1 job uses it" in kept.stderr
    daemon.delete(f"/v1/jobs/{job['id']}")
    assert residuum("rm", "flowers").returncode == 0 and residuum("show", "flowers").returncode == 4


def test_the_same_again_names_the_first(residuum, tmp_path):
    archive(tmp_path)
    assert residuum("add", "flowers.tar", "--wait").stdout == "flowers\n"
    again = residuum("add", "flowers.tar", "--wait", "--name", "other")
    assert again.returncode == 0 and again.stdout == "flowers\n" and "the same" in again.stderr


def test_a_failed_import_names_the_entry(residuum, tmp_path):
    archive(tmp_path, {**flowers(2), "../escape.png": b"x"}, "bad.tar")
    failed = residuum("add", "bad.tar", "--wait")
    assert failed.returncode == 1 and "../escape.png" in failed.stderr and failed.stdout == ""


def test_what_was_sent_is_not_sent_again(residuum, daemon, tmp_path):
    data = archive(tmp_path)
    dataset = announce(daemon, data)
    send(daemon, dataset, data, 0, 100000)
    assert residuum("add", "flowers.tar", "--wait").returncode == 0 and settled(daemon, dataset)["state"] == "ready"


def test_going_on_after_a_broken_connection(residuum, daemon, tmp_path):
    """A server in between takes a part of the first PATCH and hangs up."""
    data, seen = archive(tmp_path), []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def relay(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.command == "PATCH":
                seen.append(self.path)
                if len(seen) == 1:
                    requests.patch(daemon.url + self.path, data=body[:40000], headers={"Content-Type": "application/octet-stream"}, timeout=30)
                    self.close_connection = True
                    self.connection.close()
                    return
            kept = {name: self.headers[name] for name in ("Content-Type",) if name in self.headers}
            answer = requests.request(self.command, daemon.url + self.path, data=body, headers=kept, timeout=30)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PATCH = relay

        def log_message(self, *args):  # pylint: disable=arguments-differ
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever).start()
        try:
            added = residuum("add", "flowers.tar", "--wait", url=f"http://127.0.0.1:{proxy.server_address[1]}")
        finally:
            proxy.shutdown()
    assert added.returncode == 0 and "Going on at byte 40000" in added.stderr, added.stderr
    assert [path.split("=")[1] for path in seen] == ["0", "40000"] and len(data) > 40000


def test_wrong_use(residuum, tmp_path):
    archive(tmp_path)
    for args, code, text in ((("ad", "x"), 2, "did you mean add"), (("add",), 2, "residuum dataset add FILE"), (("add", "no.tar"), 4, "no.tar"),
                             (("add", "."), 2, "is a directory"), (("show", "a/b"), 2, "cannot be the name"), (("ls", "x"), 2, "residuum dataset ls"),
                             (("add", "flowers.tar", "--size", "7"), 2, "/options/size"), (("add", "flowers.tar", "--name", "x" * 40), 2, "/name")):
        result = residuum(*args)
        assert result.returncode == code and text in result.stderr, (args, result.stderr)
