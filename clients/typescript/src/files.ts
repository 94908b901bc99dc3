import type { Call, Request } from "./http.js";
import { keyed, only, type KeyedCall, type Project } from "./project.js";
import { entries } from "./streams.js";
import type {
  CommitAnswer, FileEntry, FileList, LineRange, Mode, Oid, ReadFile, ReadItem, Snapshot, Source, Uuid,
} from "./types.js";
import { bytesOf, encodePath, toBase64, type FilePath } from "./values.js";

/** Which version is meant: a ref or commit (the default branch if not given), and whose pending work lies over it. */
export interface At {
  ref?: string;
  user?: Uuid;
}

/** A file's bytes, and what is known of them. */
export interface FileContent {
  oid: Oid;
  mode: string;
  /** Bytes of what is here; of the whole file where there was no range. */
  bytes: Uint8Array;
  /** Bytes of the whole file. */
  size: number;
  /** As UTF-8. */
  text(): string;
  /** The snapshot's commit. */
  commit: Oid | null;
  /** Where a user was named. */
  source: Source | undefined;
  /** Of the pending change, where only pending work was asked for. */
  revision: number | undefined;
  /** Whether the whole file is longer than this. */
  partial: boolean;
}

export interface ReadOptions extends Call, At {
  /** Bytes, the end not included. */
  range?: { start: number; end?: number };
}

export interface WriteOptions extends KeyedCall {
  branch?: string;
  message?: string;
  authorName?: string;
  authorEmail?: string;
  mode?: Mode;
  /** The file must have this oid; `null` = there must be none. */
  ifMatch?: Oid | null;
}

/** The files of a project. */
export class Files {
  readonly #project: Project;

  constructor(project: Project) {
    this.#project = project;
  }

  #path(path: FilePath): string {
    return `/files/${encodeURIComponent(this.#project.name)}/${encodePath(path)}`;
  }

  /** Every file, in byte order of the path; comes as a stream, so that it may be long. */
  async *list(
    options: Call & At & { prefix?: string; onSnapshot?: (of: Snapshot) => void } = {},
  ): AsyncGenerator<FileEntry, void, undefined> {
    const { ref, user, prefix, onSnapshot } = options;
    const path = `/files/${encodeURIComponent(this.#project.name)}`;
    const asked: Request = { ...only(options), path, query: { ref, user, prefix } };
    yield* entries<FileEntry, { next_cursor: null }>(this.#project.transport, asked, (head) => onSnapshot?.(head));
  }

  /** One page of the same. */
  page(options: Call & At & { prefix?: string; limit?: number; cursor?: string } = {}): Promise<FileList> {
    const { ref, user, prefix, limit, cursor } = options;
    const path = `/files/${encodeURIComponent(this.#project.name)}`;
    return this.#project.transport.json({ ...only(options), path, query: { ref, user, prefix, limit, cursor } });
  }

  /** A file's bytes. */
  async read(path: FilePath, options: ReadOptions = {}): Promise<FileContent> {
    const read = await this.#read(path, options, undefined);
    // Nothing was asked that could be answered with 304.
    return read as FileContent;
  }

  /** A file's bytes, unless it still has this oid: then `undefined`. */
  readIfChanged(path: FilePath, oid: Oid, options: ReadOptions = {}): Promise<FileContent | undefined> {
    return this.#read(path, options, oid);
  }

  async #read(path: FilePath, options: ReadOptions, known: Oid | undefined): Promise<FileContent | undefined> {
    const { ref, user, range } = options;
    const headers = {
      Range: range && `bytes=${range.start}-${range.end === undefined ? "" : range.end - 1}`,
      "If-None-Match": known && `"${known}"`,
    };
    return readContent(this.#project, { ...only(options), path: this.#path(path), query: { ref, user }, headers });
  }

  /** One commit that writes the file. */
  write(path: FilePath, content: Uint8Array | string, options: WriteOptions = {}): Promise<CommitAnswer> {
    const request = this.#commit("PUT", path, options);
    return this.#project.transport.json({ ...request, body: content });
  }

  /** One commit that deletes the file. */
  delete(path: FilePath, options: WriteOptions = {}): Promise<CommitAnswer> {
    return this.#project.transport.json(this.#commit("DELETE", path, options));
  }

  #commit(method: "PUT" | "DELETE", path: FilePath, options: WriteOptions): Request {
    const { branch, message, authorName, authorEmail, mode, ifMatch } = options;
    const call = keyed(options);
    const query = { branch, message, author_name: authorName, author_email: authorEmail, mode };
    const headers = { ...call.headers, ...condition(ifMatch) };
    return { ...call, method, path: this.#path(path), query, headers };
  }

  /**
   * Many files of one snapshot, in the order of `paths`, each whole: what the budget of an answer cut is put together.
   * A path that cannot be read comes with its error, and harms no other.
   */
  async *readMany(
    paths: Iterable<string | LineRange>,
    options: Call & At & { maxBytes?: number; onSnapshot?: (of: Snapshot) => void } = {},
  ): AsyncGenerator<ReadItem, void, undefined> {
    const { ref, user, maxBytes: max_bytes, onSnapshot } = options;
    const request = { paths: [...paths], ref, user, max_bytes };
    if (request.paths.length === 0) return;
    let cursor: string | undefined;
    let open: ReadFile | undefined;
    do {
      const json = { ...request, cursor };
      const asked: Request = { ...only(options), method: "POST", path: this.#project.path("/read"), json, repeatable: true };
      const items = entries<ReadItem, { next_cursor: string | null }>(
        this.#project.transport, asked, (head) => cursor === undefined && onSnapshot?.(head),
      );
      let next = await items.next();
      for (; !next.done; next = await items.next()) {
        const item: ReadItem = open && !("error" in next.value) ? glued(open, next.value) : next.value;
        open = "truncated" in item && item.truncated ? item : undefined;
        if (!open) yield item;
      }
      cursor = next.value.next_cursor ?? undefined;
    } while (cursor !== undefined);
    if (open) yield open;
  }
}

/** Two pieces of one file. */
function glued(first: ReadFile, second: ReadFile): ReadFile {
  const { truncated: _, ...whole } = { ...first, ...second };
  if (first.start_line !== undefined) whole.start_line = first.start_line;
  if (second.truncated) (whole as ReadFile).truncated = true;
  if (first.encoding === "utf-8" && second.encoding === "utf-8") {
    return { ...whole, encoding: "utf-8", content: first.content + second.content };
  }
  const [one, two] = [bytesOf(first), bytesOf(second)];
  const bytes = new Uint8Array(one.length + two.length);
  bytes.set(one);
  bytes.set(two, one.length);
  return { ...whole, encoding: "base64", content: toBase64(bytes) };
}

/** The headers of a condition: the caller's view must have this oid; `null` = nothing. */
export function condition(expected: Oid | null | undefined): Record<string, string> {
  if (expected === undefined) return {};
  return expected === null ? { "If-None-Match": "*" } : { "If-Match": `"${expected}"` };
}

/** Sends a request that is answered with a file's bytes, or with 304. */
export async function readContent(project: Project, request: Request): Promise<FileContent | undefined> {
  const reply = await project.transport.send({ ...request, accept: [304] });
  const bytes = await reply.bytes();
  if (reply.status === 304) return undefined;
  const { headers } = reply;
  const revision = headers.get("x-treehold-revision");
  return {
    oid: headers.get("etag")?.replaceAll('"', "") ?? "",
    mode: headers.get("git-mode") ?? "",
    bytes,
    size: Number(/\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1] ?? bytes.length),
    text: () => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes),
    commit: headers.get("git-commit"),
    source: (headers.get("x-treehold-source") as Source | null) ?? undefined,
    revision: revision === null ? undefined : Number(revision),
    partial: reply.status === 206,
  };
}
