import { TreeholdError, problem } from "./errors.js";
import { condition, readContent, type FileContent } from "./files.js";
import type { Call, Query, Request } from "./http.js";
import { keyed, only, type KeyedCall, type Project } from "./project.js";
import { Pages } from "./streams.js";
import type {
  BatchAnswer, CheckpointDetail, CheckpointEntry, CheckpointList, CheckpointRestored, CommitAnswer, CommitRequest, ConflictFile,
  ConflictPage, Diff, DropAnswer, Mode, Oid, OpResult, Origin, PendingAnswer, PendingBatch, PendingEntry, PendingList,
  ResolveFile, Status, Uuid, VersionEntry, VersionList,
} from "./types.js";
import { blobOid, encodePath, type FilePath } from "./values.js";

/** Whose pending work, where, and what others are told of who edits it. */
export interface WorkspaceOptions extends Origin {
  user: Uuid;
  /** Short branch name; the project's default if not given. */
  branch?: string;
}

export interface PutOptions extends Call {
  mode?: Mode;
  /** The blob that the edit started from. The head's marks a conflict as resolved. */
  base?: Oid;
  /** What the caller last saw there; `null` = nothing. Another one is refused with 412, whose `fields.oid` is what is there. */
  expected?: Oid | null;
}

export interface DropOptions extends Call {
  /** What the caller last saw there; `null` = a deletion. Another one is refused with 412, whose `fields.oid` is what is there. */
  expected?: Oid | null;
}

/** The pending work of one user on one branch. */
export class Workspace {
  readonly project: Project;
  readonly user: Uuid;
  readonly branch: string | undefined;
  readonly #origin: Record<string, string | undefined>;

  constructor(project: Project, options: WorkspaceOptions) {
    this.project = project;
    this.user = options.user;
    this.branch = options.branch;
    this.#origin = {
      "Treehold-Device": options.device && latin(options.device),
      "Treehold-Actor": options.actor && latin(options.actor),
      "Treehold-Session": options.session && latin(options.session),
    };
  }

  #path(path?: FilePath): string {
    const rest = path === undefined ? "" : `/${encodePath(path)}`;
    return `/pending/${encodeURIComponent(this.project.name)}/${encodeURIComponent(this.user)}${rest}`;
  }

  #send<T>(request: Request): Promise<T> {
    return this.project.transport.json({ ...request, headers: { ...this.#origin, ...request.headers } });
  }

  #pages<P extends { next_cursor: string | null }, T>(path: string, query: Query, call: Call, of: (page: P) => T[]): Pages<P, T> {
    return new Pages((cursor) => this.#send<P>({ ...only(call), path, query: { ...query, cursor } }), of);
  }

  /** What is pending, in byte order of the path. */
  list(options: Call & { limit?: number } = {}): Pages<PendingList, PendingEntry> {
    const query = { branch: this.branch, limit: options.limit };
    return this.#pages(this.#path(), query, options, (page) => page.changes);
  }

  /** The bytes of a pending file, and of nothing else. The user's view of any file is `project.files.read(path, {user})`. */
  async get(path: FilePath, call: Call = {}): Promise<FileContent> {
    const request: Request = { ...only(call), path: this.#path(path), query: { branch: this.branch } };
    return (await readContent(this.project, request)) as FileContent;
  }

  /** Saves a file; durable when answered. */
  put(path: FilePath, content: Uint8Array | string, options: PutOptions = {}): Promise<PendingAnswer> {
    return this.#write(path, content, options);
  }

  /** Records that a file is to go. */
  delete(path: FilePath, options: Omit<PutOptions, "mode"> = {}): Promise<PendingAnswer> {
    return this.#write(path, null, options);
  }

  async #write(path: FilePath, content: Uint8Array | string | null, options: PutOptions): Promise<PendingAnswer> {
    const { mode, base, expected } = options;
    const query: Query = { branch: this.branch, mode, base, action: content === null ? "deleted" : undefined };
    const request: Request = { ...only(options), method: "PUT", path: this.#path(path), query, accept: [412] };
    request.headers = { ...this.#origin, ...condition(expected) };
    if (content !== null) request.body = content;
    const reply = await this.project.transport.send(request);
    const text = await reply.text();
    if (reply.status !== 412) return JSON.parse(text) as PendingAnswer;
    const refused = problem(412, text, reply.headers);
    const wanted = content === null ? null : blobOid(content);
    // An attempt before this one did it, and its answer was lost: so the view is not what was expected, but what was written.
    if (reply.attempt === 0 || refused.fields["oid"] !== wanted) throw refused;
    return this.#send({ ...request, headers: { ...condition(wanted) }, accept: [] });
  }

  /** Drops one pending change. Repeated only with `expected`: else it could take what another device saved meanwhile. */
  drop(path: FilePath, options: DropOptions = {}): Promise<DropAnswer> {
    const { expected } = options;
    const request: Request = { ...only(options), method: "DELETE", path: this.#path(path), query: { branch: this.branch } };
    return this.#send({ ...request, headers: condition(expected), repeatable: expected !== undefined });
  }

  /** Drops all pending work. Never repeated by itself. */
  dropAll(call: Call = {}): Promise<DropAnswer> {
    const request: Request = { ...only(call), method: "DELETE", path: this.#path(), query: { branch: this.branch } };
    return this.#send({ ...request, repeatable: false });
  }

  /** Several writes at once, atomically or with a result each. Repeating it with the same key is safe. */
  batch(request: PendingBatch, call: KeyedCall = {}): Promise<BatchAnswer> {
    const asked = keyed(call);
    return this.#send({ ...asked, ...only(call), method: "POST", path: this.#path(), query: { branch: this.branch }, json: request });
  }

  /** Where the branch is, and how each pending change stands to it. */
  status(call: Call = {}): Promise<Status> {
    const query = { user: this.user, branch: this.branch };
    return this.#send({ ...only(call), path: this.project.path("/status"), query });
  }

  /** All sides of what is not clean, against the head or against what a pull would bring. */
  conflicts(
    options: Call & { path?: string; against?: "head" | "remote"; limit?: number } = {},
  ): Pages<ConflictPage, ConflictFile> {
    const { path, against, limit } = options;
    const query = { user: this.user, branch: this.branch, path, against, limit };
    return this.#pages(this.project.path("/conflicts"), query, options, (page) => page.files);
  }

  /** Says what conflicting files become: all or none. */
  resolve(files: ResolveFile[], call: Call = {}): Promise<BatchAnswer> {
    const json = { user: this.user, branch: this.branch, files };
    return this.#send({ ...only(call), method: "POST", path: this.project.path("/resolve"), json });
  }

  /** Commits pending work, and pushes it where the project has a remote. Repeating it with the same key is safe. */
  commit(request: Omit<CommitRequest, "user" | "branch">, call: KeyedCall = {}): Promise<CommitAnswer> {
    const json = { ...request, user: this.user, branch: this.branch };
    return this.#send({ ...keyed(call), method: "POST", path: this.project.path("/commit"), json });
  }

  /** Every version that was saved lately, newest first. */
  history(options: Call & { path?: string; limit?: number } = {}): Pages<VersionList, VersionEntry> {
    const query = { user: this.user, branch: this.branch, path: options.path, limit: options.limit };
    return this.#pages(this.project.path("/history"), query, options, (page) => page.versions);
  }

  /** The bytes of a version. */
  async version(id: string, call: Call = {}): Promise<FileContent> {
    return (await readContent(this.project, { ...only(call), ...this.#named("history", id) })) as FileContent;
  }

  /** What differs between a version and `current`, `head` or another version. */
  versionDiff(id: string, options: Call & { against?: string } = {}): Promise<Diff> {
    const asked = this.#named("history", id, "/diff");
    const query = { ...asked.query, against: options.against };
    return this.#send({ ...only(options), ...asked, query, headers: { Accept: "application/json" } });
  }

  /** Makes a version pending again; `expected` as for a write. */
  restoreVersion(id: string, options: Call & { expected?: Oid | null } = {}): Promise<OpResult> {
    const asked = this.#named("history", id, "/restore");
    return this.#send({ ...only(options), ...asked, method: "POST", headers: condition(options.expected) });
  }

  checkpoints(options: Call & { limit?: number } = {}): Pages<CheckpointList, CheckpointEntry> {
    const query = { user: this.user, branch: this.branch, limit: options.limit };
    return this.#pages(this.project.path("/checkpoints"), query, options, (page) => page.checkpoints);
  }

  /** Keeps all that is pending, under a name. */
  createCheckpoint(name: string, options: Call & { message?: string } = {}): Promise<CheckpointEntry> {
    const json = { user: this.user, branch: this.branch, name, message: options.message };
    return this.#send({ ...only(options), method: "POST", path: this.project.path("/checkpoints"), json });
  }

  checkpoint(id: Uuid, call: Call = {}): Promise<CheckpointDetail> {
    return this.#send({ ...only(call), ...this.#named("checkpoints", id) });
  }

  checkpointDiff(id: Uuid, call: Call = {}): Promise<Diff> {
    const headers = { Accept: "application/json" };
    return this.#send({ ...only(call), ...this.#named("checkpoints", id, "/diff"), headers });
  }

  /** Makes pending again what the checkpoint has, and only that; the answer names the checkpoint that undoes it. */
  restoreCheckpoint(id: Uuid, call: Call = {}): Promise<CheckpointRestored> {
    return this.#send({ ...only(call), ...this.#named("checkpoints", id, "/restore"), method: "POST" });
  }

  async deleteCheckpoint(id: Uuid, call: Call = {}): Promise<void> {
    await this.#send({ ...only(call), ...this.#named("checkpoints", id), method: "DELETE", repeatable: false });
  }

  #named(kind: "history" | "checkpoints", id: string, rest = ""): { path: string; query: Query } {
    return { path: this.project.path(`/${kind}/${encodeURIComponent(id)}${rest}`), query: { user: this.user } };
  }
}

/** Header values are bytes: UTF-8, each as the letter with its number. */
function latin(text: string): string {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

/** The oid that a refused write found: `null` = no file; `undefined` = it was refused for another reason. */
export function foundInstead(error: unknown): Oid | null | undefined {
  if (!(error instanceof TreeholdError) || error.status !== 412) return undefined;
  return (error.fields["oid"] as Oid | null | undefined) ?? null;
}
