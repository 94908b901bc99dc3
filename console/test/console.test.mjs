// The console in a real browser, against the real server, with a network that can be cut.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BINARY, git, until, Wire } from "../../clients/typescript/build/test/server.js";
import { openBrowser, openPage, shoot, textOf, whileHeld } from "./browser.mjs";
import { desk, editor, file, go, saved, state, USER } from "./desk.mjs";

const { browser, server, client, project, imported, at, view } = desk();

test("whoever has no key gets the server's sentence", async () => {
  const { page } = await openPage(browser().context, `${server().url}/console`);
  await page.getByLabel("Key of this server").fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  assert.match(await page.getByRole("alert").textContent(), /^Send one of the configured keys/);
  await shoot(page, "sign-in");
  await page.close();
});

test("whoever has a token names the project that it opens, and the user whose work it may see", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const made = execFileSync(BINARY, ["token", "create", here.name, "--scopes", "files:write,pending", "--user", USER, "--data-dir", server().dir], { encoding: "utf8" });
  const secret = /^secret *(\S+)$/m.exec(made)[1];
  const { page, errors } = await openPage(browser().context, `${server().url}/console`);
  t.after(() => page.close());
  const enter = () => page.getByRole("button", { name: "Sign in" }).click();
  await page.getByLabel("Key of this server").fill(secret);
  await page.getByLabel("User", { exact: true }).fill("99999999-2222-4333-8444-555555555555");
  await enter();
  await page.getByLabel("Project").fill("no-such");
  await shoot(page, "sign-in-token");
  await enter();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("Project").fill(here.name);
  await enter();
  await until(async () => /user/.test(await page.getByRole("alert").textContent()), "the server's sentence on the user");
  await page.getByLabel("User", { exact: true }).fill(USER);
  await enter();
  await page.getByText("1 file", { exact: true }).waitFor();
  await go(page, file(here, "a.txt"));
  await editor(page, "a.txt").click();
  await page.keyboard.press("Control+End");
  await page.keyboard.type("typed");
  await saved(page);
  assert.equal(await view(here, "a.txt"), "one\ntyped");
  // A reload comes back, and what is about all projects leads back.
  await page.reload();
  await editor(page, "a.txt").waitFor();
  await go(page, "#/");
  await page.getByText("You are signed in to one project").waitFor();
  await page.getByRole("link", { name: "Open it" }).click();
  await page.getByText("Choose a file").waitFor();
  assert.deepEqual(errors, []);
});

test("an edit crosses from one window to the other, and what both type is merged", async (t) => {
  const here = await project({ "notes.md": "# Notes\n\none\ntwo\nthree\n" });
  const [left, right] = [await at(t, file(here, "notes.md")), await at(t, file(here, "notes.md"))];
  for (const page of [left, right]) await editor(page, "notes.md").waitFor();
  await editor(left, "notes.md").click();
  await left.keyboard.press("Control+End");
  await left.keyboard.type("from the left");
  await until(async () => (await textOf(right, "notes.md")).includes("from the left"), "the edit crosses");
  await editor(right, "notes.md").click();
  await right.keyboard.press("Control+Home");
  await right.keyboard.press("End");
  // Both at once, in different lines.
  await Promise.all([right.keyboard.type(" of the right"), left.keyboard.type(", again")]);
  const both = "# Notes of the right\n\none\ntwo\nthree\nfrom the left, again";
  for (const page of [left, right]) await until(async () => (await textOf(page, "notes.md")) === both, "both windows have both");
  for (const page of [left, right]) await saved(page);
  assert.equal(await view(here, "notes.md"), both);
  await shoot(left, "editor");
  // Undo takes back what was typed here, and nothing of the other window.
  await editor(left, "notes.md").click();
  const untyped = "# Notes of the right\n\none\ntwo\nthree\n";
  // How many steps it was typed in depends on how fast it was.
  for (let n = 0; n < 30 && (await textOf(left, "notes.md")) !== untyped; n++) await left.keyboard.press("Control+z");
  assert.equal(await textOf(left, "notes.md"), untyped);
});

test("two windows that change the same line see both texts, and one decides", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const page = await at(t, file(here, "a.txt"));
  await editor(page, "a.txt").click();
  await page.keyboard.press("Control+Home");
  await whileHeld(page, async () => {
    await page.keyboard.type("mine ");
    await here.workspace({ user: USER, device: "phone" }).put("a.txt", "theirs one\n");
  });
  await page.getByText("Another device changed the same lines").waitFor();
  await shoot(page, "conflict-between-devices");
  assert.equal(await view(here, "a.txt"), "theirs one\n", "nothing is overwritten");
  assert.equal(await textOf(page, "Theirs"), "theirs one\n");
  const result = page.getByRole("textbox", { name: "The result" });
  await result.click();
  await page.keyboard.press("Control+a");
  await page.keyboard.type("both\n");
  await page.getByRole("button", { name: "Take the result" }).click();
  await saved(page);
  assert.equal(await view(here, "a.txt"), "both\n");
  await until(async () => (await textOf(page, "a.txt")) === "both\n", "the editor has it");
});

test("a conflict with the branch is resolved side by side, and committed", async (t) => {
  const here = await project({ "a.txt": "one\ntwo\n", "b.txt": "one\n" });
  const work = here.workspace({ user: USER });
  for (const path of ["a.txt", "b.txt"]) await work.put(path, "mine\ntwo\n");
  for (const path of ["a.txt", "b.txt"]) await here.files.write(path, "theirs\ntwo\n");
  const page = await at(t, `#/p/${here.name}/conflicts`);
  const first = page.getByRole("article").filter({ hasText: "a.txt" });
  await first.getByText("You and the branch changed the same lines").waitFor();
  await shoot(page, "conflicts");
  await first.getByRole("button", { name: "Take mine" }).click();
  await first.waitFor({ state: "detached" });
  await page.getByRole("article").getByRole("button", { name: "Take theirs" }).click();
  await page.getByText("No conflicts").waitFor();
  assert.deepEqual([await view(here, "a.txt"), await view(here, "b.txt")], ["mine\ntwo\n", "theirs\ntwo\n"]);
  await page.getByRole("link", { name: /^Changes/ }).click();
  await page.getByText("+mine").waitFor();
  await page.getByLabel("Message").fill("Mine");
  await page.getByRole("button", { name: "Commit 1 file" }).click();
  await page.getByText("Committed as").waitFor();
  assert.equal((await here.files.read("a.txt")).text(), "mine\ntwo\n");
  assert.equal((await here.log().page()).commits[0].author.name, "Ann");
  await page.getByText("Nothing is pending").waitFor();
});

test("nothing that is typed is lost when the network is cut", async (t) => {
  const here = await project({ "a.txt": "" });
  const wire = await Wire.to(server().url);
  t.after(() => wire.close());
  const page = await at(t, file(here, "a.txt"), { url: wire.url });
  await editor(page, "a.txt").click();
  await page.keyboard.type("before, ");
  await saved(page);
  await page.keyboard.type("at the cut, ");
  wire.cut();
  await page.keyboard.type("while it is away, ");
  await until(async () => (await state(page)) === "offline", "the page says that it is offline");
  await shoot(page, "offline");
  await page.keyboard.type("still away, ");
  assert.equal(await view(here, "a.txt").then((text) => text.includes("still away")), false);
  wire.mend();
  await page.keyboard.type("and after it.");
  const all = "before, at the cut, while it is away, still away, and after it.";
  await until(async () => (await view(here, "a.txt")) === all, "everything arrived");
  await saved(page);
  assert.equal(await textOf(page, "a.txt"), all);
});

test("what a window had not saved when it was closed is saved by the next one", async (t) => {
  const here = await project({ "a.txt": "", "b.txt": "" });
  const wire = await Wire.to(server().url);
  t.after(() => wire.close());
  const page = await at(t, file(here, "a.txt"), { url: wire.url });
  await editor(page, "a.txt").click();
  wire.cut();
  await page.keyboard.type("typed, and closed");
  await page.close();
  wire.mend();
  const next = await at(t, file(here, "b.txt"), { url: wire.url });
  await editor(next, "b.txt").waitFor();
  await until(async () => (await view(here, "a.txt")) === "typed, and closed", "the next window saves it");
});

test("what two closed windows left of texts that were overtaken is saved by the next one, and what is damaged stops nothing", async (t) => {
  const here = await project({ "a.txt": "", "b.txt": "", "c.txt": "c" });
  const prefix = `treehold-queue:${here.name}:${USER}:`;
  const put = (path, content) => JSON.stringify([{ op: "put", path, content }]);
  const left = {
    [`${prefix}console aaaaaaaa:overtaken`]: put("a.txt", "of one window"),
    [`${prefix}console bbbbbbbb:overtaken`]: put("b.txt", "of another window"),
    [`${prefix}console dddddddd:overtaken`]: "[{",
    [`${prefix}console eeeeeeee:overtaken`]: "{}",
  };
  const page = await at(t, "#/");
  await page.evaluate((left) => Object.entries(left).forEach(([key, value]) => localStorage.setItem(key, value)), left);
  await go(page, file(here, "c.txt"));
  await editor(page, "c.txt").waitFor();
  await until(async () => (await view(here, "b.txt")) === "of another window", "the second one is saved");
  await until(async () => (await view(here, "a.txt")) === "of one window", "the first one is saved");
  const kept = () => page.evaluate((prefix) => Object.keys(localStorage).filter((key) => key.startsWith(prefix)).sort(), prefix);
  const damaged = Object.keys(left).slice(2);
  await until(async () => (await kept()).length === damaged.length, "what is saved is not kept");
  assert.deepEqual(await kept(), damaged);
});

test("what the server refuses of a closed window's text is shown, with its reason", async (t) => {
  const here = await project({ "a.txt": "a" });
  const ops = JSON.stringify([{ op: "put", path: "a.txt/below", content: "typed long ago", expected_oid: null }]);
  const page = await at(t, "#/");
  await page.evaluate(([key, ops]) => localStorage.setItem(key, ops), [`treehold-queue:${here.name}:${USER}:console aaaaaaaa:overtaken`, ops]);
  await go(page, file(here, "a.txt"));
  await editor(page, "a.txt").waitFor();
  await page.getByRole("alert").getByRole("link", { name: "a.txt/below" }).click();
  await editor(page, "a.txt/below").waitFor();
  assert.equal(await textOf(page, "a.txt/below"), "typed long ago");
  assert.equal(await state(page), "failed");
  await page.getByText("What you typed is kept in this browser.").waitFor();
});

test("a tree of 100,000 files is listed, scrolled, searched, and walked by keys", async (t) => {
  const files = {};
  for (let n = 0; n < 100_000; n++) files[`flat/file-${String(n).padStart(6, "0")}.txt`] = "x";
  const { project: here } = imported({ ...files, "README.md": "# Many\n" });
  const { id } = await client().showProject(here.name);
  const page = await at(t, `#/p/${id}/files`);
  await page.getByText("100,001 files").waitFor();
  await page.getByRole("treeitem", { name: "flat" }).click();
  await page.getByRole("treeitem", { name: "file-000000.txt" }).waitFor();
  const tree = page.getByRole("tree");
  await tree.evaluate((element) => void (element.scrollTop = element.scrollHeight / 2));
  await page.getByRole("treeitem", { name: /^file-05/ }).first().waitFor();
  await tree.evaluate((element) => void (element.scrollTop = element.scrollHeight));
  await page.getByRole("treeitem", { name: "file-099999.txt" }).waitFor();
  await shoot(page, "tree-of-100000");
  assert.ok((await page.getByRole("treeitem").count()) < 200, "only what is seen is there");
  await page.getByLabel("Find a file").fill("012345");
  await page.getByText("1 file of 100,001").waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await editor(page, "flat/file-012345.txt").waitFor();
  // Keys alone: from the top to the first file of the directory.
  await page.getByLabel("Find a file").fill("");
  await tree.focus();
  for (const key of ["Home", "ArrowRight", "ArrowDown", "Enter"]) await page.keyboard.press(key);
  await editor(page, "flat/file-000001.txt").or(editor(page, "flat/file-000000.txt")).waitFor();
});

test("a pull tells what it brought, a commit is pushed, versions come back", async (t) => {
  const { project: here, remote } = imported({ "a.txt": "1\n", "b.txt": "b\n" });
  const { id } = await client().showProject(here.name);
  const clone = mkdtempSync(join(tmpdir(), "treehold-clone-"));
  try {
    git(clone, "clone", "--quiet", remote, ".");
    writeFileSync(join(clone, "b.txt"), "from git\n");
    git(clone, "commit", "--quiet", "-am", "From git");
    git(clone, "push", "--quiet", "origin", "main");
  } finally {
    rmSync(clone, { recursive: true, force: true });
  }
  const work = here.workspace({ user: USER, device: "phone" });
  await work.put("a.txt", "2\n");
  await work.put("a.txt", "3\n");
  const page = await at(t, `#/p/${id}/changes`);
  await page.getByRole("button", { name: "Pull" }).click();
  await page.getByText("1 file changed").waitFor();
  await go(page, `#/p/${id}/log/a.txt`);
  const versions = page.getByRole("region", { name: "Saved lately" });
  await versions.getByRole("button", { name: "Restore" }).click();
  await versions.getByText("restored, pending").waitFor();
  assert.equal(await view(here, "a.txt"), "2\n");
  await shoot(page, "history");
  await go(page, `#/p/${id}/changes`);
  await page.getByText("+2").waitFor();
  await shoot(page, "changes");
  await page.getByLabel("Message").fill("Two");
  await page.getByRole("button", { name: "Commit 1 file" }).click();
  await page.getByText("and pushed").waitFor();
  assert.equal(git(remote, "log", "--format=%s", "-2", "main"), "Two\nFrom git\n");
  await go(page, `#/p/${id}/log`);
  await page.getByText("From git").waitFor();
});

test("new files, refused names, deleted files", async (t) => {
  const here = await project({ "a.txt": "a" });
  const page = await at(t, `#/p/${here.name}/files`);
  await page.getByRole("button", { name: "New file" }).click();
  await page.getByLabel("Path").fill(".git/config");
  await page.getByRole("button", { name: "Make it" }).click();
  await page.getByRole("dialog").getByText(/^The path is refused/).waitFor();
  await shoot(page, "refused");
  await page.getByLabel("Path").fill("guide/new.md");
  await page.getByRole("button", { name: "Make it" }).click();
  await editor(page, "guide/new.md").click();
  await page.keyboard.type("# New");
  await saved(page);
  assert.equal(await view(here, "guide/new.md"), "# New");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete it" }).click();
  await page.getByText("Choose a file").waitFor();
  assert.deepEqual((await here.workspace({ user: USER }).list().all()).map((entry) => entry.path), []);
  await go(page, "#/p/00000000-0000-4000-8000-000000000000/files");
  await page.getByText("There is no such project", { exact: true }).waitFor();
});

test("files are uploaded by keys and by dropping them, several at once, and what is there is not overwritten", async (t) => {
  const here = await project({ "a.txt": "a\n", "img/old.png": "old" });
  const page = await at(t, file(here, "a.txt"));
  await editor(page, "a.txt").waitFor();
  const binary = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 255, 13, 10, 0]);
  const choosing = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Upload files" }).focus();
  await page.keyboard.press("Enter");
  const many = Array.from({ length: 12 }, (_, n) => ({ name: `n${n}.txt`, mimeType: "text/plain", buffer: Buffer.from(`${n}\n`) }));
  await (await choosing).setFiles([...many, { name: "new.png", mimeType: "image/png", buffer: binary }, { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("replaced\n") }]);
  const dialog = page.getByRole("dialog", { name: "Upload files" });
  await dialog.getByText("14 files").waitFor();
  assert.equal(await dialog.getByLabel("Directory").inputValue(), "", "where the open file is");
  await dialog.getByRole("button", { name: "Upload", exact: true }).press("Enter");
  await dialog.getByText("13 of 14 files saved, 1 exist").waitFor();
  await dialog.getByText("There is a file at this path already.").waitFor();
  assert.equal(await view(here, "a.txt"), "a\n", "nothing is overwritten");
  await shoot(page, "upload");
  await dialog.getByRole("button", { name: "Replace 1 file" }).click();
  await dialog.getByText("14 of 14 files saved").waitFor();
  await dialog.getByRole("button", { name: "Close", exact: true }).last().click();
  await until(async () => (await textOf(page, "a.txt")) === "replaced\n", "the editor shows what came");
  const { bytes } = await here.files.read("new.png", { user: USER });
  assert.deepEqual(Buffer.from(bytes), binary);
  assert.equal((await here.workspace({ user: USER }).list().all()).length, 14);
  await page.getByRole("treeitem", { name: "n11.txt" }).waitFor();

  // Dropped on a directory, they go into it; what is refused says why, and can be tried elsewhere.
  const drop = async (onto) => {
    const transfer = await page.evaluateHandle(() => {
      const transfer = new DataTransfer();
      transfer.items.add(new File(["dropped\n"], "dropped.txt"));
      return transfer;
    });
    const { x, y, width, height } = await onto.boundingBox();
    const event = { dataTransfer: transfer, clientX: x + width / 2, clientY: y + height / 2, bubbles: true };
    await onto.dispatchEvent("dragover", event);
    await onto.dispatchEvent("drop", event);
  };
  await drop(page.getByRole("treeitem", { name: "img" }));
  assert.equal(await dialog.getByLabel("Directory").inputValue(), "img");
  await dialog.getByLabel("Directory").fill(".git");
  await dialog.getByRole("button", { name: "Upload", exact: true }).click();
  await dialog.getByText(/^The path is refused/).waitFor();
  await dialog.getByText("0 of 1 file saved, 1 failed").waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await drop(page.getByRole("treeitem", { name: "img" }));
  await dialog.getByRole("button", { name: "Upload", exact: true }).click();
  await dialog.getByText("1 of 1 file saved").waitFor();
  assert.equal(await view(here, "img/dropped.txt"), "dropped\n");
});

test("every page fits a phone, in the dark, and operations are plotted", async (t) => {
  const dark = await openBrowser({ colorScheme: "dark", viewport: { width: 390, height: 780 } });
  t.after(() => dark.close());
  const here = await project({ "src/lib.rs": "//! A crate.\npub fn add(left: u64, right: u64) -> u64 {\n    left + right\n}\n", "a.txt": "one\n" });
  await here.workspace({ user: USER }).put("a.txt", `mine ${"and a long line ".repeat(20)}\n`);
  await here.files.write("a.txt", "theirs\n");
  const page = await at(t, "#/", { context: dark.context });
  const places = { projects: "#/", tree: `#/p/${here.name}/files`, editor: file(here, "src/lib.rs"), changes: `#/p/${here.name}/changes`,
    conflicts: `#/p/${here.name}/conflicts`, history: `#/p/${here.name}/log`, operations: "#/operations" };
  const shown = { projects: "New project", tree: "2 files", editor: "Saved", changes: "+mine", conflicts: "You and the branch", history: "Begin", operations: "Cache in memory" };
  for (const [name, place] of Object.entries(places)) {
    await go(page, place);
    await page.getByText(shown[name]).first().waitFor();
    await shoot(page, `phone-${name}`);
    const [wide, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= width, `${name} is ${wide} px wide`);
  }
  for (const plot of ["Cache in memory", "Stored"]) await page.getByRole("img", { name: new RegExp(`^${plot}`) }).waitFor();
  await page.setViewportSize({ width: 1280, height: 800 });
  for (const name of ["projects", "editor", "changes", "conflicts", "operations"]) {
    await go(page, places[name]);
    await page.getByText(shown[name]).first().waitFor();
    await shoot(page, `dark-${name}`);
  }
});

test("what is being written into a result stays, whatever else happens", async (t) => {
  const here = await project({ "a.txt": "one\n", "b.txt": "one\n" });
  const work = here.workspace({ user: USER, device: "phone" });
  await work.put("a.txt", "mine\n");
  await here.files.write("a.txt", "theirs\n");
  const page = await at(t, `#/p/${here.name}/conflicts`);
  const result = page.getByRole("textbox", { name: "The result" });
  await result.click();
  await page.keyboard.press("Control+a");
  await page.keyboard.type("half of it");
  await work.put("b.txt", "two\n");
  await page.getByRole("link", { name: "Changes 2" }).waitFor();
  await here.files.write("c.txt", "c\n");
  await work.put("c.txt", "d\n");
  await page.getByRole("link", { name: "Changes 3" }).waitFor();
  await result.click();
  await page.keyboard.press("Control+End");
  await page.keyboard.type(", and the rest\n");
  await page.getByRole("button", { name: "Take the result" }).click();
  await page.getByText("No conflicts").waitFor();
  assert.equal(await view(here, "a.txt"), "half of it, and the rest\n");
});
