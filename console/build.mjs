// Makes the bundle that the binary embeds: `node build.mjs`. With `--check` it only says whether what is committed is that.
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const out = fileURLToPath(new URL("../crates/server/assets/console/", import.meta.url));

const result = await build({
  absWorkingDir: here,
  entryPoints: { console: "src/main.tsx", styles: "src/styles.css" },
  alias: { treehold: "../clients/typescript/src/index.ts" },
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  outdir: "out",
  format: "esm",
  target: ["chrome111", "firefox115", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "utf8",
  legalComments: "none",
});

const made = new Map();
for (const file of result.outputFiles) made.set(file.path.endsWith(".css") ? "console.css" : "console.js", file.text);
for (const name of ["index.html", "icon.svg"]) made.set(name, await readFile(join(here, "src", name), "utf8"));
made.set("licences.txt", await licences(Object.keys(result.metafile.inputs)));

/** The licences of all packages that are in the bundle. */
async function licences(inputs) {
  const packages = new Set();
  for (const input of inputs) {
    const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input.split(sep).join("/"));
    if (found) packages.add(found[1]);
  }
  let text = "The console is part of Treehold (MIT OR Apache-2.0). It contains the following packages.\n";
  for (const name of [...packages].sort()) {
    const dir = join(here, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(join(dir, "package.json"), "utf8"));
    const file = (await readdir(dir)).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${name} has no licence file`);
    text += `\n${"=".repeat(80)}\n${name} ${version} (${license})\n\n${(await readFile(join(dir, file), "utf8")).trim()}\n`;
  }
  return text;
}

let stale = false;
for (const [name, text] of made) {
  const path = join(out, name);
  if ((await readFile(path, "utf8").catch(() => "")) === text) continue;
  if (process.argv.includes("--check")) {
    console.error(`${relative(join(here, ".."), path)} is not what console/ builds to; run \`npm run build\` in console/ and commit it`);
    stale = true;
  } else {
    await writeFile(path, text);
  }
}
if (stale) process.exit(1);
for (const [name, text] of made) console.log(`${name} ${(Buffer.byteLength(text) / 1024).toFixed(1)} KiB`);
