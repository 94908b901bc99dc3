// Branches, search, checkpoints, and what is not edited: in a real browser, against the real server.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { git, until, Wire } from "../../clients/typescript/build/test/server.js";
import { openBrowser, openPage, shoot, textOf } from "./browser.mjs";
import { desk, editor, file, go, saved, USER } from "./desk.mjs";

const { browser, server, client, project, imported, at, view } = desk();
const branches = (page) => page.getByRole("button", { name: /^Branch / });
const hash = (page) => page.evaluate(() => location.hash);

test("another branch is made, edited, committed and pushed, by keys, and the address comes back to it", async (t) => {
  const { project: here, remote } = imported({ "a.txt": "one\n", "b.txt": "b\n" });
  const { id } = await client().showProject(here.name);
  const page = await at(t, `#/p/${id}/files/a.txt`);
  await editor(page, "a.txt").waitFor();
  // A branch from here.
  await branches(page).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("option", { name: /^main/ }).waitFor();
  await page.getByText("New branch from here").click();
  await page.getByLabel("Name", { exact: true }).fill("..bad");
  await page.getByRole("button", { name: "Make it" }).click();
  await page.getByRole("dialog").getByRole("alert").waitFor();
  await page.getByLabel("Name", { exact: true }).fill("feature/x");
  await page.getByRole("button", { name: "Make it" }).click();
  await page.getByRole("button", { name: "Branch feature/x" }).waitFor();
  assert.equal(await hash(page), `#/p/${id}/files/a.txt?branch=feature%2Fx`);
  // What is typed there is there, and not on main.
  await editor(page, "a.txt").click();
  await page.keyboard.press("Control+End");
  await page.keyboard.type("on the branch");
  await saved(page);
  assert.deepEqual([await view(here, "a.txt", "feature/x"), await view(here, "a.txt")], ["one\non the branch", "one\n"]);
  await page.reload();
  await editor(page, "a.txt").waitFor();
  assert.equal(await textOf(page, "a.txt"), "one\non the branch");
  // So does its address in another window, whose user signs in first.
  const { page: shared } = await openPage(browser().context, `${server().url}/console${await hash(page)}`);
  await shared.getByLabel("Key of this server").fill(server().key);
  await shared.getByRole("button", { name: "Sign in" }).click();
  await editor(shared, "a.txt").waitFor();
  assert.equal(await textOf(shared, "a.txt"), "one\non the branch");
  await shared.close();
  await page.getByRole("link", { name: "Changes 1" }).click();
  await page.getByText("+on the branch").waitFor();
  await page.getByLabel("Message").fill("On the branch");
  await page.getByRole("button", { name: "Commit 1 file" }).click();
  await page.getByText("and pushed").waitFor();
  assert.equal(git(remote, "log", "--format=%s", "-1", "feature/x"), "On the branch\n");
  assert.equal(git(remote, "log", "--format=%s", "-1", "main"), "Begin\n");
  await page.getByRole("button", { name: "Pull" }).click();
  await page.getByText("Nothing new").waitFor();
  await page.getByRole("link", { name: "History" }).click();
  await page.getByText("On the branch").first().waitFor();
  // Back, by keys alone.
  await page.getByRole("link", { name: /^Files/ }).click();
  await page.getByRole("treeitem", { name: "a.txt" }).click();
  await branches(page).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("option", { name: /^main/ }).waitFor();
  await page.keyboard.type("feat");
  await page.getByRole("option", { name: /^feature/ }).waitFor();
  await shoot(page, "branches");
  for (let n = 0; n < 4; n++) await page.keyboard.press("Backspace");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Branch main" }).waitFor();
  await editor(page, "a.txt").waitFor();
  await until(async () => (await textOf(page, "a.txt")) === "one\n", "main is shown");
  assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("aria-label")), "Branch main");
});

test("a branch that diverged from its remote is merged by a pull", async (t) => {
  const { project: here, remote } = imported({ "a.txt": "a\n", "b.txt": "b\n" });
  const { id } = await client().showProject(here.name);
  const clone = mkdtempSync(join(tmpdir(), "treehold-clone-"));
  try {
    git(clone, "clone", "--quiet", remote, ".");
    git(clone, "switch", "--quiet", "-c", "apart");
    git(clone, "push", "--quiet", "origin", "apart");
    const page = await at(t, `#/p/${id}/changes`);
    await here.sync({ branch: "apart" });
    await here.files.write("a.txt", "ours\n", { branch: "apart" });
    writeFileSync(join(clone, "b.txt"), "theirs\n");
    git(clone, "commit", "--quiet", "-am", "Theirs");
    git(clone, "push", "--quiet", "origin", "apart");
    await go(page, `#/p/${id}/changes?branch=apart`);
    await page.getByText("1 ahead").waitFor();
    await page.getByRole("button", { name: "Pull" }).click();
    await page.getByRole("button", { name: "Pull, and merge both" }).click();
    await page.getByText("1 file changed").waitFor();
  } finally {
    rmSync(clone, { recursive: true, force: true });
  }
  const both = await Promise.all(["a.txt", "b.txt"].map(async (path) => (await here.files.read(path, { ref: "apart" })).text()));
  assert.deepEqual(both, ["ours\n", "theirs\n"]);
});

test("an ephemeral branch is marked, and kept or taken over", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const { refs: [main] } = await here.refs().page();
  await here.writeRef("heads/kept", { oid: main.oid, ephemeral: true });
  const page = await at(t, `#/p/${here.name}/files/a.txt?branch=kept`);
  await page.getByRole("button", { name: "Branch kept" }).getByText("ends").waitFor();
  await branches(page).click();
  await page.getByRole("option", { name: /^kept/ }).getByText("ends in 6 days").waitFor();
  await shoot(page, "ephemeral");
  await page.getByRole("button", { name: "Keep kept" }).click();
  await page.getByRole("button", { name: "Branch kept" }).getByText("ends").waitFor({ state: "detached" });
  // One that goes on is taken over into main, and goes.
  await branches(page).click();
  await page.getByText("New branch from here").click();
  await page.getByLabel("Name", { exact: true }).fill("try");
  await page.getByLabel("ends by itself").check();
  await page.getByRole("button", { name: "Make it" }).click();
  await page.getByRole("button", { name: "Branch try" }).getByText("ends").waitFor();
  await editor(page, "a.txt").click();
  await page.keyboard.press("Control+Home");
  await page.keyboard.type("tried ");
  await saved(page);
  await page.getByRole("link", { name: "Changes 1" }).click();
  await page.getByLabel("Message").fill("Try");
  await page.getByRole("button", { name: "Commit 1 file" }).click();
  await page.getByText("Committed as").waitFor();
  await branches(page).click();
  await page.getByRole("button", { name: "Take it over into" }).click();
  await page.getByRole("button", { name: "Branch main" }).waitFor();
  assert.equal((await here.files.read("a.txt")).text(), "tried one\n");
  // A link to one that is gone says so.
  await go(page, `#/p/${here.name}/files?branch=try`);
  await page.getByText("There is no branch try").waitFor();
  await page.getByRole("link", { name: "Go to main" }).click();
  await page.getByRole("button", { name: "Branch main" }).waitFor();
});

test("what is typed on a branch when the network is cut is not lost by going to another one", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const { refs: [main] } = await here.refs().page();
  await here.writeRef("heads/other", { oid: main.oid });
  const wire = await Wire.to(server().url);
  t.after(() => wire.close());
  const page = await at(t, `#/p/${here.name}/files/a.txt?branch=other`, { url: wire.url });
  await editor(page, "a.txt").click();
  await page.keyboard.press("Control+End");
  await page.keyboard.type("typed, ");
  wire.cut();
  await page.keyboard.type("and cut");
  await until(async () => (await page.locator(".save").getAttribute("data-state")) === "offline", "it is offline");
  await go(page, `#/p/${here.name}/files/a.txt`);
  await page.getByRole("alert").waitFor();
  wire.mend();
  await page.getByRole("button", { name: "Try again" }).click();
  // Left for main, where that is told.
  await page.getByText("Something that was typed is not saved yet on").waitFor();
  assert.equal(await textOf(page, "a.txt"), "one\n");
  await page.getByRole("link", { name: "other" }).click();
  await until(async () => (await view(here, "a.txt", "other")) === "one\ntyped, and cut", "it is saved where it was typed");
  assert.equal(await view(here, "a.txt"), "one\n");
});

test("a search comes as it is found, opens a file at its line, and gives way to the next one", async (t) => {
  const lines = Array.from({ length: 400 }, (_, n) => (n === 299 ? "let wanted = Größe(1);" : `line ${n + 1}`));
  const here = await project({ "src/deep.rs": `${lines.join("\n")}\n`, "docs/a.md": "A Wanted word\n", "b.txt": "wanted\nwanted elsewhere\n", "x.txt": "x".repeat(5_000) });
  await here.workspace({ user: USER }).put("c.txt", "pending and wanted\n");
  const page = await at(t, `#/p/${here.name}/search`);
  const ask = async (query) => {
    await page.getByLabel("Look for").fill(query);
    await page.keyboard.press("Enter");
  };
  await ask("wanted");
  await page.getByText("5 matches in 4 files, of 5 searched").waitFor();
  await page.getByRole("region", { name: "c.txt" }).getByText("pending", { exact: true }).waitFor();
  await page.getByLabel("Case").selectOption("sensitive");
  await page.getByLabel("Only in, or not in").fill("*.txt *.rs !b.txt");
  await page.getByLabel("Lines around").selectOption("2");
  await ask("wanted");
  await page.getByText("2 matches in 2 files").waitFor();
  await page.getByText("line 298").waitFor();
  await page.getByLabel("regular expression").check();
  await ask("(");
  await page.getByText(/^The regular expression is refused/).waitFor();
  await ask("gr\u00f6\u00dfe|Gr\u00f6\u00dfe\\(\\d\\)");
  await page.getByText("1 match in 1 file").waitFor();
  assert.equal(await page.locator("mark").textContent(), "Gr\u00f6\u00dfe(1)");
  await shoot(page, "search");
  await page.getByRole("link", { name: /let wanted/ }).click();
  await editor(page, "src/deep.rs").waitFor();
  assert.match(await hash(page), /\?line=300$/);
  await page.locator(".cm-activeLine", { hasText: "let wanted" }).waitFor();
  // What was found is still there.
  await page.goBack();
  await page.getByText("1 match in 1 file").waitFor();
  // One that is held back is given up for the next one.
  const cancelled = [];
  page.on("requestfailed", (request) => request.url().endsWith("/search") && cancelled.push(request.postDataJSON().query));
  await page.route(/\/search$/, (route) => new Promise((done) => setTimeout(() => done(route.continue().catch(() => {})), 60_000).unref()), { times: 1 });
  await ask("line \\d+");
  await page.getByRole("button", { name: "Stop" }).waitFor();
  await ask("pending");
  await page.getByText("1 match in 1 file, of").waitFor();
  assert.ok(cancelled.includes("line \\d+"), "the first one was cancelled");
});

test("a checkpoint is made, compared, restored, and that undone", async (t) => {
  const here = await project({ "a.txt": "one\n", "b.txt": "b\n" });
  const work = here.workspace({ user: USER, device: "phone" });
  await work.put("a.txt", "two\n");
  const page = await at(t, `#/p/${here.name}/checkpoints`);
  await page.getByText("No checkpoint yet").waitFor();
  await page.getByLabel("Name", { exact: true }).fill("before");
  await page.getByLabel("What it is for").fill("as it was");
  await page.getByRole("button", { name: "Keep 1 pending file" }).click();
  await page.getByText("before has 1 change").waitFor();
  await page.getByLabel("Name", { exact: true }).fill("before");
  await page.getByRole("button", { name: "Keep 1 pending file" }).click();
  await page.getByRole("alert").waitFor();
  await work.put("a.txt", "three\n");
  await work.put("c.txt", "new\n");
  await page.getByRole("button", { name: "Compare" }).click();
  await page.getByText("+three").waitFor();
  await shoot(page, "checkpoints");
  await page.getByRole("button", { name: "Restore" }).click();
  await page.getByText("before is restored: 2 changes").waitFor();
  assert.equal(await view(here, "a.txt"), "two\n");
  assert.deepEqual((await work.list().all()).map((entry) => entry.path), ["a.txt"]);
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByText("What was pending before is back").waitFor();
  assert.deepEqual([await view(here, "a.txt"), await view(here, "c.txt")], ["three\n", "new\n"]);
  const before = page.getByRole("listitem").filter({ hasText: "as it was" });
  await before.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete it" }).click();
  await page.getByText("before is deleted").waitFor();
});

test("what is large or no text is shown as what it is, and downloaded", async (t) => {
  const here = await project({ "a.txt": "a" });
  const work = here.workspace({ user: USER });
  const line = "a line of a large text\n";
  const large = line.repeat(Math.ceil(((5 << 20) + 7) / line.length));
  await work.put("large.txt", large);
  const image = new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 1, 2, 3, 0xff]);
  await work.put("image.png", image);
  await work.put("latin.txt", new Uint8Array([0x63, 0x61, 0x66, 0xe9, 0x0a]));
  await work.put("empty.txt", "");
  const page = await at(t, file(here, "large.txt"));
  await page.getByText("A large text of 5.0 MiB").waitFor();
  await page.getByRole("textbox", { name: "The begin of large.txt" }).getByText(line.trim()).first().waitFor();
  const download = async () => {
    const [got] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).click()]);
    return { name: got.suggestedFilename(), bytes: readFileSync(await got.path()) };
  };
  const got = await download();
  assert.deepEqual([got.name, got.bytes.length], ["large.txt", large.length]);
  await go(page, file(here, "image.png"));
  await page.getByText("A PNG image of 13 B").waitFor();
  await page.getByText("89 50 4e 47").waitFor();
  await shoot(page, "binary");
  assert.deepEqual(new Uint8Array((await download()).bytes), image);
  await go(page, file(here, "latin.txt"));
  await page.getByText("Text that is not UTF-8").waitFor();
  await page.getByText("caf\u00b7").waitFor();
  await go(page, file(here, "empty.txt"));
  await editor(page, "empty.txt").waitFor();
});

test("sizes are shown where the server tells them, and what is not pushed", async (t) => {
  const { project: here } = imported({ "a.txt": "one\n" });
  const { id } = await client().showProject(here.name);
  await here.files.write("a.txt", "two\n", { branch: "main" });
  const page = await at(t, "#/");
  const row = page.getByRole("row").filter({ has: page.locator(`a[href*="${id}"]`) });
  // Rows ask once they are on the screen, which projects of other tests may push them off.
  await row.scrollIntoViewIfNeeded();
  await row.getByText("1 ahead").waitFor();
  const told = await page.evaluate(async ([url, key]) => (await (await fetch(url, { headers: { "X-Internal-API-Key": key } })).json()).usage, [`${server().url}/projects/${id}`, server().key]);
  assert.equal(await page.getByRole("columnheader", { name: "Size" }).count(), told ? 1 : 0);
  // As a server tells it that counts.
  await page.route(new RegExp(`/projects/${id}$`), async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), usage: { bytes: 3 << 20, quota_bytes: 4 << 20 } } });
  });
  await go(page, "#/operations");
  await page.getByRole("heading", { name: "Operations", exact: true }).waitFor();
  await go(page, "#/");
  await row.scrollIntoViewIfNeeded();
  await row.getByText("3.0 MiB of 4.0 MiB").waitFor();
  await shoot(page, "projects");
});

test("the server's work is plotted: load, latency, routes", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const page = await at(t, "#/operations");
  await page.getByRole("img", { name: /^Requests/ }).waitFor();
  await here.files.read("a.txt");
  for (const name of [/^Requests: \d/, /^99 of 100 within: \d+(\.\d)? m?s/, /^Half are answered within: \d/]) await page.getByRole("img", { name }).waitFor();
  await page.getByText("Which requests take the time").click();
  await page.getByText("GET /projects", { exact: true }).waitFor();
  await shoot(page, "operations");
});

test("a conflict is resolved, a branch chosen, and a search done on a phone", async (t) => {
  const phone = await openBrowser({ viewport: { width: 360, height: 700 }, hasTouch: true });
  t.after(() => phone.close());
  const here = await project({ "a.txt": "one\ntwo\n" });
  const { refs: [main] } = await here.refs().page();
  await here.writeRef("heads/a-branch-with-quite-a-long-name/of-somebody", { oid: main.oid });
  await here.workspace({ user: USER }).put("a.txt", "mine\ntwo\n");
  await here.files.write("a.txt", "theirs\ntwo\n");
  const page = await at(t, `#/p/${here.name}/conflicts`, { context: phone.context });
  const fits = async (what) => {
    const [wide, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= width, `${what} is ${wide} px wide`);
    await shoot(page, `phone-${what}`);
  };
  for (const label of ["Mine", "Where it started", "Theirs"]) await page.getByRole("textbox", { name: label, exact: true }).scrollIntoViewIfNeeded();
  const result = page.getByRole("textbox", { name: "The result" });
  await result.tap();
  await page.keyboard.press("Control+a");
  await page.keyboard.type("both\ntwo\n");
  await fits("resolve");
  await page.getByRole("button", { name: "Take the result" }).tap();
  await page.getByText("No conflicts").waitFor();
  assert.equal(await view(here, "a.txt"), "both\ntwo\n");
  await page.getByRole("link", { name: /^Search/ }).tap();
  await page.getByLabel("Look for").fill("both");
  await page.keyboard.press("Enter");
  await page.getByText("1 match in 1 file").waitFor();
  await fits("search");
  await page.getByRole("link", { name: /^Checkpoints/ }).tap();
  await page.getByText("No checkpoint yet").waitFor();
  await fits("checkpoints");
  await branches(page).tap();
  await page.getByRole("option", { name: /^a-branch/ }).tap();
  await page.getByRole("button", { name: /^Branch a-branch/ }).waitFor();
  await fits("branch");
});
