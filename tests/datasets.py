"""What tests of data sets share: small archives, and the way of one into the daemon."""
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "worker"))
from import_rig import flowers, tar  # noqa: E402  pylint: disable=wrong-import-position
from service import until  # noqa: E402  pylint: disable=wrong-import-position

BYTES = {"Content-Type": "application/octet-stream"}
TRAIN = {"model": "lenet5", "epochs": 1, "batch_size": 8, "threads": 1}


def archive(folder, files=None, name="flowers.tar"):
    """The bytes of a tar of files (default: three classes of flowers)."""
    return tar(folder / name, files or flowers(8, 32)).read_bytes()


def announcement(data, name="flowers", **changes):
    return {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changes}


def announce(daemon, data, name="flowers", **changes):
    answer = daemon.post("/v1/datasets", announcement(data, name, **changes))
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def send(daemon, dataset, data, offset=0, end=None):
    return daemon.request("PATCH", f"/v1/datasets/{dataset['id']}/content?offset={offset}", data=data[offset:end], headers=BYTES)


def show(daemon, dataset):
    answer = daemon.get(f"/v1/datasets/{dataset['id']}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def settled(daemon, dataset, seconds=60):
    """The data set once its import has ended."""
    return until(lambda: (found := show(daemon, dataset))["state"] in ("ready", "failed") and found, seconds, "the end of an import")


def add(daemon, data, name="flowers", **changes):
    """Announces, sends, waits."""
    dataset = announce(daemon, data, name, **changes)
    answer = send(daemon, dataset, data)
    assert answer.status_code == 200, answer.text
    return settled(daemon, dataset)
