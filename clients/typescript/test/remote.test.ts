import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { SyncProgress } from "treehold";
import { git, serving, USER } from "./server.js";

const { imported } = serving();

test("commits leave in one push, pulls tell how far they are, and git agrees", async () => {
  const { project, remote } = imported({ "a.txt": "1\n2\n3\n", "b.txt": "b\n" });
  const work = project.workspace({ user: USER });
  await work.put("a.txt", "1\n2\ndrei\n");
  const commit = await work.commit({ message: "Third", author: { name: "Ann", email: "ann@example.org" } });
  assert.equal(commit.pushed, true);
  assert.equal(git(remote, "rev-parse", "main").trim(), commit.commit);
  // Somebody pushes with git.
  const clone = mkdtempSync(join(tmpdir(), "treehold-clone-"));
  try {
    git(clone, "clone", "--quiet", remote, ".");
    writeFileSync(join(clone, "b.txt"), "b\nfrom git\n");
    git(clone, "commit", "--quiet", "-am", "From git");
    git(clone, "push", "--quiet", "origin", "main");
  } finally {
    rmSync(clone, { recursive: true, force: true });
  }
  await work.put("b.txt", "b, pending\n");
  const steps: SyncProgress[] = [];
  const pulled = await project.sync({}, { onProgress: (step) => steps.push(step) });
  assert.deepEqual(pulled.changed.map((file) => file.path), ["b.txt"]);
  assert.deepEqual(pulled.pending.map((touched) => [touched.path, touched.state]), [["b.txt", "conflict"]]);
  assert.deepEqual((await project.sync({ dry_run: true })).changed, []);
  assert.ok(steps.length > 0, "no progress was told");
  assert.ok(steps.every((step) => step.step !== "" && step.done >= 0));
  // A commit that stays here is sent by a push.
  await work.resolve([{ path: "b.txt", take: "ours" }]);
  const kept = await work.commit({ message: "Here", author: { name: "Ann", email: "ann@example.org" }, push: false });
  assert.equal(kept.pushed, false);
  assert.equal((await work.status()).ahead, 1);
  const pushed = await project.push();
  assert.deepEqual([pushed.pushed, pushed.to, pushed.commits], [true, kept.commit, 1]);
  assert.equal(git(remote, "rev-parse", "main").trim(), kept.commit);
  git(remote, "fsck", "--strict");
});

test("a refused pull is the server's sentence, also in a stream", async () => {
  const { project, remote } = imported({ "a.txt": "a\n" });
  rmSync(remote, { recursive: true, force: true });
  await assert.rejects(project.sync({}, { onProgress: () => {} }), (error: { status: number; detail: string }) => {
    assert.ok(error.status >= 400);
    assert.ok(error.detail.length > 10);
    return true;
  });
});
