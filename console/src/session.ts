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

/**
 * A tab's name is its own, also if it is a copy of another tab, and stays over a reload. What a tab that is closed has left behind
 * becomes this one's.
 */
export async function openQueue(project: string, user: string): Promise<Queue> {
  const storage = webStorage(localStorage);
  let device = sessionStorage.getItem(TAB) ?? `console ${newUuid().slice(0, 8)}`;
  if (navigator.locks && !held.has(device)) {
    if (!(await hold(device))) {
      device = `console ${newUuid().slice(0, 8)}`;
      await hold(device);
    }
  }
  sessionStorage.setItem(TAB, device);
  const storageKey = `${QUEUE}:${project}:${user}:${device}`;
  if (navigator.locks) await adopt(storage, `${QUEUE}:${project}:${user}:`, device);
  return { device, storage, storageKey };
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
    if (alive.has(`${TAB} ${owner}`) || taken.has(name) || rest[0] !== "file") continue;
    await storage.set(name, value);
    await storage.delete(key);
    taken.add(name);
  }
}
