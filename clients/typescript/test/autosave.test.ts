import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import {
  Autosave, blobOid, memoryStorage, newUuid, type AutosaveStorage, type FileState, type PendingOp, type Project, type SaveConflict,
} from "treehold";
import { begin, desks, lines, slow, view } from "./desk.js";
import { until, USER } from "./server.js";

const { client, project, desk } = desks();

test("what is typed is saved after a pause, one request at a time, and nothing is kept after it", async (t) => {
  const here = await project({ "a.txt": "" });
  const { autosave, states, storage } = await desk(t, here, { debounceMs: 300, maxWaitMs: 60_000 });
  autosave.open("a.txt", begin(""));
  let text = "";
  for (const letter of "typed letter by letter") {
    autosave.change("a.txt", (text += letter));
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await until(() => autosave.state("a.txt")?.state === "saved", "it is saved");
  assert.equal(await view(here, "a.txt"), text);
  assert.deepEqual(states.filter((state, at) => state !== states[at - 1]).slice(0, 3), ["waiting", "saving", "saved"]);
  assert.deepEqual(await storage.entries(""), []);
  assert.deepEqual(await autosave.flush(), []);
  // As typed once more, it is no change.
  const told = states.length;
  autosave.change("a.txt", text);
  assert.equal(states.length, told);
  const versions = await here.workspace({ user: USER }).history({ path: "a.txt" }).all();
  assert.ok(versions.length <= 3, `${versions.length} requests for one burst of typing`);
});

test("a flush saves at once, files go too, and a refusal is the server's sentence", async (t) => {
  const here = await project({ "a.txt": "a", "gone.txt": "g" });
  const { autosave } = await desk(t, here, { debounceMs: 60_000, maxWaitMs: 60_000 });
  autosave.open("a.txt", begin("a"));
  autosave.open("gone.txt", begin("g"));
  autosave.change("a.txt", "b");
  autosave.change("gone.txt", null);
  autosave.change("new.txt", "n");
  autosave.change(".git/config", "x");
  const left = await autosave.flush();
  assert.deepEqual(left.map((file) => [file.path, file.state, file.error?.code, file.text]), [[".git/config", "failed", "bad_path", "x"]]);
  assert.match(left[0]?.error?.detail ?? "", /^The path is refused/);
  const pending = await here.workspace({ user: USER }).list().all();
  assert.deepEqual(pending.map((entry) => [entry.path, entry.action]), [["a.txt", "modified"], ["gone.txt", "deleted"], ["new.txt", "created"]]);
});

test("another device's lines are merged into what is typed", async (t) => {
  const here = await project({ "a.txt": lines("1", "2", "3", "4", "5") });
  const { autosave, merged } = await desk(t, here);
  autosave.open("a.txt", begin(lines("1", "2", "3", "4", "5")));
  await here.workspace({ user: USER }).put("a.txt", lines("one", "2", "3", "4", "5"));
  autosave.change("a.txt", lines("1", "2", "3", "4", "five"));
  assert.deepEqual(await autosave.flush(), []);
  const both = lines("one", "2", "3", "4", "five");
  assert.equal(await view(here, "a.txt"), both);
  assert.deepEqual(merged, [{ path: "a.txt", text: both, before: lines("1", "2", "3", "4", "five") }]);
});

test("a conflict shows both texts, whoever decides", async (t) => {
  const here = await project({ "a.txt": "one\n", "b.txt": "one\n" });
  const asked: SaveConflict[] = [];
  const onConflict = (conflict: SaveConflict) => {
    asked.push(conflict);
    return conflict.path === "a.txt" ? { text: `${conflict.ours}${conflict.theirs}` } : undefined;
  };
  const { autosave } = await desk(t, here, { onConflict });
  const other = here.workspace({ user: USER });
  for (const path of ["a.txt", "b.txt"]) {
    autosave.open(path, begin("one\n"));
    await other.put(path, "theirs\n");
    autosave.change(path, "ours\n");
  }
  const left = await autosave.flush();
  assert.equal(await view(here, "a.txt"), "ours\ntheirs\n");
  assert.deepEqual(left.map((file) => [file.path, file.state]), [["b.txt", "conflict"]]);
  const expected = { path: "b.txt", base: "one\n", ours: "ours\n", theirs: "theirs\n", theirsOid: blobOid("theirs\n") };
  assert.deepEqual(asked.find((conflict) => conflict.path === "b.txt"), expected);
  // Nothing is overwritten, and typing goes on meanwhile.
  assert.equal(await view(here, "b.txt"), "theirs\n");
  autosave.change("b.txt", "ours, longer\n");
  assert.equal(autosave.state("b.txt")?.conflict?.ours, "ours, longer\n");
  await autosave.resolve("b.txt", "ours");
  assert.equal(await view(here, "b.txt"), "ours, longer\n");
  assert.equal(autosave.state("b.txt")?.state, "saved");
});

test("what is typed while somebody decides is asked for again", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const asked: (string | null)[] = [];
  const holder: { autosave?: Autosave } = {};
  const onConflict = (conflict: SaveConflict) => {
    asked.push(conflict.ours);
    if (asked.length === 1) holder.autosave?.change("a.txt", "ours, longer\n");
    return { text: `${conflict.ours}${conflict.theirs}` };
  };
  const { autosave } = await desk(t, here, { onConflict });
  holder.autosave = autosave;
  autosave.open("a.txt", begin("one\n"));
  await here.workspace({ user: USER }).put("a.txt", "theirs\n");
  autosave.change("a.txt", "ours\n");
  await autosave.flush();
  assert.deepEqual(asked, ["ours\n", "ours, longer\n"]);
  assert.equal(await view(here, "a.txt"), "ours, longer\ntheirs\n");
});

test("a conflict that somebody takes time over holds up no other file, no flush and no end", async (t) => {
  const here = await project({ "a.txt": "one\n", "b.txt": "" });
  let answer: (resolution: "ours") => void = () => {};
  const onConflict = () => new Promise<"ours">((resolve) => (answer = resolve));
  const { autosave, wire } = await desk(t, here, { onConflict });
  autosave.open("a.txt", begin("one\n"));
  autosave.open("b.txt", begin(""));
  await here.workspace({ user: USER }).put("a.txt", "theirs\n");
  autosave.change("a.txt", "ours\n");
  assert.deepEqual((await autosave.flush()).map((file) => [file.path, file.state]), [["a.txt", "conflict"]]);
  // Also what was kept while the server was away is sent.
  wire.cut();
  autosave.change("b.txt", "typed");
  await until(() => autosave.away, "it is away");
  wire.mend();
  await until(async () => (await view(here, "b.txt")) === "typed", "the other file is saved");
  assert.equal(await view(here, "a.txt"), "theirs\n");
  answer("ours");
  await until(async () => (await view(here, "a.txt")) === "ours\n", "the answer counts when it comes");
  await until(() => autosave.state("a.txt")?.state === "saved", "it is saved");
  // An end waits for no answer, and one that comes after it changes nothing.
  await here.workspace({ user: USER }).put("a.txt", "theirs again\n");
  autosave.change("a.txt", "ours again\n");
  await until(() => autosave.state("a.txt")?.state === "conflict", "it is asked again");
  await autosave.stop();
  answer("ours");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(autosave.state("a.txt")?.state, "conflict");
});

test("an answer to a conflict may be any thenable, and one that is rejected leaves it open and says why", async (t) => {
  const here = await project({ "a.txt": "one\n", "b.txt": "one\n", "c.txt": "one\n" });
  const unhandled: unknown[] = [];
  const hear = (error: unknown) => void unhandled.push(error);
  process.on("unhandledRejection", hear);
  t.after(() => void process.off("unhandledRejection", hear));
  const thenable: PromiseLike<"ours"> = { then: (heard) => Promise.resolve<"ours">("ours").then(heard) };
  const onConflict = ({ path }: SaveConflict) => (path === "a.txt" ? thenable : path === "b.txt" ? Promise.reject(new Error("nobody is here")) : undefined);
  const { autosave } = await desk(t, here, { onConflict });
  for (const path of ["a.txt", "b.txt", "c.txt"]) {
    autosave.open(path, begin("one\n"));
    await here.workspace({ user: USER }).put(path, "theirs\n");
    autosave.change(path, "ours\n");
  }
  await autosave.flush();
  await until(() => autosave.state("a.txt")?.state === "saved", "a thenable decides");
  assert.equal(await view(here, "a.txt"), "ours\n");
  await until(() => autosave.state("b.txt")?.error?.code === "not_decided", "it says why nobody decided");
  const { state, error, conflict } = autosave.state("b.txt")!;
  assert.deepEqual([state, conflict?.theirs], ["conflict", "theirs\n"]);
  assert.match(error?.detail ?? "", /nobody is here/);
  assert.deepEqual([autosave.state("c.txt")?.state, autosave.state("c.txt")?.error], ["conflict", undefined]);
  await autosave.resolve("b.txt", "theirs");
  assert.deepEqual([autosave.state("b.txt")?.state, autosave.state("b.txt")?.error], ["saved", undefined]);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(unhandled, []);
});

test("bytes of another device that are no text are not written back as one, and a byte order mark stays", async (t) => {
  const here = await project({ "a.txt": lines("1", "2", "3"), "b.txt": `\ufeff${lines("1", "2", "3")}` });
  const { autosave } = await desk(t, here);
  const other = here.workspace({ user: USER });
  const bytes = new Uint8Array([...new TextEncoder().encode(lines("1", "2")), 0xe9, 0x0a]);
  autosave.open("a.txt", begin(lines("1", "2", "3")));
  await other.put("a.txt", bytes);
  autosave.change("a.txt", lines("one", "2", "3"));
  autosave.open("b.txt", begin(`\ufeff${lines("1", "2", "3")}`));
  await other.put("b.txt", `\ufeff${lines("1", "2", "three")}`);
  autosave.change("b.txt", `\ufeff${lines("1", "two", "3")}`);
  const left = await autosave.flush();
  assert.deepEqual(left.filter((file) => file.path === "a.txt").map((file) => [file.state, file.error?.code]), [["failed", "not_text"]]);
  assert.deepEqual((await here.files.read("a.txt", { user: USER })).bytes, bytes);
  const stays = (await here.files.read("b.txt", { user: USER })).bytes.slice(0, 3);
  assert.deepEqual(stays, new Uint8Array([0xef, 0xbb, 0xbf]));
});

test("theirs can be taken, and a file that is gone is a conflict too", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const { autosave, merged } = await desk(t, here);
  autosave.open("a.txt", begin("one\n"));
  await here.workspace({ user: USER }).delete("a.txt");
  autosave.change("a.txt", "ours\n");
  const [left] = await autosave.flush();
  assert.deepEqual([left?.conflict?.theirs, left?.conflict?.theirsOid], [null, null]);
  await autosave.resolve("a.txt", "theirs");
  assert.deepEqual([autosave.state("a.txt")?.state, autosave.state("a.txt")?.text, merged.length], ["saved", null, 1]);
});

test("nothing that is typed is lost while the network is away", async (t) => {
  const here = await project({ "a.txt": "", "b.txt": lines("1", "2", "3") });
  const { autosave, wire, storage } = await desk(t, here);
  autosave.open("a.txt", begin(""));
  autosave.open("b.txt", begin(lines("1", "2", "3")));
  let text = "";
  for (let n = 0; n < 60; n++) {
    if (n === 10) wire.cut();
    if (n === 50) wire.mend();
    autosave.change("a.txt", (text += `line ${n}\n`));
    if (n === 20) autosave.change("b.txt", lines("1", "2", "drei"));
    // Meanwhile another device changes another line.
    if (n === 30) await here.workspace({ user: USER }).put("b.txt", lines("eins", "2", "3"));
    if (n === 45) {
      assert.ok(autosave.away);
      assert.equal(autosave.state("a.txt")?.state, "offline");
      assert.equal((await storage.entries("")).filter(([key]) => key.includes("file:")).length, 2);
    }
    await new Promise((resolve) => setTimeout(resolve, 8));
  }
  await until(() => autosave.states().every((file) => file.state === "saved"), "all is saved");
  assert.equal(await view(here, "a.txt"), text);
  assert.equal(await view(here, "b.txt"), lines("eins", "2", "drei"));
  assert.equal(autosave.state("b.txt")?.text, lines("eins", "2", "drei"));
  assert.deepEqual(await storage.entries(""), []);
});

test("an answer that is lost is no conflict with oneself", async (t) => {
  for (const bytes of [1, 50]) {
    const here = await project({ "a.txt": "0\n" });
    const { autosave, wire } = await desk(t, here, { onConflict: () => assert.fail("there is no other device") });
    autosave.open("a.txt", begin("0\n"));
    let text = "0\n";
    for (let n = 0; n < 12; n++) {
      // The server does it, and its answer is cut; the next attempts do not get through.
      wire.cutAfter(bytes);
      autosave.change("a.txt", (text = `${n} ${text}`));
      const cut = n % 2 === 0 ? autosave.flush() : undefined;
      autosave.change("a.txt", (text = `${n}' ${text}`));
      await cut;
      if (n % 3 === 0) {
        wire.cut();
        autosave.change("a.txt", (text = `${n}'' ${text}`));
        await new Promise((resolve) => setTimeout(resolve, 30));
        wire.mend();
      }
    }
    wire.cutAfter(Infinity);
    await until(async () => (await autosave.flush()).length === 0, "all is saved");
    assert.equal(await view(here, "a.txt"), text);
  }
});

test("a page that goes away in the middle leaves everything to the next one", async (t) => {
  const here = await project({ "a.txt": "0\n", "b.txt": "0\n" });
  const storage = memoryStorage();
  const first = await desk(t, here, { storage });
  first.autosave.open("a.txt", begin("0\n"));
  first.autosave.open("b.txt", begin("0\n"));
  first.autosave.change("a.txt", "1\n");
  await first.autosave.flush();
  first.wire.cut();
  first.autosave.change("a.txt", "2\n");
  first.autosave.change("b.txt", "1\n");
  await until(() => first.autosave.away, "it is away");
  first.autosave.change("a.txt", "3\n");
  await first.autosave.stop();

  const second = await desk(t, here, { storage });
  const restored = await second.autosave.restore();
  assert.deepEqual(restored.map((file: FileState) => [file.path, file.text]).sort(), [["a.txt", "3\n"], ["b.txt", "1\n"]]);
  // An editor that opens a file gets the newer text.
  assert.equal(second.autosave.open("a.txt", begin("1\n")).text, "3\n");
  await until(() => second.autosave.states().every((file) => file.state === "saved"), "all is saved");
  assert.deepEqual([await view(here, "a.txt"), await view(here, "b.txt")], ["3\n", "1\n"]);
  assert.deepEqual(await storage.entries(""), []);
});

test("what conflicts after a time away is shown, and kept until it is decided", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const asked: SaveConflict[] = [];
  const { autosave, wire, storage } = await desk(t, here, { onConflict: (conflict) => void asked.push(conflict) });
  autosave.open("a.txt", begin("one\n"));
  wire.cut();
  autosave.change("a.txt", "ours\n");
  await autosave.flush();
  await here.workspace({ user: USER }).put("a.txt", "theirs\n");
  wire.mend();
  await until(() => asked.length === 1, "it is asked");
  assert.deepEqual([asked[0]?.base, asked[0]?.ours, asked[0]?.theirs], ["one\n", "ours\n", "theirs\n"]);
  assert.equal((await storage.entries("")).length, 1);
  // The server has both texts, too.
  const versions = await here.workspace({ user: USER }).history({ path: "a.txt" }).all();
  assert.ok(versions.some((version) => version.oid === blobOid("ours\n")));
  await autosave.resolve("a.txt", { text: "both\n" });
  assert.equal(await view(here, "a.txt"), "both\n");
  assert.deepEqual(await storage.entries(""), []);
});

test("a storage that fails does not stop the saving", async (t) => {
  const here = await project({ "a.txt": "" });
  const failing = { ...memoryStorage(), set: () => Promise.reject(new Error("full")) };
  const errors: unknown[] = [];
  const { autosave } = await desk(t, here, { storage: failing, onStorageError: (error) => errors.push(error) });
  autosave.open("a.txt", begin(""));
  autosave.change("a.txt", "x");
  assert.deepEqual(await autosave.flush(), []);
  assert.equal(await view(here, "a.txt"), "x");
  assert.ok(errors.length > 0);
});

/** Takes as many characters as a browser may. */
function bounded(most: number): AutosaveStorage {
  const inner = memoryStorage();
  const set = async (key: string, value: string) => {
    const others = (await inner.entries("")).filter(([other]) => other !== key);
    const length = others.reduce((sum, [other, kept]) => sum + other.length + kept.length, key.length + value.length);
    if (length > most) throw new Error("there is no room");
    await inner.set(key, value);
  };
  return { ...inner, set };
}

test("a large text is kept once, with what it started from, and its file says so where there is no room for it", async (t) => {
  const large = lines(...Array.from({ length: 5_000 }, (_, n) => `line ${n} \u{1f600}`));
  const here = await project({ "a.txt": large, "b.txt": "" });
  // Room for the text and for the batch that it is sent in.
  const storage = bounded(Math.round(2.5 * large.length));
  const first = await desk(t, here, { storage });
  first.autosave.open("a.txt", begin(large));
  first.autosave.open("b.txt", begin(""));
  first.wire.cut();
  first.autosave.change("a.txt", large.replace("line 7 ", "typed 7 "));
  await first.autosave.flush();
  assert.deepEqual([first.autosave.state("a.txt")?.state, first.autosave.state("a.txt")?.kept], ["offline", true]);
  first.autosave.change("b.txt", large + large);
  await first.autosave.flush();
  assert.deepEqual(["a.txt", "b.txt"].map((path) => first.autosave.state(path)?.kept), [true, false]);
  await first.autosave.stop();
  // The next page merges it with what another device wrote.
  await here.workspace({ user: USER }).put("a.txt", large.replace("line 4000 ", "theirs 4000 "));
  const second = await desk(t, here, { storage });
  await second.autosave.restore();
  await until(() => second.autosave.states().every((file) => file.state === "saved"), "all is saved");
  assert.equal(await view(here, "a.txt"), large.replace("line 7 ", "typed 7 ").replace("line 4000 ", "theirs 4000 "));
  assert.equal(second.autosave.state("a.txt")?.kept, true);
});

test("batches whose answers earlier pages did not see are sent again with their keys, also one whose files are not here", async (t) => {
  const here = await project({ "a.txt": "one\n", "b.txt": "one\n", "c.txt": "c\n" });
  const other = here.workspace({ user: USER, device: "phone" });
  const storage = memoryStorage();
  const prefix = `treehold:${here.name}::${USER}:`;
  const keep = (name: string, value: unknown) => storage.set(prefix + name, JSON.stringify(value));
  for (const path of ["a.txt", "b.txt"]) {
    const [key, ops]: [string, PendingOp[]] = [newUuid(), [{ op: "put", path, content: "ours\n", expected_oid: blobOid("one\n") }]];
    // It arrived, and another device went on from it.
    await other.batch({ ops, atomic: false, on_conflict: "merge" }, { idempotencyKey: key });
    await other.put(path, "theirs\n");
    await keep(`file:${path}`, { text: "ours\n", known: begin("one\n") });
    await keep(path === "a.txt" ? "batch" : "batch:another page's", { key, ops });
  }
  await keep("batch:alone", { key: newUuid(), ops: [{ op: "put", path: "c.txt", content: "only here\n", expected_oid: blobOid("c\n") }] });
  const { autosave } = await desk(t, here, { storage, onConflict: () => assert.fail("it is no conflict with oneself") });
  autosave.open("c.txt", begin("c\n"));
  await autosave.restore();
  await until(async () => (await storage.entries("")).length === 0, "nothing is left in the storage");
  assert.deepEqual(autosave.states().map((file) => [file.path, file.state]), [["c.txt", "saved"], ["a.txt", "saved"], ["b.txt", "saved"]]);
  assert.deepEqual([await view(here, "a.txt"), await view(here, "b.txt"), await view(here, "c.txt")], ["theirs\n", "theirs\n", "only here\n"]);
  assert.equal(autosave.state("c.txt")?.text, "only here\n", "an editor takes it over");
});

test("a save whose answer is lost, under what another device wrote on top of it, is no conflict with oneself", async (t) => {
  const here = await project({ "a.txt": lines("0", "", "end") });
  let lost = 0;
  // The server does it, another device goes on from there, and nothing of that is told.
  const losing: typeof fetch = async (input, init) => {
    const answer = await fetch(input, init);
    if (init?.method !== "PUT" || ++lost > 1) return answer;
    await here.workspace({ user: USER }).put("a.txt", `${await view(here, "a.txt")}another device\n`);
    autosave.change("a.txt", lines("0", "one", "two", "", "end"));
    throw new TypeError("the answer is lost");
  };
  const far = client({ fetch: losing, maxPauseMs: 20 }).project(here.name);
  const onConflict = () => assert.fail("there is no conflict");
  const autosave = far.autosave({ user: USER, debounceMs: 5, onConflict });
  t.after(() => autosave.stop());
  autosave.open("a.txt", begin(lines("0", "", "end")));
  autosave.change("a.txt", lines("0", "one", "", "end"));
  await until(() => autosave.state("a.txt")?.state === "saved", "it is saved");
  assert.equal(await view(here, "a.txt"), lines("0", "one", "two", "", "end", "another device"));
});

test("a text that comes back from away and is in the view with more takes that over", async (t) => {
  const here = await project({ "a.txt": lines("1", "", "2", "", "3") });
  const { autosave, wire, merged } = await desk(t, here);
  autosave.open("a.txt", begin(lines("1", "", "2", "", "3")));
  wire.cut();
  autosave.change("a.txt", lines("one", "", "2", "", "3"));
  await autosave.flush();
  await here.workspace({ user: USER }).put("a.txt", lines("one", "", "2", "", "three"));
  wire.mend();
  await until(() => autosave.state("a.txt")?.state === "saved", "it is saved");
  assert.equal(autosave.state("a.txt")?.text, lines("one", "", "2", "", "three"));
  assert.equal(merged.length, 1);
});

test("what is stopped in the middle of a save stops, and leaves it behind", async (t) => {
  const here = await project({ "a.txt": "" });
  const storage = memoryStorage();
  let stopped: Promise<void> | undefined;
  const slow: typeof fetch = (input, init) => {
    stopped ??= autosave.stop();
    return fetch(input, init);
  };
  const autosave = client({ fetch: slow }).project(here.name).autosave({ user: USER, storage, debounceMs: 1 });
  t.after(() => autosave.stop());
  autosave.open("a.txt", begin(""));
  autosave.change("a.txt", "typed");
  await until(() => stopped !== undefined, "it is stopped");
  await stopped;
  assert.equal((await storage.entries("")).length, 1);
});

/** An earlier page that could not send this. */
async function leftBehind(t: TestContext, here: Project, path: string, from: string, text: string): Promise<AutosaveStorage> {
  const storage = memoryStorage();
  const { autosave, wire } = await desk(t, here, { storage });
  autosave.open(path, begin(from));
  wire.cut();
  autosave.change(path, text);
  await autosave.flush();
  await autosave.stop();
  assert.equal((await storage.entries("")).filter(([key]) => key.endsWith(`file:${path}`)).length, 1);
  return storage;
}

test("what an earlier page left behind reaches an editor that did not wait for it", async (t) => {
  const here = await project({ "a.txt": lines("1", "2", "3") });
  const left = await leftBehind(t, here, "a.txt", lines("1", "2", "3"), lines("one", "2", "3"));
  // What is damaged there harms nothing else.
  for (const [key] of await left.entries("")) for (const name of ["batch", "overtaken", "file:c.txt"]) await left.set(key.replace("file:a.txt", name), "{");
  await left.set(`treehold:${here.name}::${USER}:batch:other`, "{}");
  const { storage, answer } = slow(left);
  const { autosave, merged } = await desk(t, here, { storage });
  void autosave.restore();
  assert.equal(autosave.open("a.txt", begin(lines("1", "2", "3"))).text, lines("1", "2", "3"));
  answer();
  await until(() => merged.length > 0, "the editor is told");
  assert.deepEqual(merged, [{ path: "a.txt", text: lines("one", "2", "3"), before: lines("1", "2", "3") }]);
  await until(() => autosave.state("a.txt")?.state === "saved", "it is saved");
  assert.equal(await view(here, "a.txt"), lines("one", "2", "3"));
});

test("what is typed before an earlier page's text was read is merged with it, or both are shown", async (t) => {
  for (const [typed, comesTo] of [[lines("1", "2", "3", "4", "five"), lines("one", "2", "3", "4", "five")], [lines("eins", "2", "3", "4", "5"), undefined]] as const) {
    const here = await project({ "a.txt": lines("1", "2", "3", "4", "5") });
    const earlier = lines("one", "2", "3", "4", "5");
    const inner = await leftBehind(t, here, "a.txt", lines("1", "2", "3", "4", "5"), earlier);
    const { storage, answer } = slow(inner);
    const { autosave } = await desk(t, here, { storage });
    void autosave.restore();
    autosave.open("a.txt", begin(lines("1", "2", "3", "4", "5")));
    autosave.change("a.txt", typed);
    answer();
    if (comesTo === undefined) {
      await until(() => autosave.state("a.txt")?.state === "conflict", "both are shown");
      assert.deepEqual([autosave.state("a.txt")?.conflict?.ours, autosave.state("a.txt")?.conflict?.theirs], [typed, earlier]);
      assert.equal(await view(here, "a.txt"), earlier);
    } else {
      await until(() => autosave.state("a.txt")?.state === "saved", "it is saved");
      assert.equal(await view(here, "a.txt"), comesTo);
      assert.equal(autosave.state("a.txt")?.text, comesTo);
      await autosave.flush();
      assert.deepEqual(await inner.entries(""), []);
    }
  }
});

test("a text for which the batch is refused does not keep the others from being saved", async (t) => {
  const here = await project({ "a.txt": "", "b.txt": "", ".gitkeep": "" });
  const { autosave, wire, states } = await desk(t, here);
  for (const path of ["a.txt", "b.txt"]) autosave.open(path, begin(""));
  wire.cut();
  autosave.change("a.txt", "fine\n");
  // Half of a letter is no JSON that the server takes.
  autosave.change("b.txt", "half \ud800\n");
  autosave.change(".git/config", "x");
  await autosave.flush();
  assert.deepEqual(autosave.states().map((file) => file.state), ["offline", "offline", "offline"]);
  wire.mend();
  await until(() => !autosave.states().some((file) => ["offline", "waiting", "saving"].includes(file.state)), "each is settled");
  assert.equal(await view(here, "a.txt"), "fine\n");
  assert.equal(autosave.state("a.txt")?.state, "saved");
  const refused = autosave.state(".git/config");
  assert.deepEqual([refused?.state, refused?.error?.code], ["failed", "bad_path"]);
  assert.ok(states.length > 0);
});
