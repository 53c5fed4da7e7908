#!/usr/bin/python3
"""Writes openapi.yaml as JSON in a C array: openapi_to_c.py openapi.yaml OUTPUT."""

import json
import os
import sys

import yaml


class Loader(yaml.SafeLoader):
    """Examples look like dates and numbers; in JSON they are what the document means, text."""


Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: node.value)


def literal(part):
    return '"' + part.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?") + '"'


def main(source, output):
    with open(source, encoding="utf-8") as file:
        text = json.dumps(yaml.load(file, Loader), separators=(",", ":"))
    lines = "\n    ".join(literal(text[i : i + 100]) for i in range(0, len(text), 100))
    with open(output + ".part", "w", encoding="ascii") as file:
        file.write(
            "/* Made by server/api/openapi_to_c.py: do not edit. */\n"
            '#include "server/api/openapi.h"\n\n'
            f"const char openapi_json[] =\n    {lines};\n"
            "const size_t openapi_json_size = sizeof openapi_json - 1;\n"
        )
    os.rename(output + ".part", output)


main(sys.argv[1], sys.argv[2])
