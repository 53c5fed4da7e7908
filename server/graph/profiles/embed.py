"""Writes the device profiles of a folder as one C file: embed.py FOLDER OUTPUT."""

import json
import os
import pathlib
import sys


def rows(folder: pathlib.Path) -> list[tuple[str, str]]:
    """Of each profile the initializer of its struct gpu_profile, and its text; JSON quotes plain text as C does."""
    found = []
    for path in sorted(folder.glob("*.json")):
        device = json.loads(path.read_text(encoding="utf-8"))
        memory, compute = device["totalGlobalMem"], device["deviceVer"] // 10
        row = f'{{"{path.stem}", {json.dumps(device["deviceName"])}, {compute}, INT64_C({memory})}}'
        found.append((row, json.dumps(json.dumps(device, separators=(",", ":")))))
    if not found:
        sys.exit(f"{folder}: no profiles")
    return found


def main() -> None:
    folder, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    table = rows(folder)
    structs, texts = ("".join(f"    {row[i]},\n" for row in table) for i in (0, 1))
    text = (
        f"/* Made by server/graph/profiles/embed.py from {folder}: do not edit. */\n"
        '#include "server/graph/gpu_private.h"\n\n'
        f"const struct gpu_profile gpu_builtin_profiles[] = {{\n{structs}}};\n"
        f"const char *const gpu_builtin_texts[] = {{\n{texts}}};\n"
        f"const size_t gpu_builtin_n = {len(table)};\n"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    part.write_text(text, encoding="ascii")
    os.replace(part, output)


main()
