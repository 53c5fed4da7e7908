"""Two hundred bodies that are wrong in many ways: each is refused by a problem document that points at the field, nothing is queued,
and the daemon's memory stays as it was."""
import json

import pytest
from service import BUILD, FAST

JSON = {"Content-Type": "application/json"}
WRONG_VALUES = (None, True, -1, 1.5, 1e308, "", "nonsense", "1", [], {}, [1], {"a": 1})

# Field -> values of WRONG_VALUES that are right after all.
FIELDS = {
    "/dataset": (), "/pad": (), "/epochs": (), "/batch_size": (), "/seed": (), "/precision": (), "/backend": (), "/threads": (),
    "/optimizer/kind": (), "/optimizer/momentum": (), "/optimizer/weight_decay": (), "/optimizer/nesterov": (True,),
    "/schedule/kind": (), "/schedule/lr": (1.5,), "/augment/crop": (), "/augment/flip": (True,),
    "/optimizer/decay_norm_bias": (True,), "/optimizer/clip_norm": (1.5,), "/augment/rotation": (1.5,), "/augment/brightness": (),
    "/augment/contrast": (), "/augment/cutout": (), "/augment/mixup": (1.5,), "/label_smoothing": (), "/average_decay": (),
    "/validation_fraction": (), "/selection/metric": (), "/selection/patience": (), "/selection/min_delta": (1.5,), "/keep_every": (),
    "/from/job": (), "/from/epoch": (), "/from/resume": (True,),
    "/train_limit": (), "/test_limit": (), "/model/width": (1.5,), "/model/norm": (), "/model/init": (),
    "/model/activation": (), "/model/shortcut": (), "/model/depth": ([1],), "/model/kernel": (), "/model/residual": (), "/model/dropout": (),
    "/model/downsampling": (), "/model/norm_groups": (), "/model/dense": ([], [1]), "/model/overrides": ([], [1]),
}
UNKNOWN = {"/epoch": "epochs", "/batchsize": "batch_size", "/model/presett": "preset", "/optimizer/momentun": "momentum",
           "/schedule/lrr": "lr", "/selection/patients": "patience", "/from/epok": "epoch", "/keep_evry": "keep_every",
           "/augment/flp": "flip", "/modell": "model", "/__proto__": None, "/a~1b": None, "/ä": None}
TEXTS = {
    "empty": b"", "blank": b" \n", "half": b'{"dataset": "sha', "comma": b'{"dataset": "shapes",}', "comment": b'{} // no', "two": b"{}{}",
    "word": b"shapes", "string": b'"shapes"', "number": b"1", "null": b"null", "nul byte": b'{"dataset": "a\x00b"}',
    "nul escape": b'{"dataset": "a\\u0000b"}', "bad utf-8": b'{"dataset": "\xff\xfe"}', "cut utf-8": b'{"dataset": "\xc3"}',
    "surrogate": b'{"dataset": "\\ud800"}', "overlong": b'{"dataset": "\xc0\xaf"}', "nan": b'{"dataset": NaN}', "inf": b'{"epochs": Infinity}',
    "huge number": b'{"epochs": 1e999}', "many digits": b'{"epochs": ' + b"9" * 5000 + b"}", "hex": b'{"epochs": 0x10}',
    "leading zero": b'{"epochs": 010}', "twice": b'{"dataset": "shapes", "dataset": "shapes", "model": "lenet5"}',
    "deep array": b'{"a": ' + b"[" * 100000 + b"]" * 100000 + b"}", "deep object": b'{"a":' * 40 + b"1" + b"}" * 40, "open deep": b"[" * 200000,
    "long string": b'{"name": "' + b"x" * 200000 + b'"}', "bom": b"\xef\xbb\xbf{}", "utf-16": '{"dataset": "shapes"}'.encode("utf-16"),
    "escape": b'{"dataset": "\\x"}', "control": b'{"dataset": "a\nb"}', "single quotes": b"{'dataset': 'shapes'}",
}
SHAPES = [  # (changes, status, pointer): well-formed, but it cannot be
    ({"model": "nonsense"}, 400, "/model/preset"), ({"model": "resnet21"}, 400, "/model/preset"), ({"dataset": "mnst"}, 400, "/dataset"),
    ({"batch_size": 4096, "train_limit": 100}, 400, "/batch_size"), ({"train_limit": 64}, 400, "/batch_size"),
    ({"backend": "cudnn"}, 422, "/backend"), ({"backend": "ref", "precision": "bf16"}, 422, "/precision"),
    ({"model": {"preset": "resnet110", "width": 8}, "batch_size": 4096, "train_limit": 0}, 422, "/batch_size"),
    ({"schedule": {"kind": "constant", "lr": 0.1, "gamma": 0.5}}, 400, "/schedule/gamma"),
    ({"schedule": {"kind": "one_cycle", "min_lr": 0.5}}, 400, "/schedule/min_lr"),
    ({"schedule": {"kind": "multi_step"}}, 400, "/schedule/milestones"), ({"selection": {"patience": 2}}, 400, "/selection/patience"),
    ({"schedule": {"kind": "multi_step", "milestones": [2, 1]}}, 400, "/schedule/milestones"),
    ({"optimizer": {"kind": "adam", "nesterov": True}}, 400, "/optimizer/nesterov"), ({"optimizer": {"beta1": 0.5}}, 400, "/optimizer/beta1"),
    ({"from": {"job": "job_0000000000000000000000", "epoch": 1, "resume": True}}, 400, "/from/epoch"),
    ({"from": {"job": "job_0000000000000000000000"}}, 400, "/from/job"), ({"from": {"job": "../x"}}, 400, "/from/job"),
    ({"model": {"width": 1}}, 400, "/model"), ({"model": 3}, 400, "/model"), ({"optimizer": []}, 400, "/optimizer"),
    ({"schedule": "cosine"}, 400, "/schedule"), ({"augment": True}, 400, "/augment"), ({"seed": 2**53}, 400, "/seed"),
    ({"name": "x" * 81}, 400, "/name"), ({"name": 7}, 400, "/name"), ({"epochs": 10**12}, 400, "/epochs"),
    ({"threads": 100000}, 400, "/threads"), ({"model": {"preset": "lenet5", "width": 1000}}, 400, "/model/width"),
]


def with_value(pointer, value):
    """FAST with the value at a pointer of at most two parts."""
    spec = {**FAST, "model": {"preset": "lenet5"}}
    *parents, key = pointer[1:].split("/")
    inner = spec
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[key.replace("~1", "/")] = value
    return spec


def bodies():
    """(name, bytes, statuses, pointer or None)"""
    for name, text in TEXTS.items():
        yield name, text, (400,), None
    yield "1 MB", b'{"name": "' + b"x" * (1 << 20) + b'"}', (413,), None
    for pointer, right in FIELDS.items():
        for value in WRONG_VALUES:
            if not any(value is r or (value == r and type(value) is type(r)) for r in right):
                yield f"{pointer} = {json.dumps(value)}", json.dumps(with_value(pointer, value)).encode(), (400,), pointer
    for pointer in UNKNOWN:
        yield f"unknown {pointer}", json.dumps(with_value(pointer, 1)).encode(), (400,), pointer
    for changes, status, pointer in SHAPES:
        yield json.dumps(changes), json.dumps({**FAST, **changes}).encode(), (status,), pointer
    for key in ("dataset", "model"):
        yield f"no {key}", json.dumps({k: v for k, v in FAST.items() if k != key}).encode(), (400,), f"/{key}"


BODIES = list(bodies())


def test_there_are_enough():
    assert len(BODIES) >= 200 and len({body for _, body, _, _ in BODIES}) == len(BODIES)


@pytest.mark.parametrize("name,body,statuses,pointer", BODIES, ids=[b[0][:60] for b in BODIES])
def test_refused_by_its_name(service, problem, name, body, statuses, pointer):
    answer = service.post("/v1/jobs", data=body, headers=JSON)
    assert answer.status_code in statuses, (name, answer.text[:500])
    document = problem(answer, answer.status_code, pointer=pointer)
    if name.startswith("unknown") and UNKNOWN[pointer]:
        assert f'"{UNKNOWN[pointer]}"' in document["errors"][0]["detail"]


def test_all_wrong_fields_are_named(service, problem):
    spec = {**FAST, "epochs": 0, "seed": -1, "precision": "f16", "nonsense": 1}
    document = problem(service.post("/v1/jobs", spec), 400)
    assert {e["pointer"] for e in document["errors"]} == {"/epochs", "/seed", "/precision", "/nonsense"}
    many = problem(service.post("/v1/jobs", {**FAST, **{f"x{i}": 1 for i in range(500)}}), 400)
    assert len(many["errors"]) == 16 and "500" in many["detail"]


def test_what_is_no_object(service, problem):
    assert problem(service.post("/v1/jobs", []), 400)["detail"] == "the job must be a JSON object, not an array"


def test_a_field_at_a_wrong_place_is_told_the_right_one(service, problem):
    document = problem(service.post("/v1/jobs", {**FAST, "optimizer": {"lr": 0.1}}), 400, "unknown-field", "/optimizer/lr")
    assert document["detail"] == "/optimizer/lr is not a known field here; did you mean /schedule/lr?"


def test_a_preset_of_a_wrong_name_has_a_neighbour(service, problem):
    layers = problem(service.get("/v1/presets/resnet81/layers?dataset=shapes"), 404, "not-found")
    submitted = problem(service.post("/v1/jobs", {**FAST, "model": "resnet81"}), 400, "invalid-field", "/model/preset")
    assert layers["detail"] == submitted["detail"] and "did you mean 'resnet" in layers["detail"]


def test_nothing_was_queued(service):
    page = service.get("/v1/jobs").json()
    assert page["items"] == [] and page["cursor"] == 0


def test_memory_stays_flat(service):
    """The first rounds may fill allocator caches; then nothing may grow with the number of bodies."""
    if BUILD.name == "asan":
        pytest.skip("AddressSanitizer keeps freed memory on purpose; its leak check at the daemon's end looks instead")

    def send_all():
        for _, body, statuses, _ in BODIES:
            assert service.post("/v1/jobs", data=body, headers=JSON).status_code in statuses

    for _ in range(2):
        send_all()
    before = service.rss_bytes()
    for _ in range(4):
        send_all()
    grown = service.rss_bytes() - before
    print(f"grown by {grown} bytes after {4 * len(BODIES)} bodies; RSS {service.rss_bytes()}")
    assert grown < 512 * 1024
