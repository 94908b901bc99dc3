// What the real server does not do on request: refusals with Retry-After, proxies' answers, silence.
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { blobOid, memoryStorage, Treehold, TreeholdError, type Options } from "treehold";
import { until } from "./server.js";

type Answer = (request: IncomingMessage, response: ServerResponse, turn: number) => void;

async function answering(t: TestContext, answer: Answer, more: Partial<Options> = {}) {
  const seen: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    request.resume();
    answer(request, response, seen.push(request));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return { seen, baseUrl, treehold: new Treehold({ baseUrl, key: "k", maxPauseMs: 30, ...more }) };
}

function refuse(response: ServerResponse, status: number, code: string, headers: Record<string, string> = {}) {
  response.writeHead(status, { "content-type": "application/problem+json", ...headers });
  response.end(JSON.stringify({ type: "about:blank", status, code, detail: "Come back later.", what: "places" }));
}

const page = (response: ServerResponse) => response.end(JSON.stringify({ projects: [], next_cursor: null }));

test("what is safe to repeat is repeated, and Retry-After is kept", async (t) => {
  const { seen, treehold } = await answering(t, (_, response, turn) =>
    turn < 3 ? refuse(response, 503, "unavailable", { "Retry-After": "0" }) : page(response));
  await treehold.projects().page();
  assert.equal(seen.length, 3);
  const pauseMs = treehold.transport.pauseMs(0, new TreeholdError(503, "unavailable", "", { retryAfter: 0.01 }));
  assert.ok(pauseMs >= 10 && pauseMs <= 12.5, "as long as the server asks for, and a little more by chance");
  assert.equal(seen[0]?.headers["x-internal-api-key"], "k");
});

test("what may have been done is not repeated without a key; with one, the key stays the same", async (t) => {
  const { seen, treehold } = await answering(t, (request, response, turn) => {
    if (request.method === "POST" && request.url?.endsWith("/fork")) return void request.socket.destroy();
    if (turn < 4) return void request.socket.destroy();
    response.end("{}");
  });
  await assert.rejects(treehold.fork("p"), { code: "network", status: 0 });
  assert.equal(seen.length, 1);
  await treehold.project("p").commit({ message: "m", author: { name: "a", email: "e" }, actions: [] });
  const keys = seen.slice(1).map((request) => request.headers["idempotency-key"]);
  assert.deepEqual([keys.length, new Set(keys).size, keys[0]?.length], [3, 1, 36]);
});

test("a discard is only repeated where it says what it takes", async (t) => {
  const { seen, treehold } = await answering(t, (request, response, turn) =>
    turn < 4 ? void request.socket.destroy() : response.end(JSON.stringify({ revision: 2, dropped: 1 })));
  const work = treehold.project("p").workspace({ user: "11111111-2222-4333-8444-555555555555" });
  await assert.rejects(work.drop("a.txt"), { code: "network" });
  await assert.rejects(work.dropAll(), { code: "network" });
  assert.equal(seen.length, 2);
  const oid = "1".repeat(40);
  assert.equal((await work.drop("a.txt", { expected: oid })).dropped, 1);
  assert.deepEqual(seen.slice(2).map((request) => request.headers["if-match"]), [`"${oid}"`, `"${oid}"`]);
});

test("what was turned away is repeated, whatever it is", async (t) => {
  const { seen, treehold } = await answering(t, (_, response, turn) =>
    turn < 2 ? refuse(response, 429, "too_many_requests") : response.end("{}"));
  await treehold.fork("p");
  assert.equal(seen.length, 2);
});

test("retries come to an end, and the last refusal is told", async (t) => {
  const { seen, treehold } = await answering(t, (_, response) => refuse(response, 503, "unavailable", { "Retry-After": "0" }), { retries: 2 });
  await assert.rejects(treehold.projects().page(), (error) => {
    assert.ok(error instanceof TreeholdError);
    assert.deepEqual([error.status, error.code, error.detail, error.retryAfter, error.fields], [503, "unavailable", "Come back later.", 0, { what: "places" }]);
    return true;
  });
  assert.equal(seen.length, 3);
});

test("refusals that do not pass are not repeated, and a proxy's answer is an error too", async (t) => {
  const { seen, treehold } = await answering(t, (_, response) => refuse(response, 502, "remote_failed"));
  await assert.rejects(treehold.project("p").sync(), { status: 502, code: "remote_failed" });
  assert.equal(seen.length, 1);
  const proxy = await answering(t, (_, response) => {
    response.writeHead(502, { "content-type": "text/html" });
    response.end("<h1>Bad Gateway</h1>");
  }, { retries: 1 });
  await assert.rejects(proxy.treehold.projects().page(), { status: 502, code: "bad_answer" });
  assert.equal(proxy.seen.length, 2);
});

test("a key goes nowhere but where it was meant to go", async (t) => {
  const elsewhere = await answering(t, (_, response) => page(response));
  for (const status of [301, 302, 303, 307, 308]) {
    const { seen, treehold } = await answering(t, (_, response) => {
      response.writeHead(status, { location: `${elsewhere.baseUrl}projects` });
      response.end("moved");
    });
    await assert.rejects(treehold.projects().page(), { status, code: "bad_answer" });
    assert.equal(seen.length, 1, "and is not tried again");
  }
  assert.equal(elsewhere.seen.length, 0);
});

test("what is typed while a proxy wants somebody to sign in is kept, and goes out when they did", async (t) => {
  let signedIn = false;
  const result = { path: "a.txt", status: "applied", oid: blobOid("typed") };
  const { treehold } = await answering(t, (_, response) => {
    if (!signedIn) response.writeHead(302, { location: "http://127.0.0.1:1/sign-in" });
    response.end(signedIn ? JSON.stringify({ revision: 1, results: [result, result] }) : "");
  });
  const options = { debounceMs: 1, maxPauseMs: 10, storage: memoryStorage() };
  const autosave = treehold.project("p").autosave({ user: "11111111-2222-4333-8444-555555555555", ...options });
  t.after(() => autosave.stop());
  autosave.open("a.txt", { oid: blobOid(""), text: "" });
  autosave.change("a.txt", "typed");
  await until(() => autosave.state("a.txt")?.error !== undefined, "it is told");
  assert.deepEqual([autosave.state("a.txt")?.state, autosave.state("a.txt")?.error?.code], ["offline", "bad_answer"]);
  signedIn = true;
  await until(() => autosave.state("a.txt")?.state === "saved", "it is saved");
});

test("silence has an end, before the answer and in the middle of it", async (t) => {
  const { treehold } = await answering(t, () => {}, { timeoutMs: 500, retries: 0 });
  await assert.rejects(treehold.projects().page(), { code: "timeout" });
  const half = await answering(t, (_, response) => void response.write('{"projects":['), { timeoutMs: 500, retries: 1 });
  await assert.rejects(half.treehold.projects().page(), { code: "timeout" });
  assert.equal(half.seen.length, 2);
});

test("an abort is at once, and throws its own reason", async (t) => {
  const { treehold } = await answering(t, () => {});
  const controller = new AbortController();
  const call = treehold.projects({ signal: controller.signal }).page();
  controller.abort(new Error("enough"));
  await assert.rejects(call, { message: "enough" });
  await assert.rejects(treehold.showProject("p", { signal: AbortSignal.abort(new Error("before")) }), { message: "before" });
  // Also in the pause between two attempts.
  const refusing = await answering(t, (_, response) => refuse(response, 503, "unavailable", { "Retry-After": "60" }), { maxPauseMs: 60_000 });
  const waiting = new AbortController();
  const pausing = refusing.treehold.projects({ signal: waiting.signal }).page();
  setTimeout(() => waiting.abort(new Error("no more")), 50);
  await assert.rejects(pausing, { message: "no more" });
});

test("a feed whose stream is held back falls back to long polls", async (t) => {
  const { seen, treehold } = await answering(t, (request, response) => {
    if (request.headers.accept === "text/event-stream") return void response.end("{}");
    const since = new URL(request.url ?? "", "http://x").searchParams.get("since");
    const event = { cursor: "c2", at: "", kind: "ref", name: "refs/heads/main", from: null, to: null, reason: "api" };
    response.end(JSON.stringify({ events: since === "c1" ? [event] : [], next_cursor: since === null ? "c1" : "c2", more: false }));
  });
  const kinds: string[] = [];
  for await (const item of treehold.project("p").feed()) {
    kinds.push(`${item.kind} ${item.cursor}`);
    if (item.kind === "ref") break;
  }
  assert.deepEqual(kinds, ["start c1", "ref c2"]);
  assert.deepEqual(seen.map((request) => request.headers.accept === "text/event-stream"), [false, true, false]);
});
