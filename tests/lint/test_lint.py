"""The lints can fail: each is shown one bad file and must name it."""
import shutil
import subprocess
from pathlib import Path

import pytest

LINT = Path(__file__).resolve().parent
ROOT = LINT.parent.parent


@pytest.fixture
def tree(tmp_path):
    """A small product tree with the real README.md."""
    shutil.copy(ROOT / "README.md", tmp_path)
    for folder in ("common", "client", "server/store", "server/graph", "server/api", "server/backend/ref"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "common/err.h").write_text("#include <stddef.h>\n")
    return tmp_path


def lint(script, *arguments):
    done = subprocess.run([LINT / script, *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


GOOD_INCLUDES = [
    ("server/store/a.c", '"common/err.h"'),
    ("server/store/a.c", "<sqlite3.h>"),
    ("server/store/a.c", '"server/store/private.h"'),
    ("server/api/a.c", '"server/store/store.h"'),
    ("server/backend/ref/a.c", '"server/backend/backend.h"'),
]
BAD_INCLUDES = [
    ("common/a.c", '"server/store/store.h"', "floor ground may not include floor store"),
    ("server/store/a.c", '"server/api/api.h"', "floor store may not include floor api"),
    ("server/api/a.c", '"server/store/private.h"', "is not the door of floor store"),
    ("server/api/a.c", "<sqlite3.h>", "floor api does not use sqlite3"),
    ("server/backend/ref/a.c", "<jansson.h>", "floor backend ref does not use jansson"),
    ("server/backend/ref/a.c", '"server/backend/onednn/compat.h"', "may not include floor backend onednn"),
    ("client/a.c", '"server/graph/graph.h"', "floor client may not include floor graph"),
    ("client/a.c", '"err.h"', "is not a path from the project's root"),
    ("client/a.c", "<zip.h>", "is no known header"),
    ("server/new/a.c", "<stdio.h>", "no row of the floor table"),
]


@pytest.mark.parametrize("path,header", GOOD_INCLUDES)
def test_permitted_include(tree, path, header):
    (tree / path).write_text(f"#include {header}\n")
    status, said = lint("check_includes", tree)
    assert status == 0, said


@pytest.mark.parametrize("path,header,complaint", BAD_INCLUDES)
def test_forbidden_include(tree, path, header, complaint):
    (tree / path).parent.mkdir(exist_ok=True)
    (tree / path).write_text(f"#include {header}\n")
    status, said = lint("check_includes", tree)
    assert status == 1 and path in said and complaint in said


LONG_FUNCTIONS = {
    "a.c": "static int f(int a)\n{\n" + "    a++;\n" * 99 + "    return a;\n}\n",
    "b.c": "static int f(int a) {\n" + "    a++;\n" * 99 + "    return a;\n}\n",
    "a.py": "def f(a):\n" + "    a += 1\n" * 100,
    "a.js": "export function f(a) {\n" + "    a += 1;\n" * 99 + "}\n",
    "b.mjs": "const f = (a) => {\n" + "    a += 1;\n" * 99 + "};\n",
    "a.sh": "f() {\n" + "    echo\n" * 99 + "}\n",
}


@pytest.mark.parametrize("name", LONG_FUNCTIONS)
def test_long_function(tree, name):
    (tree / "common" / name).write_text(LONG_FUNCTIONS[name])
    status, said = lint("check_sizes", tree)
    assert status == 1 and f"common/{name}" in said and "100 at most" in said


def test_long_file(tree):
    (tree / "common/a.c").write_text("int a;\n" * 801)
    status, said = lint("check_sizes", tree)
    assert status == 1 and "801 lines" in said


def test_factory_counts_its_own_lines(tree):
    """Twenty functions of six lines inside one are no long function; a hundred lines of its own are."""
    inner = "".join(f"  function f{i}() {{\n" + "    a();\n" * 4 + "  }\n" for i in range(20))
    (tree / "common/a.js").write_text("export function make() {\n" + inner + "}\n")
    assert lint("check_sizes", tree)[0] == 0
    (tree / "common/a.js").write_text("export function make() {\n" + inner + "  a();\n" * 99 + "}\n")
    status, said = lint("check_sizes", tree)
    assert status == 1 and "a function of 101 lines" in said


def test_short_functions_pass(tree):
    for name, text in LONG_FUNCTIONS.items():
        (tree / "common" / name).write_text("\n".join(line for i, line in enumerate(text.splitlines()) if i < 2 or i > 50) + "\n")
    status, said = lint("check_sizes", tree)
    assert status == 0, said


def test_wrong_openapi(tmp_path):
    """A path parameter that is not declared, and an answer without a description."""
    file = tmp_path / "openapi.yaml"
    file.write_text("openapi: 3.1.0\ninfo: {title: t, version: '1'}\npaths:\n  /a/{id}:\n    get: {responses: {'200': {}}}\n")
    status, said = lint("check_openapi.mjs", file)
    assert status == 1 and "id" in said and "description" in said


PTXAS = """ptxas info    : Compiling entry function 'residuum_add' for 'sm_90'
ptxas info    : Function properties for residuum_add
    0 bytes stack frame, {spilled} bytes spill stores, 0 bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers, {shared} bytes smem, 408 bytes cmem[0]
"""


@pytest.mark.parametrize("figures,complaint", [
    ({"spilled": 8}, "8 bytes of spilled registers"),
    ({"registers": 129}, "129 registers; 128 at most"),
    ({"shared": 50000}, "50000 bytes of shared memory"),
    ({}, "residuum_mask was not built for sm_90"),
])
def test_ptxas_complaint(tmp_path, monkeypatch, figures, complaint):
    (tmp_path / "gen").mkdir()
    (tmp_path / "gen/kernels.ptxas").write_text(PTXAS.format(**{"spilled": 0, "registers": 40, "shared": 2048} | figures))
    monkeypatch.setenv("RESIDUUM_BUILD", str(tmp_path))
    status, said = lint("check_kernels")
    assert status == 1 and complaint in said
    assert "residuum_add was not built" not in said
