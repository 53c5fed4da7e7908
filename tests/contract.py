"""openapi.yaml as an oracle: is this answer what the contract says? Keeps a list of what was seen."""
import json
import re

import jsonschema
import yaml

from service import ROOT

WITH_BODY = ("get", "post", "delete", "put", "patch")


class Contract:
    def __init__(self):
        self.document = yaml.safe_load((ROOT / "server/api/openapi.yaml").read_text(encoding="utf-8"))
        self.seen = set()

    def resolve(self, node):
        while "$ref" in node:
            path, node = node["$ref"].removeprefix("#/").split("/"), self.document
            for part in path:
                node = node[part]
        return node

    def documented(self):
        return {(method, path, status) for path, item in self.document["paths"].items() for method, operation in item.items()
                if method in WITH_BODY for status in operation["responses"]}

    def path_of(self, target):
        """The template of a request's path: literal ones win over parameters, /{file} takes the rest."""
        path = target.split("?")[0]
        if path in self.document["paths"]:
            return path
        for template in self.document["paths"]:
            if template != "/{file}" and re.fullmatch(re.sub(r"\{[a-z]+\}", "[^/]+", template), path):
                return template
        return "/{file}"

    def schema_errors(self, schema, value):
        # With the components beside it, "#/components/..." resolves within the schema.
        validator = jsonschema.Draft202012Validator({"components": self.document["components"], **schema})
        return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in validator.iter_errors(value)]

    def named(self, name, value):
        """Fails unless value fits components/schemas/NAME."""
        errors = self.schema_errors({"$ref": f"#/components/schemas/{name}"}, value)
        assert not errors, errors

    def check(self, answer):
        """Fails unless a requests.Response is documented: status, headers, media type and body. Returns the answer."""
        method, target = answer.request.method.lower(), answer.request.path_url
        template = self.path_of(target)
        operation = self.document["paths"][template].get("get" if method == "head" else method)
        assert operation is not None, f"{method} {template} is not documented"
        status = str(answer.status_code)
        assert status in operation["responses"], f"{method} {template} answered {status}, which is not documented: {answer.text[:300]}"
        self.seen.add((method, template, status))
        response = self.resolve(operation["responses"][status])
        self.check_headers(response, answer)
        if method != "head":
            self.check_content(response, answer)
        return answer

    def check_headers(self, response, answer):
        assert answer.headers["X-Request-Id"]
        for name, header in response.get("headers", {}).items():
            header = self.resolve(header)
            value = answer.headers.get(name)
            assert value is not None or not header.get("required"), f"{name} is missing"
            if value is not None:
                typed = int(value) if header["schema"]["type"] == "integer" else value
                assert not self.schema_errors(header["schema"], typed), (name, value)

    def check_content(self, response, answer):
        content = response.get("content")
        if content is None:
            assert answer.content == b""
            return
        kind = answer.headers["Content-Type"]
        media = content.get(kind) or content.get("*/*")
        assert media is not None, f"{kind} is not documented"
        value = json.loads(answer.content) if kind.endswith("json") else answer.text
        errors = self.schema_errors(media["schema"], value)
        assert not errors, errors
        if kind == "application/problem+json":
            assert value["status"] == answer.status_code and value["instance"] == answer.headers["X-Request-Id"]
