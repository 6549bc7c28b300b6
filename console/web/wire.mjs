// Writes src/wire.ts, the types of the console's JSON, from the schema on stdin; with --check it only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { json } from "node:stream/consumers";
import { compile } from "json-schema-to-typescript";
import { format } from "prettier";

const FILE = new URL("src/wire.ts", import.meta.url);
const HEAD = "// The console's JSON, made from console/wire.py by `make web-wire`: change it there.\n\n";

/** Titles of properties would each become a type of its own; only definitions are named. */
function untitled(part, named = false) {
  if (Array.isArray(part)) return part.map((each) => untitled(each));
  if (part === null || typeof part !== "object") return part;
  const out = {};
  for (const [key, value] of Object.entries(part)) {
    if (key === "title" && typeof value === "string" && !named) continue;
    // An array of at most N is no tuple to us.
    if (key === "maxItems" || key === "minItems") continue;
    if (key === "properties" || key === "$defs")
      out[key] = Object.fromEntries(Object.entries(value).map(([name, each]) => [name, untitled(each)]));
    else out[key] = untitled(value);
  }
  return out;
}

const schema = await json(process.stdin);
const made = await compile(untitled(schema, true), "Wire", {
  additionalProperties: false,
  bannerComment: "",
  unreachableDefinitions: true,
  format: false,
});
const types = made
  .replace(/export interface Wire \{\s*\}\n/, "")
  .replace(/\/\*\*\s*\* This interface was referenced by .*?\*\/\n/gs, "")
  .replace(
    /\n[ ]*\*\s*\n[ ]*\* This interface was referenced by [^\n]*\n[ ]*\* via the `definition` "[^"]*"\.(?=\n)/g,
    "",
  );
const text = HEAD + (await format(types, { parser: "typescript", printWidth: 110 }));
if (process.argv[2] !== "--check") writeFileSync(FILE, text);
else if (readFileSync(FILE, "utf8") !== text) {
  console.error("console/web/src/wire.ts is not what console/wire.py says: make web-wire");
  process.exit(1);
}
