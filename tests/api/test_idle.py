"""What the daemon costs while nothing happens, and how soon it is ready. Processor time is what the kernel counted, not a timing."""
import time

import pytest
from service import BUILD

pytestmark = pytest.mark.skipif(BUILD.name == "asan", reason="AddressSanitizer takes memory and time of its own")
WINDOW_S = 5


def settle(daemon):
    daemon.wait_for_probe()
    daemon.get("/v1/jobs")


def used_in_a_window(daemon):
    """Seconds of processor in WINDOW_S seconds. The one wait of these tests that is for time to pass."""
    before, begin = daemon.cpu_seconds(), time.monotonic()
    time.sleep(WINDOW_S)
    return (daemon.cpu_seconds() - before) / (time.monotonic() - begin)


def test_idle(daemon):
    settle(daemon)
    share, rss = used_in_a_window(daemon), daemon.rss_bytes()
    print(f"idle: {share:.4f} of a core, RSS {rss / 1e6:.1f} MB")
    assert share < 0.005 and rss < 20e6


def test_idle_with_a_page_open(daemon):
    """A keep-alive connection and ten waiting streams."""
    settle(daemon)
    streams = [daemon.stream().wait(lambda s: s.comments) for _ in range(10)]
    share, rss = used_in_a_window(daemon), daemon.rss_bytes()
    print(f"idle with 10 streams: {share:.4f} of a core, RSS {rss / 1e6:.1f} MB")
    for stream in streams:
        stream.close()
    assert share < 0.005 and rss < 20e6


def test_ready_soon(make_daemon):
    """From exec to the first answer of /readyz. The promise is 300 ms on a machine that is not busy; the bound here is generous."""
    best = None
    for _ in range(5):
        begin = time.monotonic()
        daemon = make_daemon()
        assert daemon.get("/readyz").json()["ready"]
        seconds = time.monotonic() - begin
        best = seconds if best is None else min(best, seconds)
    print(f"ready within {best * 1000:.0f} ms (best of 5)")
    assert best < 0.6
