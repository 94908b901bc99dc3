import { newUuid, Treehold, webStorage, type AutosaveStorage } from "treehold";

/** Who sits here: an id that the server knows work by, and what commits say. */
export interface Person {
  user: string;
  name: string;
  email: string;
}

const KEY = "treehold-key";
const PERSON = "treehold-person";
const TAB = "treehold-tab";
const QUEUE = "treehold-queue";

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

export function signIn(key: string, person: Person): void {
  sessionStorage.setItem(KEY, key);
  localStorage.setItem(PERSON, JSON.stringify(person));
}

export function signOut(): void {
  sessionStorage.removeItem(KEY);
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
  if (navigator.locks) await adopt(storage, prefix, device);
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
    const [queue = "", of, whose, owner = "", kind] = key.split(":");
    const on = queue === QUEUE ? undefined : queue.slice(QUEUE.length + 1);
    if (of !== project || whose !== user || on === branch || (kind !== "file" && kind !== "overtaken")) continue;
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

async function adopt(storage: AutosaveStorage, prefix: string, device: string): Promise<void> {
  const { held: locks = [] } = await navigator.locks.query();
  const alive = new Set(locks.map((lock) => lock.name));
  const mine = `${prefix}${device}:`;
  const all = await storage.entries(prefix);
  const taken = new Set(all.map(([key]) => key));
  for (const [key, value] of all) {
    const [owner = "", ...rest] = key.slice(prefix.length).split(":");
    const name = `${mine}${rest.join(":")}`;
    if (alive.has(`${TAB} ${owner}`) || owner === device || taken.has(name) || rest[0] !== "file") continue;
    await storage.set(name, value);
    await storage.delete(key);
    taken.add(name);
  }
  const left = all.filter(([key]) => {
    const [owner, kind, ...more] = key.slice(prefix.length).split(":");
    return kind === "overtaken" && more.length === 0 && !alive.has(`${TAB} ${owner}`) && owner !== device;
  });
  await adoptOvertaken(storage, `${mine}overtaken`, all, left);
}

/** Lists that earlier pages left behind are put after what this tab has. One that is damaged stays where it is, and harms nothing. */
async function adoptOvertaken(storage: AutosaveStorage, name: string, all: [string, string][], left: [string, string][]): Promise<void> {
  const list = listed(all.find(([key]) => key === name)?.[1] ?? "[]");
  if (!list) return;
  const sources: string[] = [];
  for (const [key, value] of left) {
    const ops = listed(value);
    if (!ops) continue;
    list.push(...ops);
    sources.push(key);
  }
  if (sources.length === 0) return;
  await storage.set(name, JSON.stringify(list));
  for (const key of sources) await storage.delete(key);
}

function listed(value: string): unknown[] | undefined {
  try {
    const list: unknown = JSON.parse(value);
    return Array.isArray(list) ? list : undefined;
  } catch {
    return undefined;
  }
}
