// Goal: whatever the network does, everything that either of two devices typed is in the end in the user's file.
// Method: both write lines of their own at different places of one file, while connections are cut at random, before requests, in the
// middle of answers, or for a while; pages are closed and opened again. The seed is printed; TREEHOLD_TEST_SEED replays it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { blobOid, memoryStorage, type Autosave, type AutosaveStorage, type Project } from "treehold";
import { serving, until, USER, Wire } from "./server.js";

const { client, project, server } = serving();
const PATH = "shared.txt";
const BEGIN = "first of left\nend of left\n\nmiddle\n\nfirst of right\nend of right\n";

/** Mulberry32: small, and the same everywhere. */
function random(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

class Device {
  readonly name: string;
  readonly wire: Wire;
  readonly storage: AutosaveStorage = memoryStorage();
  readonly typed: string[] = [];
  readonly #project: Project;
  autosave: Autosave | undefined;

  constructor(name: string, wire: Wire, project: Project) {
    this.name = name;
    this.wire = wire;
    this.#project = project;
  }

  async open(): Promise<void> {
    const far = client({ baseUrl: this.wire.url, maxPauseMs: 10, retries: 1 }).project(this.#project.name);
    this.autosave = far.autosave({ user: USER, device: this.name, debounceMs: 5, maxWaitMs: 30, maxPauseMs: 20, storage: this.storage });
    await this.autosave.restore();
    const file = await this.#project.files.read(PATH, { user: USER });
    this.autosave.open(PATH, { oid: file.oid, text: file.text() });
  }

  /** One line more, before the end of its own part. */
  type(): void {
    const line = `${this.name} ${this.typed.length}`;
    const text = this.autosave?.state(PATH)?.text ?? "";
    this.typed.push(line);
    this.autosave?.change(PATH, text.replace(`end of ${this.name}\n`, `${line}\nend of ${this.name}\n`));
  }

  async again(): Promise<void> {
    await this.autosave?.stop();
    await this.open();
  }
}

test("two devices in a storm lose nothing", async (t) => {
  const seed = Number(process.env["TREEHOLD_TEST_SEED"] ?? Date.now() % 1_000_000);
  t.diagnostic(`seed ${seed}`);
  const next = random(seed);
  const here = await project({ [PATH]: BEGIN });
  const devices = await Promise.all(["left", "right"].map(async (name) => new Device(name, await Wire.to(server().url), here)));
  t.after(async () => {
    for (const device of devices) {
      await device.autosave?.stop();
      await device.wire.close();
    }
  });
  for (const device of devices) await device.open();
  for (let step = 0; step < 300; step++) {
    const device = devices[next(2)]!;
    device.type();
    const fate = next(20);
    if (fate < 3) device.wire.cut();
    if (fate >= 3 && fate < 8) device.wire.mend();
    if (fate === 8 || fate === 9) device.wire.cutAfter(1 + next(400));
    if (fate === 10) void device.autosave?.flush();
    if (fate === 11 && next(3) === 0) await device.again();
    if (fate > 11) await new Promise((resolve) => setTimeout(resolve, next(12)));
  }
  for (const device of devices) {
    device.wire.cutAfter(Infinity);
    device.wire.mend();
  }
  const done = async () => (await Promise.all(devices.map((device) => device.autosave!.flush()))).flat().length === 0;
  await until(done, `everything is saved (seed ${seed}; ${devices.map((device) => JSON.stringify(device.autosave?.state(PATH)))})`);
  const text = (await here.files.read(PATH, { user: USER })).text();
  const lines = text.split("\n");
  for (const device of devices) {
    const found = lines.filter((line) => line.startsWith(`${device.name} `));
    assert.deepEqual(found, device.typed, `each line of ${device.name} once and in order (seed ${seed})`);
    assert.deepEqual(await device.storage.entries(""), [], "nothing is left in the storage");
  }
  assert.equal(devices.some((device) => device.autosave?.state(PATH)?.oid === blobOid(text)), true);
});
