// Builds the page into dist/ (or, with --tests, the unit tests into build/tests/). Files are named by their content.
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL(".", import.meta.url)));

const COMMON = {
  bundle: true,
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
};

/** The names of what was written, by entry point. */
function written(result) {
  return Object.entries(result.metafile.outputs)
    .filter(([, output]) => output.entryPoint !== undefined)
    .map(([file, output]) => ({
      file: file.replace("dist/", ""),
      css: output.cssBundle?.replace("dist/", ""),
    }));
}

/** The licences of all that is inside the bundles, in one file beside them. */
function licences() {
  const names = Object.keys(JSON.parse(readFileSync("package.json", "utf8")).dependencies);
  const texts = names.map((name) => {
    const folder = `node_modules/${name}`;
    const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
    if (file === undefined) throw new Error(`${name} brings no licence file`);
    const { version } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
    return `${name} ${version}\n\n${readFileSync(`${folder}/${file}`, "utf8").trim()}\n`;
  });
  texts.push("Land and islands (land-*.geojson): © OpenStreetMap contributors, ODbL 1.0\n");
  return texts.join(`\n${"-".repeat(80)}\n\n`);
}

async function page() {
  rmSync("dist", { recursive: true, force: true });
  const common = {
    ...COMMON,
    outdir: "dist",
    minify: true,
    sourcemap: true,
    metafile: true,
    legalComments: "none",
    entryNames: "assets/[name]-[hash]",
    assetNames: "assets/[name]-[hash]",
    loader: { ".geojson": "file", ".png": "file", ".woff2": "file", ".woff": "file" },
    publicPath: "/",
  };
  const [worker] = written(await build({ ...common, entryPoints: ["src/worker.ts"] }));
  const [main] = written(
    await build({
      ...common,
      entryPoints: ["src/main.tsx"],
      define: { WORKER: JSON.stringify(`/${worker.file}`) },
    }),
  );
  const html = readFileSync("src/index.html", "utf8")
    .replace("main.css", main.css)
    .replace("main.js", main.file);
  writeFileSync("dist/index.html", html);
  writeFileSync("dist/LICENSES.txt", licences());
  cpSync("public/icon.svg", "dist/icon.svg");
}

async function tests() {
  rmSync("build", { recursive: true, force: true });
  mkdirSync("build/tests", { recursive: true });
  const files = readdirSync("tests").filter((name) => name.endsWith(".test.ts"));
  await build({
    ...COMMON,
    entryPoints: files.map((name) => `tests/${basename(name)}`),
    outdir: "build/tests",
    outExtension: { ".js": ".mjs" },
    platform: "node",
    format: "esm",
    sourcemap: "inline",
  });
}

await (process.argv.includes("--tests") ? tests() : page());
