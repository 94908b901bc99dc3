// What is typed and not saved: results of conflicts, a browser that has no room, what closed windows left, and what would replace it.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { blobOid } from "../../clients/typescript/dist/index.js";
import { until, Wire } from "../../clients/typescript/build/test/server.js";
import { shoot, textOf, whileHeld } from "./browser.mjs";
import { desk, editor, file, go, saved, state, USER } from "./desk.mjs";

const { server, project, at, view } = desk();

const result = (page) => page.getByRole("textbox", { name: "The result" });

/** A project in which pending work and the branch changed the same line. */
async function conflicting(path = "a.txt", [mine, theirs] = ["mine\ntwo\n", "theirs\ntwo\n"]) {
  const here = await project({ [path]: "one\ntwo\n" });
  await here.workspace({ user: USER, device: "phone" }).put(path, mine);
  await here.files.write(path, theirs);
  return here;
}

async function type(page, box, text) {
  await box.click();
  await page.keyboard.press("Control+a");
  await page.keyboard.insertText(text);
}

/** What is typed in `a.txt` is not saved before another device has changed the same line. */
const overtaken = (here, page) => whileHeld(page, async () => {
  await type(page, editor(page, "a.txt"), "mine one\n");
  await here.workspace({ user: USER, device: "phone" }).put("a.txt", "theirs one\n");
});

/** Uses up what the browser gives this origin, but for `left` characters. */
const fill = (page, left) => page.evaluate((left) => {
  let text = "x".repeat(1 << 20);
  for (let n = 0; text.length > 0; n++) {
    try {
      localStorage.setItem(`filler ${n}`, text);
    } catch {
      text = text.slice(0, text.length >> 1);
    }
  }
  while (left > 0) {
    const key = Object.keys(localStorage).find((key) => key.startsWith("filler "));
    const { length } = localStorage.getItem(key);
    localStorage.removeItem(key);
    if (length > left) localStorage.setItem(key, "x".repeat(length - left));
    left -= length;
  }
}, left);
const empty = (page) => page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("filler ")).forEach((key) => localStorage.removeItem(key)));
const queued = (page, project) => page.evaluate((prefix) => Object.keys(localStorage).filter((key) => key.startsWith(prefix)), `treehold-queue:${project.name}:`);

test("a result that is typed outlives the sides that move, a failure, another tab and a reload", async (t) => {
  const here = await conflicting();
  const page = await at(t, `#/p/${here.name}/conflicts`);
  const asked = [];
  page.on("dialog", (dialog) => (asked.push(dialog.type()), void dialog.accept()));
  await type(page, result(page), "both\ntwo\n");
  // The branch moves: that is said, and the text stays.
  await here.files.write("a.txt", "theirs again\ntwo\n");
  await page.getByText("has changed since you began the result").waitFor();
  await shoot(page, "conflict-moved");
  // This pane is another one then.
  await until(async () => (await textOf(page, "Theirs")) === "theirs again\ntwo\n", "the side is shown as it is now");
  assert.equal(await textOf(page, "The result"), "both\ntwo\n");
  // An answer that does not come takes nothing away.
  await page.route(/\/conflicts\?/, (route) => route.abort());
  await here.workspace({ user: USER, device: "phone" }).put("b.txt", "b");
  await page.getByRole("button", { name: "Try again" }).waitFor();
  assert.equal(await textOf(page, "The result"), "both\ntwo\n");
  await page.unroute(/\/conflicts\?/);
  await page.getByRole("link", { name: /^Files/ }).click();
  await page.getByText("Choose a file").waitFor();
  await page.getByRole("link", { name: /^Conflicts/ }).click();
  await result(page).waitFor();
  assert.equal(await textOf(page, "The result"), "both\ntwo\n");
  await page.reload();
  assert.deepEqual(asked, ["beforeunload"], "it is asked whether it may go");
  await result(page).waitFor();
  assert.equal(await textOf(page, "The result"), "both\ntwo\n");
  await page.getByText("has changed since you began the result").waitFor();
  await page.getByRole("button", { name: "Take the result" }).click();
  await page.getByText("No conflicts").waitFor();
  assert.equal(await view(here, "a.txt"), "both\ntwo\n");
  assert.deepEqual(await queued(page, here), [], "what was taken is not kept");
});

test("nothing is typed into a result while it is taken, and it goes on where that fails", async (t) => {
  const here = await conflicting();
  const page = await at(t, `#/p/${here.name}/conflicts`);
  await type(page, result(page), "both\ntwo\n");
  for (const ends of ["abort", "continue"]) {
    let end;
    const sent = new Promise((resolve) => {
      void page.route(/\/resolve$/, async (route) => {
        resolve();
        await new Promise((ended) => (end = ended));
        await route[ends]();
      }, { times: 1 }).then(() => page.getByRole("button", { name: "Take the result" }).click());
    });
    await sent;
    await result(page).click();
    await page.keyboard.press("Control+End");
    await page.keyboard.insertText("typed too late\n");
    assert.equal(await textOf(page, "The result"), "both\ntwo\n");
    end();
    if (ends === "continue") break;
    await page.getByRole("region", { name: "Conflict in a.txt" }).getByRole("alert").nth(1).waitFor();
    await type(page, result(page), "both again\n");
    await type(page, result(page), "both\ntwo\n");
  }
  await page.getByText("No conflicts").waitFor();
  assert.equal(await view(here, "a.txt"), "both\ntwo\n");
  assert.deepEqual(await queued(page, here), []);
});

test("a result in which nobody typed follows the sides, and one can be begun anew", async (t) => {
  const here = await conflicting();
  const page = await at(t, `#/p/${here.name}/conflicts`);
  await result(page).waitFor();
  await here.files.write("a.txt", "theirs again\ntwo\n");
  await until(async () => (await textOf(page, "The result")).includes("theirs again"), "the result follows");
  await type(page, result(page), "both\ntwo\n");
  await here.files.write("a.txt", "theirs at last\ntwo\n");
  await page.getByRole("button", { name: "Begin it anew" }).click();
  await until(async () => (await textOf(page, "The result")).includes("theirs at last"), "it begins with what there is now");
  await page.getByText("has changed since you began the result").waitFor({ state: "detached" });
});

test("a result for a conflict that another device settled is kept until it is discarded", async (t) => {
  const here = await conflicting();
  const page = await at(t, `#/p/${here.name}/conflicts`);
  await type(page, result(page), "both\ntwo\n");
  await here.workspace({ user: USER, device: "phone" }).resolve([{ path: "a.txt", take: "theirs", theirs: blobOid("theirs\ntwo\n") }]);
  const left = page.getByRole("article", { name: "Left of a.txt" });
  await left.getByText("The result that you typed was not taken").waitFor();
  const [got] = await Promise.all([page.waitForEvent("download"), left.getByRole("button", { name: "Download it" }).click()]);
  assert.equal(readFileSync(await got.path(), "utf8"), "both\ntwo\n");
  await left.getByRole("button", { name: "Discard it" }).click();
  await left.waitFor({ state: "detached" });
  assert.deepEqual(await queued(page, here), []);
});

test("the result of a conflict between devices outlives another page too", async (t) => {
  const here = await project({ "a.txt": "one\n", "b.txt": "b\n" });
  const page = await at(t, file(here, "a.txt"));
  await overtaken(here, page);
  await page.getByText("Another device changed the same lines").waitFor();
  await type(page, result(page), "both\n");
  await go(page, file(here, "b.txt"));
  await editor(page, "b.txt").waitFor();
  // There it is told.
  await page.getByRole("alert").getByRole("link", { name: "a.txt" }).click();
  await result(page).waitFor();
  assert.equal(await textOf(page, "The result"), "both\n");
  await page.getByRole("button", { name: "Take the result" }).click();
  await saved(page);
  assert.equal(await view(here, "a.txt"), "both\n");
  assert.deepEqual(await queued(page, here), []);
});

test("a conflict that cannot be resolved says why, also where its sides are not shown", async (t) => {
  const here = await conflicting("a.bin", [new Uint8Array([0, 1]), new Uint8Array([0, 2])]);
  const page = await at(t, `#/p/${here.name}/conflicts`);
  await page.getByText("A side is binary").waitFor();
  // The branch moves while it is decided.
  await page.route(/\/resolve$/, async (route) => {
    await here.files.write("a.bin", new Uint8Array([0, 3]));
    await route.continue();
  }, { times: 1 });
  const refused = page.waitForResponse((response) => response.url().endsWith("/resolve"));
  await page.getByRole("button", { name: "Take mine" }).click();
  assert.equal((await refused).ok(), false);
  await page.getByRole("article").getByRole("alert").waitFor();
});

test("where the browser has no room for what is typed, the page says so, and gives it", async (t) => {
  const here = await project({ "a.txt": "" });
  const wire = await Wire.to(server().url);
  t.after(() => wire.close());
  const page = await at(t, file(here, "a.txt"), { url: wire.url });
  await editor(page, "a.txt").waitFor();
  await fill(page, 0);
  try {
    wire.cut();
    await editor(page, "a.txt").click();
    await page.keyboard.insertText("typed in vain?");
    await page.getByText("leave this window open until it is saved").waitFor();
    await until(async () => (await state(page)) === "offline", "it is offline");
    await page.getByText("Offline, and not kept").waitFor();
    await shoot(page, "not-kept");
    assert.equal(await page.getByText("kept in this browser").count(), 0);
    const [got] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download a.txt" }).click()]);
    assert.equal(readFileSync(await got.path(), "utf8"), "typed in vain?");
  } finally {
    await empty(page);
  }
  wire.mend();
  await saved(page);
  assert.equal(await view(here, "a.txt"), "typed in vain?");
  await page.getByText("leave this window open until it is saved").waitFor({ state: "detached" });
});

test("what a closed window left is saved where there is no room for it twice", async (t) => {
  const here = await project({ "a.txt": "", "b.txt": "b" });
  const page = await at(t, "#/");
  const text = "typed long ago\n".repeat(20_000);
  const key = `treehold-queue:${here.name}:${USER}:console aaaaaaaa:file:a.txt`;
  await page.evaluate(([key, value]) => localStorage.setItem(key, value), [key, JSON.stringify({ text, known: { oid: blobOid(""), text: "" } })]);
  await fill(page, 1_000);
  try {
    await go(page, file(here, "b.txt"));
    await editor(page, "b.txt").waitFor();
    await until(async () => (await view(here, "a.txt")) === text, "it is saved");
    await until(async () => (await queued(page, here)).length === 0, "and not kept any more");
  } finally {
    await empty(page);
  }
});

test("a batch that a closed window sent goes on with its key, and is no conflict with oneself", async (t) => {
  const here = await project({ "a.txt": "one\n", "b.txt": "b\n" });
  const phone = here.workspace({ user: USER, device: "phone" });
  const [key, ops] = [randomUUID(), [{ op: "put", path: "a.txt", content: "ours\n", expected_oid: blobOid("one\n") }]];
  // It arrived, its answer did not, and another device went on from it.
  await phone.batch({ ops, atomic: false, on_conflict: "merge" }, { idempotencyKey: key });
  await phone.put("a.txt", "theirs\n");
  const page = await at(t, "#/");
  const prefix = `treehold-queue:${here.name}:${USER}:console aaaaaaaa:`;
  await page.evaluate(([prefix, batch, kept]) => {
    localStorage.setItem(`${prefix}batch`, batch);
    localStorage.setItem(`${prefix}file:a.txt`, kept);
  }, [prefix, JSON.stringify({ key, ops }), JSON.stringify({ text: "ours\n", known: { oid: blobOid("one\n"), text: "one\n" } })]);
  await go(page, file(here, "b.txt"));
  await editor(page, "b.txt").waitFor();
  await until(async () => (await queued(page, here)).length === 0, "nothing is left of it");
  assert.equal(await page.getByRole("alert").count(), 0);
  assert.equal(await view(here, "a.txt"), "theirs\n");
});

test("one window at a time takes up what a closed one left", async (t) => {
  const here = await project({ "a.txt": "", "b.txt": "b" });
  const prefix = `treehold-queue:${here.name}:${USER}:`;
  const [other, page] = [await at(t, "#/"), await at(t, "#/")];
  // Another window is at it.
  await other.evaluate(([prefix, kept]) => new Promise((holds) => {
    localStorage.setItem(`${prefix}console aaaaaaaa:file:a.txt`, kept);
    void navigator.locks.request(prefix, () => (holds(), new Promise((end) => (window.end = end))));
  }), [prefix, JSON.stringify({ text: "typed", known: { oid: blobOid(""), text: "" } })]);
  await go(page, file(here, "b.txt"));
  const waits = () => other.evaluate(async (prefix) => (await navigator.locks.query()).pending.some(({ name }) => name === prefix), prefix);
  await until(waits, "this one waits");
  assert.deepEqual(await queued(page, here), [`${prefix}console aaaaaaaa:file:a.txt`]);
  await other.evaluate(() => window.end());
  await until(async () => (await view(here, "a.txt")) === "typed", "then it is saved");
  await until(async () => (await queued(page, here)).length === 0, "and not kept any more");
});

test("a batch that lost its files to another window is not sent again: where the server has something else, somebody decides", async (t) => {
  const here = await project({ "a.txt": "one\n", "b.txt": "b\n", "c.txt": "c\n", "d.txt": "d\n", "e.txt": "e\n" });
  const phone = here.workspace({ user: USER, device: "phone" });
  // It was saved, and taken back.
  await phone.put("a.txt", "ours\n");
  await phone.put("a.txt", "one\n");
  const page = await at(t, "#/");
  const put = (path, content, from) => ({ op: "put", path, content, expected_oid: blobOid(from) });
  const gone = { op: "delete", path: "d.txt", expected_oid: blobOid("d\n") };
  const left = {
    "console aaaaaaaa:batch": { key: randomUUID(), ops: [put("a.txt", "ours\n", "one\n"), put("b.txt", "b\n", "before\n"), gone] },
    // One that has the mark is answered as it was.
    "console bbbbbbbb:batch": { key: randomUUID(), ops: [put("c.txt", "only here\n", "c\n")], format: 1 },
  };
  await page.evaluate(([prefix, left]) => {
    for (const [name, batch] of Object.entries(left)) localStorage.setItem(prefix + name, JSON.stringify(batch));
  }, [`treehold-queue:${here.name}:${USER}:`, left]);
  await go(page, file(here, "e.txt"));
  await editor(page, "e.txt").waitFor();
  for (const path of ["a.txt", "d.txt"]) await page.getByRole("alert").getByRole("link", { name: path }).waitFor();
  await until(async () => (await view(here, "c.txt")) === "only here\n", "the marked one is sent");
  await page.getByRole("alert").getByRole("link", { name: "a.txt" }).click();
  const sides = page.getByRole("region", { name: "Conflict in a.txt" });
  await sides.waitFor();
  assert.deepEqual([await textOf(page, "Mine"), await textOf(page, "Theirs")], ["ours\n", "one\n"]);
  assert.deepEqual([await view(here, "a.txt"), await view(here, "d.txt")], ["one\n", "d\n"]);
  await sides.getByRole("button", { name: "Take theirs" }).click();
  await saved(page);
  await go(page, file(here, "d.txt"));
  await page.getByRole("button", { name: "Take theirs" }).click();
  await until(async () => (await queued(page, here)).length === 0, "nothing is left of it");
  assert.deepEqual([await view(here, "a.txt"), await view(here, "b.txt"), await view(here, "d.txt")], ["one\n", "b\n", "d\n"]);
});

test("a deletion and a restore replace what was on the screen, and nothing newer", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const phone = here.workspace({ user: USER, device: "phone" });
  await phone.put("a.txt", "two\n");
  const page = await at(t, file(here, "a.txt"));
  await until(async () => (await textOf(page, "a.txt")) === "two\n", "it is shown");
  const remove = async () => {
    await page.getByRole("button", { name: "Delete", exact: true }).click();
    await page.getByRole("button", { name: "Delete it" }).click();
  };
  // Another device is faster.
  await page.route(/action=deleted/, async (route) => (await phone.put("a.txt", "three\n"), route.continue()), { times: 1 });
  await remove();
  await page.getByText("It was not deleted").waitFor();
  assert.equal(await view(here, "a.txt"), "three\n");
  await until(async () => (await textOf(page, "a.txt")) === "three\n", "what it is now is shown");
  await go(page, `#/p/${here.name}/log/a.txt`);
  const older = page.getByRole("region", { name: "Saved lately" }).getByRole("listitem").filter({ hasNotText: "pending now" });
  await page.route(/\/restore\?/, async (route) => (await phone.put("a.txt", "four\n"), route.continue()), { times: 1 });
  await older.getByRole("button", { name: "Restore" }).click();
  await page.getByText("Nothing was restored").waitFor();
  assert.equal(await view(here, "a.txt"), "four\n");
  await older.last().getByRole("button", { name: "Restore" }).click();
  await page.getByText("restored, pending").waitFor();
  assert.equal(await view(here, "a.txt"), "two\n");
  await go(page, file(here, "a.txt"));
  await until(async () => (await textOf(page, "a.txt")) === "two\n", "it is shown");
  await remove();
  await page.getByText("Choose a file").waitFor();
  await assert.rejects(view(here, "a.txt"), { status: 404 });
});

test("a file whose text is not saved is not deleted", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const page = await at(t, file(here, "a.txt"));
  await overtaken(here, page);
  await page.getByText("Another device changed the same lines").waitFor();
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("button", { name: "Delete it" }).click();
  await page.getByText("What was typed in a.txt is not saved").waitFor();
  assert.equal(await view(here, "a.txt"), "theirs one\n");
});

test("a file that another device made a binary one is deleted as what is shown", async (t) => {
  const here = await project({ "a.txt": "one\n" });
  const phone = here.workspace({ user: USER, device: "phone" });
  const page = await at(t, file(here, "a.txt"));
  await editor(page, "a.txt").waitFor();
  await phone.put("a.txt", new Uint8Array([0, 1, 2]));
  await page.getByText("00 01 02").waitFor();
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("button", { name: "Delete it" }).click();
  await page.getByText("Choose a file").waitFor();
  await assert.rejects(view(here, "a.txt"), { status: 404 });
});

test("keys come out of the editor, and it says how", async (t) => {
  const here = await project({ "a.txt": "one" });
  const page = await at(t, file(here, "a.txt"));
  await editor(page, "a.txt").click();
  await page.getByText("Esc, then Tab").waitFor();
  assert.match(await page.evaluate(() => {
    const root = document.querySelector(".code:not([hidden]) > div > div").shadowRoot;
    return root.getElementById(root.querySelector("[role=textbox]").getAttribute("aria-describedby")).textContent;
  }), /Esc, then Tab/);
  await page.keyboard.press("Tab");
  await until(async () => (await textOf(page, "a.txt")) !== "one", "Tab indents");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Tab");
  assert.equal(await editor(page, "a.txt").evaluate((box) => box.getRootNode().activeElement === box), false);
  await saved(page);
});
