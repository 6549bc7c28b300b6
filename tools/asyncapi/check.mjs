// Has AsyncAPI's own parser read docs/asyncapi.yaml and the schemas that it names; ends with 1 if it finds anything wrong.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Parser } from "@asyncapi/parser";
import { Ajv2020 } from "ajv/dist/2020.js";

const FORMAT = "application/schema+json;version=draft-2020-12";
// Lower is worse; the rest is advice, as that there is a newer AsyncAPI.
const WARNING = 1;

const source = process.argv[2] ?? fileURLToPath(new URL("../../docs/asyncapi.yaml", import.meta.url));
const dialect = new Ajv2020({ strict: false });
const seen = new Set();
const wrong = [];

// The parser itself passes by schemas of this draft, and of AsyncAPI 3 it asks for `parse` alone.
const schemas = {
  getMimeTypes: () => [FORMAT],
  validate: () => [],
  parse({ data, path }) {
    seen.add(data.title);
    if (!dialect.validateSchema(data)) {
      wrong.push(`${source}: ${path.join(".")}: ${dialect.errorsText(dialect.errors, { dataVar: data.title })}`);
    }
    return data;
  },
};

const { document, diagnostics } = await new Parser({ schemaParsers: [schemas] }).parse(
  await readFile(source, "utf8"),
  { source },
);
for (const { severity, range, path, message } of diagnostics) {
  if (severity <= WARNING) wrong.push(`${source}:${range.start.line + 1}: ${path.join(".")}: ${message}`);
}
for (const message of document?.allMessages() ?? []) {
  if (!seen.has(message.name())) wrong.push(`${source}: ${message.name()}: its schema is not ${FORMAT}`);
}
for (const line of wrong) console.log(line);
if (wrong.length === 0) {
  console.error(`AsyncAPI ${document.version()}: ${document.channels().length} channels, ${seen.size} schemas`);
}
process.exitCode = wrong.length === 0 ? 0 : 1;
