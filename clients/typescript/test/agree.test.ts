// The types are written by hand, for their comments; whether they are the server's says a generator that knows nothing of them.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import openapiTS, { astToString } from "openapi-typescript";
import { serving } from "./server.js";

const { server } = serving();
const here = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

test("the client's types are those of the server's document", async () => {
  const document = await (await fetch(`${server().url}/openapi.json`)).text();
  mkdirSync(here("build"), { recursive: true });
  const types = await openapiTS(document, { defaultNonNullable: false });
  writeFileSync(here("build/openapi.d.ts"), astToString(types));
  const compiler = here("node_modules/typescript/bin/tsc");
  try {
    execFileSync(process.execPath, [compiler, "-p", here("test/agree/tsconfig.json")], { encoding: "utf8" });
  } catch (error) {
    assert.fail((error as { stdout: string }).stdout);
  }
});
