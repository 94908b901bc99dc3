import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { serving } from "./server.js";

const { server } = serving();
const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));

test("the quick start does what it says", () => {
  const quick = /```js\n([\s\S]*?)```/.exec(readFileSync(`${PACKAGE}README.md`, "utf8"))?.[1];
  assert.ok(quick);
  const env = { ...process.env, TREEHOLD_URL: server().url, TREEHOLD_KEY: server().key };
  const run = spawnSync(process.execPath, ["--input-type=module"], { cwd: PACKAGE, input: quick, env, encoding: "utf8", timeout: 60_000 });
  assert.equal(run.status, 0, run.stderr);
  assert.match(run.stdout, /README\.md # Docs\n[\s\S]*no\/such There is no file[\s\S]*guide\/a\.md:2: Two\nnot saved: \[\]\n[0-9a-f]{40} false\n/);
});
