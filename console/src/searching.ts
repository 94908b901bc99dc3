import type { Found, SearchEnd, SearchRequest } from "treehold";
import type { ProjectStore } from "./store.js";
import { Watched } from "./watch.js";

/** Matches that are shown; who needs more asks for less. */
export const MATCHES_MAX = 2_000;
/** What comes at once is drawn once, milliseconds. */
const GATHER_MS = 100;

/** What is looked for. */
export interface Wanted {
  query: string;
  regex: boolean;
  word: boolean;
  case: "smart" | "sensitive" | "insensitive";
  /** Globs, with spaces between them. */
  globs: string;
  context: number;
}

/** What was found in a file. */
export interface FoundFile {
  path: string;
  /** It cannot be opened here. */
  odd: boolean;
  pending: boolean;
  hits: Found[];
}

/** A search in the files of a branch's view, as its matches come. It stays when another page of the branch is looked at. */
export class Search extends Watched {
  wanted: Wanted = { query: "", regex: false, word: false, case: "smart", globs: "", context: 0 };
  files: FoundFile[] = [];
  matches = 0;
  state: "" | "running" | "stopped" | "full" | "done" = "";
  searched = { files: 0, binary: 0, large: 0 };
  error: unknown;
  readonly #store: ProjectStore;
  #controller: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(store: ProjectStore) {
    super();
    this.#store = store;
  }

  /** Ends it where it is. */
  stop(): void {
    this.#controller?.abort();
    if (this.state === "running") this.#settle("stopped");
  }

  /** Looks for something else; what is looked for is given up. */
  async start(wanted: Wanted): Promise<void> {
    this.#controller?.abort();
    const controller = new AbortController();
    this.#controller = controller;
    this.wanted = wanted;
    this.files = [];
    this.matches = 0;
    this.searched = { files: 0, binary: 0, large: 0 };
    this.error = undefined;
    this.#settle("running");
    try {
      // What was just typed is searched, too.
      await this.#store.autosave.flush();
      controller.signal.throwIfAborted();
      const onEnd = (end: SearchEnd) => this.#count(end);
      for await (const hit of this.#store.project.search(this.#request(wanted), { signal: controller.signal, onEnd })) {
        if (controller.signal.aborted) return;
        this.#add(hit);
      }
      if (!controller.signal.aborted) this.#settle(this.matches >= MATCHES_MAX ? "full" : "done");
    } catch (error) {
      if (controller.signal.aborted) return;
      this.error = error;
      this.#settle("stopped");
    }
  }

  #request({ query, regex, word, case: cased, globs, context }: Wanted): SearchRequest {
    const given = globs.split(/[\s,]+/).filter(Boolean);
    return {
      query, regex, word, case: cased, context, limit: MATCHES_MAX, ...this.#store.at, ...(given.length > 0 ? { globs: given } : {}),
    };
  }

  #add(hit: Found): void {
    const last = this.files.at(-1);
    if (last?.path === hit.path) last.hits.push(hit);
    else this.files.push({ path: hit.path, odd: hit.path_b64 !== undefined, pending: hit.source === "pending", hits: [hit] });
    this.matches++;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.changed();
    }, GATHER_MS);
  }

  #count({ files_searched, skipped }: SearchEnd): void {
    this.searched.files += files_searched;
    this.searched.binary += skipped.binary;
    this.searched.large += skipped.too_large;
  }

  #settle(state: Search["state"]): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.state = state;
    this.changed();
  }
}
