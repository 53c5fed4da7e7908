"""Writes the migrations of a folder as one C file: embed.py FOLDER OUTPUT."""

import os
import pathlib
import re
import sys


def literal(data: bytes) -> str:
    """C string literals, a line of SQL each; everything but plain printable ASCII as three octal digits."""
    lines = data.splitlines(keepends=True) or [b""]
    plain = set(range(0x20, 0x7F)) - set(b'"\\?')
    quoted = ['"' + "".join(chr(c) if c in plain else f"\\{c:03o}" for c in line) + '"' for line in lines]
    return "\n     ".join(quoted)


def rows(folder: pathlib.Path) -> list[str]:
    found = []
    for number, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        match = re.fullmatch(r"(\d{4})_[a-z0-9_]+\.sql", path.name)
        if match is None or int(match[1]) != number:
            sys.exit(f"{path}: the name of migration {number} must be {number:04d}_lower_case_words.sql, without a gap before it")
        data = path.read_bytes()
        if b"\0" in data:
            sys.exit(f"{path}: holds a NUL byte, where SQLite would stop reading")
        found.append(f'    {{{number}, "{path.name}",\n     {literal(data)},\n     {len(data)}}},\n')
    if not found:
        sys.exit(f"{folder}: no migrations")
    return found


def main() -> None:
    folder, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    table = rows(folder)
    text = (
        f"/* Made by migrations/embed.py from {folder}: do not edit. */\n"
        '#include "server/store/private.h"\n\n'
        f"const struct migration migrations[] = {{\n{''.join(table)}}};\n"
        f"const size_t migrations_n = {len(table)};\n"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    part.write_text(text, encoding="ascii")
    os.replace(part, output)


main()
