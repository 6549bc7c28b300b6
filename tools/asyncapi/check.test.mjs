// That the check finds what is wrong: in a copy of docs/ with one thing changed.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const DOCS = fileURLToPath(new URL("../../docs/", import.meta.url));
const CHECK = fileURLToPath(new URL("check.mjs", import.meta.url));
const FLOW = "schemas/city.traffic.flow.v1.json";

function checked(file, change) {
  const folder = mkdtempSync(join(tmpdir(), "citywatch-asyncapi-"));
  try {
    for (const name of ["asyncapi.yaml", "schemas"]) cpSync(join(DOCS, name), join(folder, name), { recursive: true });
    const before = readFileSync(join(folder, file), "utf8");
    const after = change(before);
    assert.notEqual(after, before);
    writeFileSync(join(folder, file), after);
    return spawnSync(process.execPath, [CHECK, join(folder, "asyncapi.yaml")], { encoding: "utf8" });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const WRONG = [
  ["a word that AsyncAPI does not know", "asyncapi.yaml", "action: receive", "action: eat", /"action" property must be/],
  ["a schema that is not there", "asyncapi.yaml", `./${FLOW}`, "./schemas/none.json", /no such file/],
  ["an operation on no channel", "asyncapi.yaml", "$ref: '#/channels/", "$ref: '#/channels/no.", /does not exist/],
  ["a schema of an unknown draft", "asyncapi.yaml", "draft-2020-12", "draft-99", /its schema is not application/],
  ["a schema that is none", FLOW, '"type": "object"', '"type": "thing"', /TrafficFlow.*type must be/],
];

for (const [name, file, from, to, says] of WRONG) {
  test(`${name} is found`, () => {
    const { status, stdout } = checked(file, (text) => text.replace(from, to));
    assert.match(stdout, says);
    assert.equal(status, 1);
  });
}
