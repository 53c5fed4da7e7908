"""The dashboard's files: types, validators, the compressed form, and what is not served."""
import gzip
import socket
import subprocess
from pathlib import Path

import pytest
from service import BUILD, SLOWER

TEXT = "export const answer = 42;\n" * 200


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "sub/deep").mkdir(parents=True)
    files = {"index.html": "<!doctype html><title>x</title>", "app.js": TEXT, "sub/deep/style.css": "a{}", "app-1f2e3d4c.js": TEXT, "logo.svg": "<svg/>",
             "only.gz": "not a second form", ".secret": "x", "a b ü.txt": "space", "empty.json": ""}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "app.js.gz").write_bytes(gzip.compress(TEXT.encode()))
    return folder


@pytest.fixture
def served(make_daemon, site):  # pylint: disable=redefined-outer-name
    return make_daemon("--web", site)


def test_types_and_bytes(served):
    for path, kind, size in (("/", "text/html; charset=utf-8", 31), ("/index.html", "text/html; charset=utf-8", 31),
                             ("/sub/deep/style.css", "text/css; charset=utf-8", 3), ("/logo.svg", "image/svg+xml", 6),
                             ("/only.gz", "application/octet-stream", 17), ("/a%20b%20%C3%BC.txt", "text/plain; charset=utf-8", 5),
                             ("/empty.json", "application/json", 0)):
        answer = served.get(path)
        assert (answer.status_code, answer.headers["Content-Type"], len(answer.content)) == (200, kind, size), path


def test_what_is_not_served(served):
    for path in ("/.secret", "/app.js.gz", "/sub", "/sub/", "/sub/deep", "/index.htm", "/%2e%2e/site/app.js", "/Index.html"):
        assert served.get(path).status_code == 404, path


def test_compressed_form(served):
    plain = served.get("/app.js", headers={"Accept-Encoding": "identity"})
    small = served.get("/app.js", headers={"Accept-Encoding": "br;q=1, gzip"})
    assert plain.text == small.text == TEXT and int(small.headers["Content-Length"]) < len(TEXT) / 4
    assert small.headers["Content-Encoding"] == "gzip" and "Content-Encoding" not in plain.headers
    assert small.headers["ETag"] != plain.headers["ETag"]
    assert small.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    for refused in ("gzip;q=0", "xgzip", "deflate", ""):
        assert "Content-Encoding" not in served.get("/app.js", headers={"Accept-Encoding": refused}).headers, refused
    assert "Vary" not in served.get("/logo.svg").headers


def test_validators(served):
    etag = served.get("/logo.svg").headers["ETag"]
    for value, status in ((etag, 304), (f"W/{etag}", 304), (f'"x", {etag}', 304), ("*", 304), ('"x"', 200), (etag.strip('"'), 200)):
        answer = served.get("/logo.svg", headers={"If-None-Match": value})
        assert answer.status_code == status and answer.headers["ETag"] == etag, value
        assert len(answer.content) == (0 if status == 304 else 6)
    assert served.get("/app.js").headers["Cache-Control"] == "no-cache"
    assert served.get("/app-1f2e3d4c.js").headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_files_are_read_at_start_only(make_daemon, tmp_path):
    page = tmp_path / "web"
    page.mkdir()
    (page / "index.html").write_text("one", encoding="utf-8")
    daemon = make_daemon("--web", page)
    (page / "index.html").write_text("two", encoding="utf-8")
    assert daemon.get("/").text == "one"


def test_without_a_page(make_daemon):
    daemon = make_daemon("--web", "/nonexistent")
    assert daemon.get("/").status_code == 404 and daemon.get("/v1/version").status_code == 200
    assert "no-dashboard" in daemon.log()


@pytest.mark.parametrize("wrong", ["8080", "localhost", "127.0.0.1:99999", "example.org:80", "0.0.0.0:0", "::1:8080", "[127.0.0.1:80", ":80"])
def test_addresses_that_cannot_be(tmp_path, wrong):
    """Refused at once with a sentence that shows the address; exit code 2."""
    argv = [BUILD / "residuumd", "--data", tmp_path / "data", "--listen", wrong]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30 * SLOWER, check=False)
    assert done.returncode == 2 and wrong in done.stderr and done.stdout == ""


def test_taken_address(make_daemon, tmp_path):
    daemon = make_daemon()
    argv = [BUILD / "residuumd", "--data", tmp_path / "other", "--listen", daemon.host]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30 * SLOWER, check=False)
    assert done.returncode == 6 and "Address already in use" in done.stderr


def test_ipv6(make_daemon):
    addresses = Path("/proc/net/if_inet6")
    if not addresses.exists() or "0" * 31 + "1 " not in addresses.read_text(encoding="ascii"):
        pytest.skip("this machine has no IPv6 loopback address")
    six = make_daemon(listen="[::1]:0")
    assert six.url.startswith("http://[::1]:") and six.get("/livez").text == "ok\n"


def test_remote_needs_a_word(make_daemon):
    """With it, address literals and the machine's name are this server too; other names are not."""
    daemon = make_daemon("--allow-remote", listen="0.0.0.0:0")
    port = daemon.host.rsplit(":", 1)[1]
    for host, status in ((f"192.168.1.5:{port}", 200), (f"{socket.gethostname()}:{port}", 200), (f"localhost:{port}", 200), ("example.org", 400)):
        assert daemon.get("/livez", headers={"Host": host}).status_code == status, host
