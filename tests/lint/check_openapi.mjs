#!/usr/bin/env node
// check_openapi.mjs [FILE]: the API description is valid OpenAPI 3.1, by Redocly's rules; needs no network.
import { createConfig, formatProblems, lint } from "@redocly/openapi-core";

const file = process.argv[2] ?? "server/api/openapi.yaml";
const config = await createConfig({
    extends: ["recommended"],
    rules: {
        // No server is public and there are no accounts yet: a job belongs to the one local account.
        "no-server-example.com": "off",
        "security-defined": "off",
        "no-empty-servers": "off",
        // Answers of /livez, /metrics and the dashboard have no 4xx of their own.
        "operation-4xx-response": "off",
        "no-invalid-media-type-examples": "error",
        "no-invalid-schema-examples": "error",
        // JobEvent and Progress are named by the prose of the stream, which OpenAPI 3.1 has no schema for.
        "no-unused-components": "off",
        "operation-operationId": "error",
        "operation-operationId-unique": "error",
    },
});
const problems = await lint({ ref: file, config });
const totals = { errors: problems.filter((p) => p.severity === "error").length, warnings: problems.length };
if (problems.length > 0) formatProblems(problems, { format: "codeframe", totals });
console.log(`1 checked, ${problems.length} wrong`);
process.exitCode = problems.length > 0 ? 1 : 0;
