import assert from "node:assert/strict";
import { test } from "node:test";
import { blobOid, bytesOf, encodePath, merge3, type Found, type ReadItem, type Snapshot } from "treehold";
import { serving, USER, Wire } from "./server.js";

const { client, imported, project, server } = serving();

test("a file is read whole, in part, and only if it changed", async () => {
  const here = await project({ "a.txt": "0123456789" });
  const whole = await here.files.read("a.txt");
  assert.deepEqual([whole.text(), whole.oid, whole.mode, whole.partial], ["0123456789", blobOid("0123456789"), "100644", false]);
  assert.match(whole.commit ?? "", /^[0-9a-f]{40}$/);
  const part = await here.files.read("a.txt", { range: { start: 2, end: 5 } });
  assert.deepEqual([part.text(), part.partial], ["234", true]);
  assert.equal((await here.files.read("a.txt", { range: { start: 8 } })).text(), "89");
  assert.equal(await here.files.readIfChanged("a.txt", whole.oid), undefined);
  assert.equal((await here.files.readIfChanged("a.txt", "1".repeat(40)))?.text(), "0123456789");
  const bytes = new Uint8Array([0, 255, 10]);
  const commit = await here.files.write("bin", bytes, { message: "Bytes", authorName: "B", authorEmail: "b@example.org", ifMatch: null });
  assert.deepEqual((await here.files.read("bin", { ref: commit.commit })).bytes, bytes);
  await here.files.delete("bin");
  await assert.rejects(here.files.read("bin"), { status: 404, code: "file_not_found" });
});

test("every path arrives as it is meant", async () => {
  const here = await project();
  for (const path of ["a b/c+d&e=f;g#h", "ü/€/日本", "100%", "x%2Fy", "…/..a"]) {
    await here.files.write(path, path);
    assert.equal((await here.files.read(path)).text(), path);
  }
  const bytes = new Uint8Array([0x61, 0x2f, 0xff]);
  await here.files.write(bytes, "not UTF-8").then(
    async () => assert.equal((await here.files.read(bytes)).text(), "not UTF-8"),
    (error) => assert.equal(error.code, "bad_path"),
  );
  for (const bad of ["a/../b", "./a", "a/.", ".git/config", "a//b", ""]) {
    await assert.rejects(here.files.write(bad, "x"), { code: "bad_path" }, bad);
  }
  for (const bad of [".", ".."]) assert.throws(() => encodePath(bad), { code: "bad_path" });
});

test("a list of thousands of files comes as a stream, and survives a cut in the middle of it", async () => {
  const files = Object.fromEntries(Array.from({ length: 5_000 }, (_, n) => [`dir${n % 50}/file-${n}-with-a-name-of-some-length.txt`, `${n % 7}`]));
  const { project: here } = imported(files);
  const wire = await Wire.to(server().url);
  try {
    const far = client({ baseUrl: wire.url, headers: { "Accept-Encoding": "identity" } }).project(here.name);
    let snapshot: Snapshot | undefined;
    wire.cutAfter(300_000);
    const paths: string[] = [];
    for await (const file of far.files.list({ user: USER, onSnapshot: (of) => (snapshot = of) })) paths.push(file.path);
    assert.deepEqual(paths, Object.keys(files).sort());
    assert.equal(snapshot?.revision, 0);
    assert.ok(wire.connections >= 2, "it was cut, and came back");
    // Leaving early gives the connection up.
    for await (const file of far.files.list({ prefix: "dir7/" })) {
      assert.ok(file.path.startsWith("dir7/"));
      break;
    }
    const page = await far.files.page({ limit: 10 });
    assert.deepEqual([page.files.length, page.next_cursor === null], [10, false]);
  } finally {
    await wire.close();
  }
});

test("a cut list that changed meanwhile is not mixed from two snapshots", async () => {
  const files = Object.fromEntries(Array.from({ length: 5_000 }, (_, n) => [`f-${n}-with-a-name-of-some-length-too`, "x"]));
  const { project: here } = imported(files);
  const wire = await Wire.to(server().url);
  try {
    const far = client({ baseUrl: wire.url, headers: { "Accept-Encoding": "identity" } }).project(here.name);
    wire.cutAfter(300_000);
    const read = async () => {
      let first = true;
      for await (const _ of far.files.list()) {
        if (first) await here.files.write("another", "y");
        first = false;
      }
    };
    await assert.rejects(read(), { code: "snapshot_changed" });
  } finally {
    await wire.close();
  }
});

test("many files come in order, whole, though each answer is cut by its budget", async () => {
  const text = "äöü €\n".repeat(50);
  const here = await project({ "a.txt": text, "b.txt": "b", "lines.txt": "1\n2\n3\n4\n" });
  const bytes = Uint8Array.from({ length: 500 }, (_, n) => n % 256);
  await here.files.write("bin", bytes);
  const items: ReadItem[] = [];
  const paths = ["bin", "a.txt", "missing", { path: "lines.txt", start_line: 2, end_line: 3 }, "b.txt"];
  for await (const item of here.files.readMany(paths, { maxBytes: 37 })) items.push(item);
  assert.deepEqual(items.map((item) => item.path), ["bin", "a.txt", "missing", "lines.txt", "b.txt"]);
  const [bin, a, missing, lines, b] = items;
  assert.ok(bin && "content" in bin && a && "content" in a && missing && "error" in missing && lines && "content" in lines && b && "content" in b);
  assert.deepEqual(bytesOf(bin), bytes);
  assert.equal(bytesOf(a).length, new TextEncoder().encode(text).length);
  assert.equal(new TextDecoder().decode(bytesOf(a)), text);
  assert.ok(items.every((item) => !("truncated" in item)));
  assert.equal(missing.error.code, "file_not_found");
  assert.deepEqual([lines.content, lines.start_line, lines.end_line], ["2\n3\n", 2, 3]);
  for await (const _ of here.files.readMany([])) assert.fail("nothing was asked for");
});

test("a search finds what is there, also in pieces and in pending work", async () => {
  const here = await project(Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`f${n}.txt`, `needle ${n}\nhay\n`])));
  await here.workspace({ user: USER }).put("f3.txt", "straw\nneedle mine\n");
  const found: Found[] = [];
  let searched = 0;
  const ends = { onEnd: (end: { files_searched: number }) => (searched += end.files_searched) };
  for await (const hit of here.search({ query: "needle \\w+", regex: true, user: USER, globs: ["*.txt"], context: 1 }, ends)) found.push(hit);
  assert.equal(found.length, 30);
  assert.equal(searched, 30);
  const mine = found.find((hit) => hit.path === "f3.txt")!;
  assert.deepEqual([mine.line, mine.source, mine.before?.[0]?.text], [2, "pending", "straw"]);
  let limited = 0;
  for await (const _ of here.search({ query: "needle", limit: 7 })) limited++;
  assert.equal(limited, 7);
  await assert.rejects(here.search({ query: "(", regex: true }).next(), { status: 422 });
});

test("texts merge as git merges them", () => {
  assert.equal(merge3("1\n2\n3\n4\n5\n", "1\nzwei\n3\n4\n5\n", "1\n2\n3\n4\nfünf\n"), "1\nzwei\n3\n4\nfünf\n");
  assert.equal(merge3("1\n2\n", "1\n", "1\n2\n3\n"), undefined, "side by side is a conflict");
  assert.equal(merge3("1\n2\n3\n5\n", "1\n3\n5\n", "1\n2\n3\n5\n6\n"), "1\n3\n5\n6\n");
  assert.equal(merge3("a\n", "b\n", "c\n"), undefined);
  assert.equal(merge3("a\nb\n", "x\nb\n", "x\nb\n"), "x\nb\n");
  assert.equal(merge3("", "a\n", "b\n"), undefined);
  assert.equal(merge3("a\nb\nc\nd\n", "a\nX\nc\nd\n", "a\nX\nc\nY\n"), "a\nX\nc\nY\n");
});
