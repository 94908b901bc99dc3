import assert from "node:assert/strict";
import { test } from "node:test";
import { TreeholdError, type FeedItem, type FeedOptions, type Project } from "treehold";
import { serving, until, USER, Wire } from "./server.js";

const { client, project, server } = serving();

/** Reads a feed until it is told to stop. */
function reading(project: Project, options: FeedOptions) {
  const items: FeedItem[] = [];
  const controller = new AbortController();
  const feed = project.feed({ ...options, signal: controller.signal });
  const done = (async () => {
    for await (const item of feed) items.push(item);
  })();
  const stop = async () => {
    controller.abort();
    await done;
  };
  return { items, feed, stop };
}

const paths = (items: FeedItem[]) => items.flatMap((item) => (item.kind === "pending" ? [item.path] : []));

for (const transport of ["stream", "poll"] as const) {
  test(`the feed tells what happens, as a ${transport}, and misses nothing over a cut`, async () => {
    const here = await project({ "a.txt": "a" });
    const wire = await Wire.to(server().url);
    const states: (string | undefined)[] = [];
    const onState = (error?: TreeholdError) => states.push(error?.code);
    const reader = reading(client({ baseUrl: wire.url, maxPauseMs: 50, retries: 1 }).project(here.name), { transport, user: USER, onState });
    try {
      const work = here.workspace({ user: USER, device: "laptop" });
      await until(() => reader.items.length === 1, "it says where it begins");
      assert.equal(reader.items[0]?.kind, "start");
      await work.put("one", "1");
      await here.workspace({ user: "99999999-2222-4333-8444-555555555555" }).put("not mine", "1");
      await until(() => paths(reader.items).length === 1, "the first edit");
      wire.cut();
      await work.put("two", "2");
      await here.files.write("b.txt", "b");
      await until(() => states.length === 1, "it is told that the feed is cut");
      wire.mend();
      await work.put("three", "3");
      await until(() => paths(reader.items).length === 3, "all edits");
      assert.deepEqual(paths(reader.items), ["one", "two", "three"]);
      assert.deepEqual(reader.items.map((item) => item.kind), ["start", "pending", "pending", "ref", "pending"]);
      const event = reader.items[1]!;
      assert.ok(event.kind === "pending" && event.device === "laptop" && event.action === "created");
      assert.deepEqual(states, ["network", undefined]);
      const cursor = reader.feed.cursor!;
      await reader.stop();
      await work.put("four", "4");
      const later = reading(here, { transport, user: USER, since: cursor });
      await until(() => paths(later.items).length === 1, "it goes on after the cursor");
      assert.deepEqual(paths(later.items), ["four"]);
      await later.stop();
    } finally {
      await wire.close();
    }
  });
}

test("a cursor that is too old is told, and the feed goes on from now", async () => {
  const treehold = client();
  const first = await treehold.createProject({});
  const here = treehold.project(first.id);
  await here.files.write("a", "a");
  const { next_cursor: old } = await treehold.transport.json<{ next_cursor: string }>({ path: here.path("/changes") });
  await treehold.deleteProject(first.id);
  // Within seconds an old cursor of a project that was made anew may pass; a later one does not.
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  await treehold.createProject({ id: first.id });
  const reader = reading(here, { since: old });
  await until(() => reader.items.length === 2, "it begins anew");
  const [start, again] = reader.items;
  assert.ok(start?.kind === "start" && start.expired === undefined);
  assert.ok(again?.kind === "start" && again.expired?.code === "cursor_expired");
  await here.workspace({ user: USER }).put("b", "b");
  await until(() => reader.items.length === 3, "what happens then");
  await reader.stop();
});

test("a project that goes ends its feed", async () => {
  const here = await project();
  const items: FeedItem[] = [];
  const read = (async () => {
    for await (const item of here.feed()) items.push(item);
  })();
  const ended = assert.rejects(read, { code: "project_not_found" });
  await until(() => items.length === 1, "it begins");
  await client().deleteProject(here.name);
  await ended;
});
