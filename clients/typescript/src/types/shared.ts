// What all of them have in common.

/** 40 hex digits of a git object id. */
export type Oid = string;
/** Opaque: users live in the caller's database. */
export type Uuid = string;
/** Six octal digits. */
export type Mode = "100644" | "100755" | "120000";
export type Encoding = "utf-8" | "base64";
/** Where bytes come from: a commit, or the user's uncommitted work. */
export type Source = "committed" | "pending";

/** A path in an answer; where its bytes are not UTF-8 they stand beside it in base64. */
export interface Pathed {
  path: string;
  path_b64?: string;
}

/** One page of a list. */
export interface Page {
  /** Give it as `cursor` to go on; `null` = this was the last. */
  next_cursor: string | null;
}

/** The snapshot that a list, a batch read or a search is of. */
export interface Snapshot {
  /** `null` on an unborn branch. */
  commit: Oid | null;
  /** Of the user's workspace, with a user. */
  revision?: number | null;
}
export interface ItemError {
  code: string;
  detail: string;
}

/** The body of a refusal (RFC 9457). */
export interface ProblemBody {
  type?: string;
  title?: string;
  status: number;
  /** Stable. */
  code: string;
  /** A sentence that says what to do. */
  detail: string;
  [field: string]: unknown;
}
