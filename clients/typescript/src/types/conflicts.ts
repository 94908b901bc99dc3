// What stands between pending work and the branch, and what becomes of it.
import type { Encoding, Mode, Oid, Page, Pathed, Uuid } from "./shared.js";
import type { ChangeState, PendingAction } from "./pending.js";

export interface MergeSide {
  oid: Oid;
  mode: string | null;
  size: number | null;
  /** Why there is no content here. */
  omitted?: "binary" | "too_large" | "unavailable";
  encoding?: Encoding;
  content?: string;
}
export interface ConflictHunk {
  /** Where its first marker stands in the merged text, from 1. */
  line: number;
  base: string;
  ours: string;
  theirs: string;
}
export interface ConflictFile extends Pathed {
  state: ChangeState;
  base: MergeSide | null;
  /** `null` = the edit deletes the file. */
  ours: MergeSide | null;
  theirs: MergeSide | null;
  /** What merging gives; `null` where one side has no file, or they are of different types. */
  mode: string | null;
  merged: { content: string; hunks: ConflictHunk[] } | null;
  others: { user: Uuid; action: PendingAction; oid: Oid | null; updated_at: string }[];
}
export interface ConflictPage extends Page {
  branch: string;
  revision: number;
  against: Oid | null;
  files: ConflictFile[];
}
export interface ResolveFile {
  path: string;
  take: "ours" | "theirs" | "merged" | "text";
  /** For `text`. */
  content?: string;
  encoding?: Encoding;
  mode?: Mode;
  /** What the branch had when the caller decided: another one is refused. */
  theirs?: Oid | null;
}
