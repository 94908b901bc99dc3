import { Autosave } from "./autosave.js";
import { Feed, type FeedOptions } from "./feed.js";
import { Files } from "./files.js";
import type { Call, Query, Request, Transport } from "./http.js";
import { entries, Pages, serverEvents, type End } from "./streams.js";
import { toldProblem, TreeholdError } from "./errors.js";
import type { AutosaveOptions } from "./state.js";
import type {
  ActionsRequest, Blame, CommitAnswer, Diff, DiffFile, Found, LogEntry, LogPage, PushAnswer, RefList, ReflogPage, ReflogView,
  PromoteRequest, RefRequest, RefView, SearchRequest, Snapshot, SyncAnswer, SyncProgress, SyncRequest, TreeChange, TreeDiff, Uuid,
} from "./types.js";
import { encodePath, newUuid, type FilePath } from "./values.js";
import { Workspace, type WorkspaceOptions } from "./workspace.js";

/** What calls that may speak with the project's remote take. */
export interface RemoteCall extends Call {
  /** Credentials for the remote, for this request only. */
  remoteToken?: string;
}

/** What calls that a key makes safe to repeat take. */
export interface KeyedCall extends RemoteCall {
  /** Made by the client if not given. */
  idempotencyKey?: string;
}

export interface DiffOptions extends Call {
  /** A ref, or the oid of a commit or tree. */
  from?: string;
  to?: string;
  /** Compared to this user's view. */
  user?: Uuid;
  branch?: string;
  prefix?: string;
  renames?: boolean;
  limit?: number;
}

/** The counts at the end of a search. */
export interface SearchEnd extends End {
  files_searched: number;
  bytes_searched: number;
  skipped: { binary: number; too_large: number; unreadable: number };
}

/** Milliseconds without a byte: a commit that is pushed waits for the remote. */
export const REMOTE_TIMEOUT_MS = 300_000;

/** One project. */
export class Project {
  readonly transport: Transport;
  /** Its id or unique name. */
  readonly name: string;
  readonly files: Files;

  constructor(transport: Transport, name: string) {
    this.transport = transport;
    this.name = name;
    this.files = new Files(this);
  }

  /** A route under the project. */
  path(rest = ""): string {
    return `/projects/${encodeURIComponent(this.name)}${rest}`;
  }

  #get<T>(rest: string, query: Query, call: Call): Promise<T> {
    return this.transport.json({ ...call, path: this.path(rest), query });
  }

  #pages<P extends { next_cursor: string | null }, T>(rest: string, query: Query, call: Call, of: (page: P) => T[]): Pages<P, T> {
    return new Pages((cursor) => this.#get<P>(rest, { ...query, cursor }, call), of);
  }

  /** A user's pending work on a branch. */
  workspace(options: WorkspaceOptions): Workspace {
    return new Workspace(this, options);
  }

  /** Saves edits by itself: see {@link Autosave}. */
  autosave(options: WorkspaceOptions & AutosaveOptions): Autosave {
    return new Autosave(this.workspace(options), options);
  }

  /** One commit of many files without pending work. */
  commit(request: ActionsRequest, call: KeyedCall = {}): Promise<CommitAnswer> {
    return this.transport.json({ ...keyed(call), method: "POST", path: this.path("/commits"), json: request });
  }

  /** Pulls. `onProgress` is told how far it is. Repeating it is safe. */
  async sync(
    request: SyncRequest = {},
    options: RemoteCall & { onProgress?: (progress: SyncProgress) => void } = {},
  ): Promise<SyncAnswer> {
    const { onProgress, ...call } = options;
    const sent: Request = { ...remote(call), method: "POST", path: this.path("/sync"), json: request, repeatable: true };
    if (!onProgress) return this.transport.json(sent);
    const reply = await this.transport.send({ ...sent, headers: { ...sent.headers, Accept: "text/event-stream" } });
    for await (const { event, data } of serverEvents(reply)) {
      if (event === "progress") onProgress(JSON.parse(data) as SyncProgress);
      if (event === "result") return JSON.parse(data) as SyncAnswer;
      if (event === "problem") throw toldProblem(data);
    }
    throw new TreeholdError(0, "network", "The answer was cut; sync again, which is safe.");
  }

  /** Pushes what was committed without being pushed. Repeating it is safe. */
  push(options: RemoteCall & { branch?: string } = {}): Promise<PushAnswer> {
    const { branch, ...call } = options;
    const json = branch === undefined ? {} : { branch };
    return this.transport.json({ ...remote(call), method: "POST", path: this.path("/push"), json, repeatable: true });
  }

  /** What happens in the project, without an end. */
  feed(options: FeedOptions = {}): Feed {
    return new Feed(this, options);
  }

  /** What matches in the files of one snapshot, as it is found. `onEnd` is told what was searched, perhaps in several pieces. */
  async *search(
    request: SearchRequest,
    options: Call & { onSnapshot?: (of: Snapshot) => void; onEnd?: (end: SearchEnd) => void } = {},
  ): AsyncGenerator<Found, void, undefined> {
    const { onSnapshot, onEnd, ...call } = options;
    let cursor: string | undefined;
    let left = request.limit;
    do {
      const json = { ...request, ...(cursor === undefined ? {} : { cursor }), ...(left === undefined ? {} : { limit: left }) };
      const asked: Request = { ...call, method: "POST", path: this.path("/search"), json, repeatable: true };
      const found = entries<Found, SearchEnd>(this.transport, asked, (head) => cursor === undefined && onSnapshot?.(head));
      let next = await found.next();
      for (; !next.done; next = await found.next()) {
        if (left !== undefined) left--;
        yield next.value;
      }
      onEnd?.(next.value);
      cursor = next.value.next_cursor ?? undefined;
    } while (cursor !== undefined && (left === undefined || left > 0));
  }

  /** What differs, with patches. */
  diff(options: DiffOptions): Pages<Diff, DiffFile> {
    const { signal: _s, timeoutMs: _t, retries: _r, ...query } = options;
    const call: Request = { ...only(options), path: this.path("/diff"), headers: { Accept: "application/json" } };
    const get = (cursor: string | undefined) =>
      this.transport.json<Diff>({ ...call, query: { limit: 100, ...query, cursor } });
    return new Pages(get, (page) => page.files);
  }

  /** What differs, as git's unified text. */
  async diffText(options: DiffOptions): Promise<string> {
    const { signal: _s, timeoutMs: _t, retries: _r, ...query } = options;
    const headers = { Accept: "text/x-diff" };
    return (await this.transport.send({ ...only(options), path: this.path("/diff"), query, headers })).text();
  }

  /** Which paths differ, without looking into them. */
  changedPaths(options: DiffOptions): Pages<TreeDiff, TreeChange> {
    const { signal: _s, timeoutMs: _t, retries: _r, ...query } = options;
    return this.#pages("/diff", { ...query, patch: false }, only(options), (page) => page.files);
  }

  /** History, newest first; with a path only commits that changed it. */
  log(options: Call & { ref?: string; path?: string; firstParent?: boolean; limit?: number } = {}): Pages<LogPage, LogEntry> {
    const { ref, path, firstParent, limit } = options;
    return this.#pages("/log", { ref, path, first_parent: firstParent, limit }, only(options), (page) => page.commits);
  }

  /** Who wrote which lines. */
  blame(
    path: FilePath,
    options: Call & { ref?: string; user?: Uuid; startLine?: number; endLine?: number } = {},
  ): Promise<Blame> {
    const { ref, user, startLine, endLine } = options;
    const query = { ref, user, start_line: startLine, end_line: endLine };
    return this.#get(`/blame/${encodePath(path)}`, query, only(options));
  }

  refs(options: Call & { prefix?: string; limit?: number } = {}): Pages<RefList, RefView> {
    const { prefix, limit } = options;
    return this.#pages("/refs", { prefix, limit }, only(options), (page) => page.refs);
  }

  /** Creates or moves a ref, such as `heads/main`, by compare-and-swap where `expected_oid` is given. */
  writeRef(name: string, request: RefRequest, call: Call = {}): Promise<RefView> {
    const repeatable = request.expected_oid === undefined;
    return this.transport.json({ ...call, method: "PUT", path: this.path(`/refs/${encodePath(name)}`), json: request, repeatable });
  }

  async deleteRef(name: string, options: Call & { expectedOid?: string } = {}): Promise<void> {
    const query = { expected_oid: options.expectedOid };
    const path = this.path(`/refs/${encodePath(name)}`);
    await (await this.transport.send({ ...only(options), method: "DELETE", path, query, repeatable: false })).bytes();
  }

  /** Makes an ephemeral branch one that stays, or moves another one to where it is. */
  promote(request: PromoteRequest, call: Call = {}): Promise<RefView> {
    return this.transport.json({ ...call, method: "POST", path: this.path("/promote"), json: request });
  }

  /** What refs were, newest first. */
  reflog(options: Call & { ref?: string; limit?: number } = {}): Pages<ReflogPage, ReflogView> {
    const { ref, limit } = options;
    return this.#pages("/reflog", { ref, limit }, only(options), (page) => page.entries);
  }
}

/** Only what is for the call itself. */
export function only(options: Call): Call {
  const call: Call = {};
  if (options.signal) call.signal = options.signal;
  if (options.timeoutMs !== undefined) call.timeoutMs = options.timeoutMs;
  if (options.retries !== undefined) call.retries = options.retries;
  return call;
}

export function remote(call: RemoteCall): Call & { headers: Record<string, string | undefined> } {
  return { timeoutMs: REMOTE_TIMEOUT_MS, ...only(call), headers: { "X-Remote-Token": call.remoteToken } };
}

export function keyed(call: KeyedCall): Call & { headers: Record<string, string | undefined>; repeatable: true } {
  const asked = remote(call);
  return { ...asked, headers: { ...asked.headers, "Idempotency-Key": call.idempotencyKey ?? newUuid() }, repeatable: true };
}
