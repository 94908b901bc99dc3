// What earlier pages left behind, and the server refuses.
import assert from "node:assert/strict";
import { test } from "node:test";
import { blobOid, memoryStorage, newUuid, type AutosaveStorage, type PendingOp, type Project } from "treehold";
import { begin, desks, lines, slow, view } from "./desk.js";
import { until, USER } from "./server.js";

const { project, desk } = desks();

const overtakenOf = async (storage: AutosaveStorage) =>
  (await storage.entries("")).filter(([key]) => key.endsWith(":overtaken")).flatMap(([, value]) => JSON.parse(value) as PendingOp[]);

/** A storage in which earlier pages left these behind. */
async function overtaken(here: Project, ...ops: PendingOp[]): Promise<AutosaveStorage> {
  const storage = memoryStorage();
  await storage.set(`treehold:${here.name}::${USER}:overtaken`, JSON.stringify(ops));
  return storage;
}

test("what the server refuses of an earlier page's texts is shown as failed, kept, and can be put right", async (t) => {
  const here = await project({ "a.txt": "a\n", "b.txt": "b\n" });
  const refused: PendingOp = { op: "put", path: "a.txt/below", content: "typed long ago\n", expected_oid: null };
  const storage = await overtaken(
    here, refused, { op: "put", path: "b.txt", content: "b, longer\n", expected_oid: blobOid("b\n") }, { op: "delete", path: "gone.txt" },
  );
  for (const page of [1, 2]) {
    const { autosave } = await desk(t, here, { storage });
    await autosave.restore();
    await until(() => autosave.state(refused.path)?.state === "failed" && !autosave.away, `page ${page} shows it`);
    const { text, error } = autosave.state(refused.path) ?? {};
    assert.deepEqual([text, error?.status], [refused.content, 422]);
    assert.match(error?.detail ?? "", /\S/);
    assert.deepEqual((await autosave.flush()).map((file) => file.path), [refused.path]);
    // An editor begins with it.
    assert.equal(autosave.open(refused.path, { oid: null, text: null }).text, refused.content);
    assert.deepEqual((await storage.entries("")).map(([key]) => key.split(":").slice(-2).join(":")), [`file:${refused.path}`]);
    await autosave.stop();
  }
  assert.equal(await view(here, "b.txt"), "b, longer\n");
  await here.workspace({ user: USER }).delete("a.txt");
  const { autosave } = await desk(t, here, { storage });
  await autosave.restore();
  await until(() => autosave.state(refused.path)?.state === "saved", "it is saved");
  assert.equal(await view(here, refused.path), refused.content);
  assert.deepEqual(await storage.entries(""), []);
});

test("a refused text of an earlier page takes nothing from an editor that has its own", async (t) => {
  const here = await project({ "a.txt": "a\n" });
  const [older, newer] = ["older\n", "newer\n"].map((content): PendingOp => ({ op: "put", path: ".git/config", content, expected_oid: null }));
  const inner = await overtaken(here, older!, newer!);
  const { storage, answer } = slow(inner);
  const { autosave } = await desk(t, here, { storage, debounceMs: 60_000, maxWaitMs: 60_000 });
  void autosave.restore();
  autosave.open(".git/config", { oid: null, text: null });
  autosave.change(".git/config", "typed now\n");
  answer();
  await until(() => autosave.state(".git/config")?.state === "failed", "it is told");
  await until(async () => (await autosave.flush()).length === 1, "the rest is settled");
  assert.equal(autosave.state(".git/config")?.text, "typed now\n");
  assert.deepEqual(await overtakenOf(inner), [older, newer]);
  assert.ok((await inner.entries("")).some(([key, value]) => key.endsWith("file:.git/config") && value.includes("typed now")));
});

test("a refused text stays where it was if the storage takes no more", async (t) => {
  const here = await project({ "a.txt": "a\n" });
  const op: PendingOp = { op: "put", path: "a.txt/below", content: "typed\n", expected_oid: null };
  const inner = await overtaken(here, op);
  const set = async (key: string, value: string) => {
    if (key.includes(":file:")) throw new Error("full");
    await inner.set(key, value);
  };
  const { autosave } = await desk(t, here, { storage: { ...inner, set } });
  await autosave.restore();
  await until(() => autosave.state(op.path)?.state === "failed" && !autosave.away, "it is told");
  assert.deepEqual(await overtakenOf(inner), [op]);
});

test("an earlier page's text that is saved is not sent again because the editor cannot show what it came to", async (t) => {
  const base = lines("1", "2", "3");
  const here = await project({ "a.txt": base });
  await here.workspace({ user: USER }).put("a.txt", new Uint8Array([...new TextEncoder().encode(lines("1", "2")), 0xe9, 0x0a]));
  const storage = await overtaken(here, { op: "put", path: "a.txt", content: lines("one", "2", "3"), expected_oid: blobOid(base) });
  const { autosave } = await desk(t, here, { storage });
  autosave.open("a.txt", begin(base));
  await autosave.restore();
  await until(async () => !autosave.away && (await storage.entries("")).length === 0, "nothing is left of it");
  assert.equal(autosave.state("a.txt")?.state, "saved");
  const merged = (await here.files.read("a.txt", { user: USER })).bytes;
  assert.deepEqual(merged, new Uint8Array([...new TextEncoder().encode(lines("one", "2")), 0xe9, 0x0a]));
});

test("of a batch of several files that is refused as a whole, each file's text is shown as failed", async (t) => {
  const here = await project({ "a.txt": "a\n" });
  const storage = memoryStorage();
  const ops = ["a.txt/one", "a.txt/two", "a.txt/three"].map((path): PendingOp => ({ op: "put", path, content: `${path}\n`, expected_oid: null }));
  const older: PendingOp = { op: "put", path: "a.txt/one", content: "older\n", expected_oid: null };
  await storage.set(`treehold:${here.name}::${USER}:batch`, JSON.stringify({ key: newUuid(), ops: [older, ...ops] }));
  const { autosave } = await desk(t, here, { storage });
  await autosave.restore();
  await until(() => autosave.states().length > 0 && !autosave.away, "it is answered");
  const failed = (await autosave.flush()).map(({ path, state, text }) => [path, state, text]);
  assert.deepEqual(failed.sort(), ops.map(({ path, content }) => [path, "failed", content]).sort());
  assert.deepEqual(await overtakenOf(storage), [older]);
});
