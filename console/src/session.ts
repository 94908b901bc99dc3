import { newUuid, Treehold, webStorage, type AutosaveStorage, type PendingOp } from "treehold";

/** Who sits here: an id that the server knows work by, and what commits say. */
export interface Person {
  user: string;
  name: string;
  email: string;
}

const KEY = "treehold-key";
const PERSON = "treehold-person";
const ONLY = "treehold-only";
const TAB = "treehold-tab";
const QUEUE = "treehold-queue";
/** What in a queue was typed. */
const LEFT = new Set(["file", "overtaken", "batch", "draft"]);

/** The page is at `…/console`, the API beside it. */
export const baseUrl = location.pathname.replace(/\/console\/?$/, "");

export function savedKey(): string | null {
  return sessionStorage.getItem(KEY);
}

export function savedPerson(): Person {
  const saved = localStorage.getItem(PERSON);
  if (saved) return JSON.parse(saved) as Person;
  return { user: newUuid(), name: "", email: "" };
}

/** The project that is all the credential opens, as a token does. */
export function savedOnly(): string | undefined {
  return sessionStorage.getItem(ONLY) ?? undefined;
}

export function signIn(key: string, person: Person, only: string | undefined): void {
  sessionStorage.setItem(KEY, key);
  if (only === undefined) sessionStorage.removeItem(ONLY);
  else sessionStorage.setItem(ONLY, only);
  localStorage.setItem(PERSON, JSON.stringify(person));
}

export function signOut(): void {
  sessionStorage.removeItem(KEY);
  sessionStorage.removeItem(ONLY);
}

export function connect(key: string): Treehold {
  return new Treehold({ baseUrl, key, retries: 2 });
}

export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Where this tab keeps what is not saved. */
export interface Queue {
  device: string;
  storage: AutosaveStorage;
  storageKey: string;
}

/** Where all tabs of a user keep what is not saved on a branch; `undefined` = the default one. A branch's name has no colon. */
function queueOf(project: string, user: string, branch: string | undefined): string {
  return `${QUEUE}${branch === undefined ? "" : `@${branch}`}:${project}:${user}:`;
}

/**
 * A tab's name is its own, also if it is a copy of another tab, and stays over a reload. What a tab that is closed has left behind
 * becomes this one's.
 */
export async function openQueue(project: string, user: string, branch: string | undefined): Promise<Queue> {
  const storage = webStorage(localStorage);
  let device = sessionStorage.getItem(TAB) ?? `console ${newUuid().slice(0, 8)}`;
  if (navigator.locks && !held.has(device)) {
    if (!(await hold(device))) {
      device = `console ${newUuid().slice(0, 8)}`;
      await hold(device);
    }
  }
  sessionStorage.setItem(TAB, device);
  const prefix = queueOf(project, user, branch);
  // One tab at a time, as two would both take up what a third has left.
  if (navigator.locks) await navigator.locks.request(prefix, () => adopt(prefix, device));
  return { device, storage, storageKey: `${prefix}${device}` };
}

/** Other branches on which something waits to be saved, left by this tab or by one that is closed; `undefined` = the default one. */
export async function leftBehind(project: string, user: string, branch: string | undefined): Promise<(string | undefined)[]> {
  // Without locks it is not known which other tabs are closed.
  const locks = navigator.locks ? ((await navigator.locks.query()).held ?? []) : undefined;
  const closed = (owner: string) => locks !== undefined && !locks.some((lock) => lock.name === `${TAB} ${owner}`);
  const found = new Set<string | undefined>();
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(QUEUE)) continue;
    const [queue = "", of, whose, owner = "", kind = ""] = key.split(":");
    const on = queue === QUEUE ? undefined : queue.slice(QUEUE.length + 1);
    if (of !== project || whose !== user || on === branch || !LEFT.has(kind)) continue;
    if (owner === sessionStorage.getItem(TAB) || closed(owner)) found.add(on);
  }
  return [...found];
}

const held = new Set<string>();

/** Held as long as the page lives. */
function hold(device: string): Promise<boolean> {
  return new Promise((resolve) => {
    void navigator.locks.request(`${TAB} ${device}`, { ifAvailable: true }, (lock) => {
      if (lock) held.add(device);
      resolve(lock !== null);
      return lock ? new Promise(() => {}) : undefined;
    });
  });
}

async function adopt(prefix: string, device: string): Promise<void> {
  const { held: locks = [] } = await navigator.locks.query();
  const alive = new Set(locks.map((lock) => lock.name));
  const owners = new Map<string, string[]>();
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(prefix)) continue;
    const owner = key.slice(prefix.length).split(":", 1)[0]!;
    if (owner === device || alive.has(`${TAB} ${owner}`)) continue;
    owners.set(owner, [...(owners.get(owner) ?? []), key.slice(prefix.length + owner.length + 1)]);
  }
  for (const [owner, names] of owners) adoptOf(`${prefix}${owner}:`, `${prefix}${device}:`, names);
}

/** What one closed tab left. Where both have the same file or result, it stays for the next tab. */
function adoptOf(from: string, to: string, names: string[]): void {
  const taken = (name: string) => localStorage.getItem(to + name) !== null;
  const batches = names.filter((name) => /^batch(:|$)/.test(name));
  const files = names.filter((name) => name.startsWith("file:"));
  // A batch tells what became of the files that it left with, and of no other tab's: they stay together.
  if (batches.length === 0 || !files.some(taken)) {
    for (const name of batches) {
      const parted = partedFrom(files, localStorage.getItem(from + name) ?? "");
      if (!parted) rename(from + name, `${to}batch:${newUuid().slice(0, 8)}`);
      else if (![...parted.keys()].some(taken)) exchange(from + name, to, parted);
    }
    for (const name of files) if (!taken(name)) rename(from + name, to + name);
  }
  for (const name of names) if (name.startsWith("draft:") && !taken(name)) rename(from + name, to + name);
  if (names.includes("overtaken")) adoptOvertaken(`${from}overtaken`, `${to}overtaken`);
}

/** What no file has for its oid. */
const NO_OID = "0".repeat(40);

/**
 * The files of a batch that are not where it is. Tabs of before took them away from it, and saved them: what it has may have been
 * taken back since, so that it is not sent again. As files that started from nothing known they are what the server has, or somebody
 * decides. `undefined` = it is to be sent as it is.
 */
function partedFrom(files: string[], value: string): Map<string, string> | undefined {
  const { format, ops } = batchOf(value);
  if (format !== undefined || !ops || ops.some(({ path }) => files.includes(`file:${path}`))) return undefined;
  return new Map(ops.map(({ op, path, content = "" }) => [
    `file:${path}`, JSON.stringify({ text: op === "delete" ? null : content, known: { oid: NO_OID } }),
  ]));
}

/** All of them come instead of what was there, or it stays. */
function exchange(from: string, to: string, values: Map<string, string>): void {
  const before = localStorage.getItem(from) ?? "";
  localStorage.removeItem(from);
  if ([...values].every(([name, value]) => written(to + name, value))) return;
  for (const name of values.keys()) localStorage.removeItem(to + name);
  written(from, before);
}

function batchOf(value: string): { format?: number; ops?: PendingOp[] } {
  try {
    const { format, ops } = JSON.parse(value) as { format?: number; ops?: PendingOp[] };
    return { ...(format === undefined ? {} : { format }), ...(Array.isArray(ops) ? { ops } : {}) };
  } catch {
    return {};
  }
}

/** A list that an earlier tab left behind is put after what this one has. One that is damaged stays where it is, and harms nothing. */
function adoptOvertaken(from: string, to: string): void {
  const [list, ops] = [listed(localStorage.getItem(to) ?? "[]"), listed(localStorage.getItem(from) ?? "")];
  if (list && ops) rename(from, to, JSON.stringify([...list, ...ops]));
}

/**
 * The new key is written before the old one goes, unless there is no room for both. Where there is no room either way, all stays as it
 * was: it is the next tab's. Nothing else of this page runs in between.
 */
function rename(from: string, to: string, value = localStorage.getItem(from) ?? ""): void {
  const before = localStorage.getItem(from) ?? "";
  if (!written(to, value)) {
    localStorage.removeItem(from);
    if (!written(to, value)) return void written(from, before);
  }
  localStorage.removeItem(from);
}

/** `false` = there is no room. */
function written(key: string, value: string): boolean {
  try {
    localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

function listed(value: string): unknown[] | undefined {
  try {
    const list: unknown = JSON.parse(value);
    return Array.isArray(list) ? list : undefined;
  } catch {
    return undefined;
  }
}
