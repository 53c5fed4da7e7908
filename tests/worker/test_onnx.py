"""The network as ONNX: what onnxruntime computes with the files against backend-ref, and what the files say of themselves. The networks
are all presets, options of layers and 50 random graphs (tests/ops/onnx_cases.c), and the weights of a finished job."""
import json
import subprocess

import numpy
import pytest
from harness import BUILD, LIMIT, ROOT, read_safetensors
from test_inspect import Job, failure

TOLERANCE = 1e-4  # of the largest logit, or of 1 if all are smaller
CASES = BUILD / "tests" / "ops" / "onnx_cases"
RUNNER = ROOT / "tests" / "worker" / "onnx_run.mjs"


def run_onnx(folder):
    """Runs all models of a folder; {name: (logits, softmax, what stands behind the images in the .bin)}."""
    done = subprocess.run(["node", RUNNER, folder], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for path in sorted(folder.glob("*.json")):
        card = json.loads(path.read_text())
        logits, softmax = numpy.fromfile(path.with_suffix(".out"), "<f4").reshape(2, card["shape"][0], card["classes"])
        right = numpy.fromfile(path.with_suffix(".bin"), "<f4")[numpy.prod(card["shape"]):].reshape(-1, card["classes"])
        found[path.stem] = logits, softmax, right
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("onnx")
    subprocess.run([CASES, made], check=True, timeout=LIMIT)
    return made


def test_runtime_agrees(folder):
    found = run_onnx(folder)
    assert len(found) > 70
    for name, (logits, softmax, right) in found.items():
        assert logits.shape == right.shape, name
        assert numpy.abs(logits - right).max() <= TOLERANCE * max(1, numpy.abs(right).max()), name
        whole = numpy.exp(logits.astype(float) - logits.max(1, keepdims=True))
        assert numpy.abs(softmax - whole / whole.sum(1, keepdims=True)).max() <= TOLERANCE, name


def test_checker(folder):
    onnx = pytest.importorskip("onnx", reason="python3-onnx is not installed")
    models = sorted(folder.glob("*.onnx"))
    assert len(models) > 70
    for path in models:
        onnx.checker.check_model(onnx.load(str(path)), full_check=True)


# --- a finished job's network ---


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return Job(tmp_path_factory.mktemp("job") / "job", model={"preset": "resnet8", "width": 0.25}, pad=2)


def export(job, path, normalize):
    answer = job.ask({"onnx": {"out": str(path), "normalize": normalize}})
    assert answer == {"epoch": 1, "bytes": path.stat().st_size}


@pytest.mark.parametrize("normalize", [False, True])
def test_job(job, tmp_path, normalize):
    export(job, tmp_path / "net.onnx", normalize)
    images = job.ask({"images": {"first": 0, "n": 25}})
    pixels = numpy.array([item["pixels"] for item in images["items"]], numpy.float32)
    if not normalize:
        mean, deviation = (numpy.array(job.metadata[key].split(), float)[:, None, None] for key in ("mean", "deviation"))
        pixels = (numpy.pad(pixels, ((0, 0), (0, 0), (2, 2), (2, 2))) / 255 - mean) / deviation
    pixels.astype("<f4").tofile(tmp_path / "net.bin")
    (tmp_path / "net.json").write_text(json.dumps({"shape": pixels.shape, "classes": 10}))
    _, softmax, _ = run_onnx(tmp_path)["net"]
    _, tensors = read_safetensors(job.weights.parent.parent / "predictions.safetensors")
    right = numpy.frombuffer(tensors["softmax"][2], "<f4").reshape(tensors["softmax"][1])[:25]
    assert numpy.abs(softmax - right).max() <= TOLERANCE


def test_notes(job, tmp_path):
    onnx = pytest.importorskip("onnx", reason="python3-onnx is not installed")
    export(job, tmp_path / "net.onnx", True)
    model = onnx.load(str(tmp_path / "net.onnx"))
    notes = {note.key: note.value for note in model.metadata_props}
    assert {key: notes[key] for key in ("job", "epoch", "pad", "mean", "deviation")} == {
        "job": "job_test", "epoch": "1", "pad": "2", "mean": job.metadata["mean"], "deviation": job.metadata["deviation"]}
    assert len(json.loads(notes["classes"])) == 10 and "0 to 255" in notes["input"]
    values = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in (*model.graph.input, *model.graph.output)}
    assert values == {"image": [3, 32, 32], "logits": [10], "softmax": [10]}
    assert {v.name for v in model.graph.initializer} >= set(job.tensors)


def test_refusals(job, tmp_path):
    failure(job.ask({"onnx": {"normalize": True}}), "invalid-request", "", "\"out\"")
    failure(job.ask({"onnx": {"out": str(tmp_path / "no" / "net.onnx")}}), "input-output", "", "cannot create")
    failure(job.ask({"onnx": {"out": "/dev/full"}}), "storage-full", "", "cannot write")
