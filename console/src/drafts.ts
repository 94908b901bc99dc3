import type { AutosaveStorage } from "treehold";
import { Watched } from "./watch.js";

/** A result of a conflict that somebody types. */
export interface Draft {
  text: string;
  /** Names the sides that it began with. */
  sides: string;
}

/** What is in conflict: pending work with the branch, or what two devices typed. */
export type Between = "branch" | "device";

/**
 * Results of conflicts that are typed and not taken yet. They outlive their page of the console, and the window, as what is typed in a
 * file does.
 */
export class Drafts extends Watched {
  readonly #storage: AutosaveStorage;
  readonly #prefix: string;
  readonly #drafts = new Map<string, Draft>();
  /** Those that the storage has no room for. */
  readonly #unkept = new Set<string>();

  private constructor(storage: AutosaveStorage, prefix: string) {
    super();
    this.#storage = storage;
    this.#prefix = prefix;
  }

  static async open(storage: AutosaveStorage, storageKey: string): Promise<Drafts> {
    const drafts = new Drafts(storage, `${storageKey}:draft:`);
    for (const [key, value] of await storage.entries(drafts.#prefix)) {
      const draft = parsed(value);
      if (draft) drafts.#drafts.set(key.slice(drafts.#prefix.length), draft);
    }
    return drafts;
  }

  get size(): number {
    return this.#drafts.size;
  }

  get(between: Between, path: string): Draft | undefined {
    return this.#drafts.get(`${between}:${path}`);
  }

  all(): { between: Between; path: string; draft: Draft; kept: boolean }[] {
    return [...this.#drafts].map(([name, draft]) => {
      const at = name.indexOf(":");
      return { between: name.slice(0, at) as Between, path: name.slice(at + 1), draft, kept: !this.#unkept.has(name) };
    });
  }

  async keep(between: Between, path: string, draft: Draft): Promise<void> {
    const name = `${between}:${path}`;
    const before = `${this.#drafts.has(name)} ${this.#unkept.has(name)}`;
    this.#drafts.set(name, draft);
    try {
      await this.#storage.set(this.#prefix + name, JSON.stringify(draft));
      this.#unkept.delete(name);
    } catch {
      this.#unkept.add(name);
    }
    if (before !== `true ${this.#unkept.has(name)}`) this.changed();
  }

  async drop(between: Between, path: string): Promise<void> {
    const name = `${between}:${path}`;
    if (!this.#drafts.delete(name)) return;
    this.#unkept.delete(name);
    await this.#storage.delete(this.#prefix + name);
    this.changed();
  }
}

/** `undefined` = it is damaged, and stays where it is. */
function parsed(value: string): Draft | undefined {
  try {
    const { text, sides } = JSON.parse(value) as Partial<Draft>;
    return typeof text === "string" && typeof sides === "string" ? { text, sides } : undefined;
  } catch {
    return undefined;
  }
}
