import assert from "node:assert/strict";
import { test } from "node:test";
import { blobOid, TreeholdError, type Author } from "treehold";
import { serving, USER } from "./server.js";

const { client, project, server } = serving();
const author: Author = { name: "Ann", email: "ann@example.org", date: "@1700000000 +0000" };

test("projects are made, listed, changed, forked and deleted", async () => {
  const treehold = client();
  const made = await treehold.createProject({ name: "first", default_branch: "trunk" });
  assert.equal(made.default_branch, "trunk");
  assert.deepEqual(await treehold.createProject({ id: made.id, name: "first", default_branch: "trunk" }), made);
  const changed = await treehold.changeProject("first", { receive: { deny_deletes: true } });
  assert.deepEqual(changed.receive, { deny_deletes: true, deny_non_fast_forwards: false });
  await treehold.project("first").files.write("a", "a");
  const fork = await treehold.fork("first", { name: "second" });
  assert.equal((await treehold.showProject("second")).head, fork.head);
  const listed = await treehold.projects({ limit: 1 }).all();
  assert.deepEqual(listed.map((one) => one.name).filter((name) => name === "first" || name === "second").sort(), ["first", "second"]);
  await treehold.deleteProject("second");
  await assert.rejects(treehold.showProject("second"), { status: 404, code: "project_not_found" });
  await assert.rejects(treehold.deleteProject("second"), { status: 404, code: "project_not_found" });
});

test("a refusal says what the server says", async () => {
  await assert.rejects(client({ key: "wrong" }).projects().all(), (error) => {
    assert.ok(error instanceof TreeholdError);
    assert.deepEqual([error.status, error.code], [401, "unauthorized"]);
    assert.match(error.detail, /X-Internal-API-Key/);
    assert.match(error.requestId ?? "", /^[0-9a-f-]{36}$/);
    return true;
  });
  const here = await project({ "a.txt": "a" });
  const wrong = "1".repeat(40);
  await assert.rejects(here.workspace({ user: USER }).put("a.txt", "b", { expected: wrong }), (error) => {
    assert.ok(error instanceof TreeholdError);
    assert.equal(error.status, 412);
    assert.equal(error.fields["oid"], "2e65efe2a145dda7ee51d1741299f848e5bf752e");
    return true;
  });
  assert.throws(() => client({ token: "x" }), TypeError);
  // A token stands in another header, and a server that takes only keys says so.
  const { Treehold } = await import("treehold");
  await assert.rejects(new Treehold({ baseUrl: server().url, token: "x" }).projects().page(), { status: 401 });
});

test("pending work is saved, shown, compared, committed, and what conflicts is resolved", async () => {
  const here = await project({ "a.txt": "one\ntwo\n", "b/c.txt": "c\n", "run.sh": "#!\n" });
  const work = here.workspace({ user: USER, device: "laptöp", actor: "person:ann" });
  const saved = await work.put("a.txt", "one\n2\n");
  assert.equal(saved.action, "modified");
  await work.delete("b/c.txt");
  await work.put("new/ü €.txt", "new\n", { expected: null });
  const pending = await work.list({ limit: 1 }).all();
  assert.deepEqual(pending.map((entry) => [entry.path, entry.action, entry.device]), [
    ["a.txt", "modified", "laptöp"], ["b/c.txt", "deleted", "laptöp"], ["new/ü €.txt", "created", "laptöp"],
  ]);
  assert.equal((await work.get("a.txt")).text(), "one\n2\n");
  assert.match(await here.diffText({ user: USER }), /\+2/);
  assert.deepEqual((await here.diff({ user: USER, limit: 1 }).all()).map((file) => file.additions), [1, 0, 1]);
  assert.equal((await here.changedPaths({ user: USER }).all()).length, 3);
  // Somebody else was faster with the same line.
  await here.files.write("a.txt", "one\nzwei\n", { ifMatch: saved.base_oid });
  await assert.rejects(here.files.write("a.txt", "x", { ifMatch: saved.base_oid }), { status: 412 });
  const status = await work.status();
  assert.deepEqual(status.changes.map((change) => change.state), ["conflict", "clean", "clean"]);
  await assert.rejects(work.commit({ message: "M", author }), (error) => {
    assert.ok(error instanceof TreeholdError && error.code === "conflict");
    assert.deepEqual((error.fields["conflicts"] as { path: string }[]).map((conflict) => conflict.path), ["a.txt"]);
    return true;
  });
  const [conflict] = await work.conflicts().all();
  assert.deepEqual([conflict?.base?.content, conflict?.ours?.content, conflict?.theirs?.content], ["one\ntwo\n", "one\n2\n", "one\nzwei\n"]);
  await work.resolve([{ path: "a.txt", take: "text", content: "one\n2 zwei\n", theirs: conflict?.theirs?.oid ?? null }]);
  const key = "the-same";
  const commit = await work.commit({ message: "M", author }, { idempotencyKey: key });
  assert.deepEqual(commit.files.map((file) => file.path), ["a.txt", "b/c.txt", "new/ü €.txt"]);
  assert.deepEqual(await work.commit({ message: "M", author }, { idempotencyKey: key }), commit);
  assert.equal((await here.files.read("new/ü €.txt")).text(), "new\n");
  await assert.rejects(here.files.read("b/c.txt"), { code: "file_not_found" });
});

test("a batch, local history, checkpoints", async () => {
  const here = await project({ "a.txt": "1\n" });
  const work = here.workspace({ user: USER });
  await work.put("a.txt", "2\n");
  const point = await work.createCheckpoint("two", { message: "before three" });
  const batch = await work.batch({
    atomic: false,
    ops: [{ op: "edit", path: "a.txt", old_string: "2", new_string: "3" }, { op: "edit", path: "a.txt", old_string: "9", new_string: "3" }],
  });
  assert.deepEqual(batch.results.map((result) => [result.status, result.error?.code]), [["applied", undefined], ["failed", "no_match"]]);
  const versions = await work.history({ path: "a.txt", limit: 1 }).all();
  assert.equal(versions.length, 2);
  const older = versions[1]!;
  assert.equal((await work.version(older.id)).text(), "2\n");
  assert.match((await work.versionDiff(older.id)).files[0]?.patch ?? "", /\+3/);
  await work.restoreVersion(older.id);
  assert.equal((await work.get("a.txt")).text(), "2\n");
  await work.put("a.txt", "4\n");
  assert.equal((await work.checkpoint(point.id)).files.length, 1);
  assert.equal((await work.checkpointDiff(point.id)).files.length, 1);
  const restored = await work.restoreCheckpoint(point.id);
  assert.equal(restored.changed, 1);
  assert.equal((await work.get("a.txt")).text(), "2\n");
  await work.deleteCheckpoint(point.id);
  assert.deepEqual((await work.checkpoints().all()).map((one) => one.id), [restored.before?.id]);
  await assert.rejects(work.drop("a.txt", { expected: blobOid("4\n") }), { status: 412, code: "precondition_failed" });
  assert.equal((await work.drop("a.txt", { expected: blobOid("2\n") })).dropped, 1);
  assert.equal((await work.dropAll()).dropped, 0);
});

test("history, blame, refs and the reflog", async () => {
  const here = await project({ "a.txt": "1\n2\n" });
  const first = (await here.log().all())[0]!;
  const second = await here.commit({ message: "Second", author, actions: [{ action: "update", path: "a.txt", content: "1\nzwei\n" }] });
  await here.files.write("other", "x");
  const log = await here.log({ path: "a.txt", limit: 1 }).all();
  assert.deepEqual(log.map((entry) => entry.message.trim()), ["Second", "Begin"]);
  const blame = await here.blame("a.txt");
  assert.deepEqual(blame.ranges.map((range) => range.commit), [first.commit, second.commit]);
  await here.writeRef("heads/side", { oid: first.commit });
  await here.writeRef("tags/v1", { oid: first.commit, expected_oid: "0".repeat(40) });
  assert.deepEqual((await here.refs({ limit: 1 }).all()).map((ref) => ref.name), ["refs/heads/main", "refs/heads/side", "refs/tags/v1"]);
  await here.deleteRef("heads/side", { expectedOid: first.commit });
  const moves = await here.reflog({ ref: "heads/side" }).all();
  assert.deepEqual(moves.map((move) => [move.from, move.to]), [[first.commit, null], [null, first.commit]]);
});
