// Has the TypeScript compiler hold every dashboard against Grafana's own types: the JSON becomes a literal of the type `Board`.
// `--wrong` checks the check: dashboards that are wrong in one place each must be found.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const dashboards = join(here, "..", "dashboards");
const build = join(here, "build");

const WRONG = {
  "an unknown option": (board) => (panelOf(board, "timeseries").options.legend.placements = "bottom"),
  "a value that is none": (board) => (panelOf(board, "timeseries").options.tooltip.mode = "many"),
  "a size that is a text": (board) => (panelOf(board, "table").gridPos.w = "12"),
  "a kind of panel that is none": (board) => (panelOf(board, "table").type = "grid"),
  "another source": (board) => (panelOf(board, "table").targets[0].datasource.uid = "somewhere"),
  "a time that is no text": (board) => (board.time.from = 24),
};

function panelOf(board, type) {
  return board.panels.find((panel) => panel.type === type);
}

function isRight(boards) {
  rmSync(build, { recursive: true, force: true });
  mkdirSync(build);
  for (const [name, board] of Object.entries(boards)) {
    const text = `import type { Board } from "../board.js";\nexport const board: Board = ${JSON.stringify(board, null, 1)};\n`;
    writeFileSync(join(build, `${name}.ts`), text);
  }
  try {
    execFileSync(join(here, "node_modules", ".bin", "tsc"), ["-p", here], { stdio: ["ignore", "pipe", "inherit"] });
    return [];
  } catch (error) {
    return String(error.stdout).trim().split("\n");
  }
}

const files = readdirSync(dashboards).filter((name) => name.endsWith(".json"));
const boards = Object.fromEntries(
  files.map((name) => [name.slice(0, -5), JSON.parse(readFileSync(join(dashboards, name), "utf8"))]),
);
if (files.length === 0) throw new Error(`no dashboards in ${dashboards}`);

const problems = isRight(boards);
if (problems.length) {
  console.log(problems.join("\n"));
  process.exit(1);
}
if (process.argv.includes("--wrong")) {
  const spoilt = Object.entries(WRONG).map(([what, spoil], n) => {
    const board = structuredClone(boards["citywatch-traffic"]);
    spoil(board);
    return [what, `wrong${n}`, board];
  });
  const said = isRight(Object.fromEntries(spoilt.map(([, name, board]) => [name, board])));
  const missed = spoilt.filter(([, name]) => !said.some((line) => line.includes(`${name}.ts`)));
  if (missed.length) {
    console.log(`not found: ${missed.map(([what]) => what).join(", ")}`);
    process.exit(1);
  }
}
rmSync(build, { recursive: true, force: true });
console.log(`${files.length} dashboards are as Grafana's types have them`);
