"""Reads the two tables of README.md that say how the code is laid out, and walks the project's own files."""
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SKIPPED_FOLDERS = {"build", "node_modules", "__pycache__", ".pytest_cache"}

# Library -> how its headers begin, and the names of its shared objects (what stands before ".so").
LIBRARIES = {
    "jansson": (["jansson.h", "jansson_config.h"], ["libjansson"]),
    "nettle": (["nettle/"], ["libnettle"]),
    "sqlite3": (["sqlite3.h"], ["libsqlite3"]),
    "microhttpd": (["microhttpd.h"], ["libmicrohttpd"]),
    "curl": (["curl/"], ["libcurl", "libcurl-gnutls"]),
    "zlib": (["zlib.h"], ["libz"]),
    "dnnl": (["dnnl", "oneapi/"], ["libdnnl"]),
    "openmp": (["omp.h"], ["libgomp"]),
    "cuda": (["cuda", "cudnn", "cublas", "nvrtc", "nvml"], ["libcuda", "libcudart", "libcudnn", "libcublas", "libnvrtc"]),
    "png": (["png.h"], ["libpng16"]),
    "jpeg": (["jpeglib.h", "turbojpeg.h"], ["libjpeg", "libturbojpeg"]),
    "protobuf-c": (["protobuf-c/"], ["libprotobuf-c"]),
    "archive": (["archive.h", "archive_entry.h"], ["libarchive"]),
}


def read_table(first_column, root=ROOT):
    """The rows of the README table whose first column has this head, as dicts; cells without back-ticks."""
    head, rows = None, []
    for line in (root / "README.md").read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            if head:
                break
        elif head is None:
            head = cells if cells[0] == first_column else None
        elif not set(cells[0]) <= set("-: "):
            rows.append(dict(zip(head, cells)))
    if not rows:
        raise SystemExit(f"README.md has no table whose first column is \"{first_column}\"")
    return rows


def words(cell):
    return [word.strip() for word in cell.split(",") if word.strip()]


def files(root, *suffixes):
    """The project's own files below root with one of the endings, sorted; "" stands for files without an ending."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS and (not f.startswith(".") or f == ".ci")]
        found += [Path(folder, name) for name in names if Path(name).suffix in suffixes]
    return sorted(found)


def finish(complaints, checked):
    """Prints what is wrong and exits with 1, or says how much was checked."""
    for complaint in complaints:
        print(complaint)
    print(f"{checked} checked, {len(complaints)} wrong")
    raise SystemExit(1 if complaints or not checked else 0)
