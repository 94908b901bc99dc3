// Pending work: one write, many at once, how it stands.
import type { Encoding, ItemError, Mode, Oid, Page, Pathed, Uuid } from "./shared.js";

/** Where an edit comes from, as its caller says. */
export interface Origin {
  device?: string;
  /** `person`, `agent` or `service`, and perhaps `:name`. */
  actor?: string;
  session?: string;
}
export type PendingAction = "modified" | "created" | "deleted" | "none";
/** Answer to an autosave. */
export interface PendingAnswer extends Pathed {
  /** `none`: the write equals the head. */
  action: PendingAction;
  mode: string | null;
  /** `null` for a deletion. */
  oid: Oid | null;
  size: number;
  base_oid: Oid | null;
  revision: number;
}
export interface PendingEntry extends PendingAnswer, Origin {
  updated_at: string;
}
export interface PendingList extends Page {
  revision: number;
  changes: PendingEntry[];
}
export interface DropAnswer {
  revision: number;
  dropped: number;
}

export type PendingVerb = "put" | "delete" | "move" | "chmod" | "edit" | "patch";
export interface PendingOp {
  op: PendingVerb;
  path: string;
  /** For `move`. */
  from?: string;
  /** For `put`. */
  content?: string;
  encoding?: Encoding;
  mode?: Mode;
  /** For `edit`: occurs exactly once, unless `replace_all`. */
  old_string?: string;
  new_string?: string;
  replace_all?: boolean;
  /** For `patch`: a unified diff. */
  diff?: string;
  /** What the view must have at the path; `null` = nothing. */
  expected_oid?: Oid | null;
  /** The blob that the edit started from. */
  base?: Oid;
}
export interface PendingBatch {
  ops: PendingOp[];
  /** All or nothing, which is the default; else each has its own result. */
  atomic?: boolean;
  base_revision?: number;
  /** Where the view is not what an operation expects: `fail` (the default), or `merge`. */
  on_conflict?: "fail" | "merge";
}
export type OpStatus = "applied" | "merged" | "duplicate" | "conflict" | "failed" | "not_applied";
export interface OpConflict {
  base: Oid | null;
  ours: Oid | null;
  theirs: Oid | null;
  /** The version of local history that has what was sent. */
  version: string | null;
}
export interface OpError extends ItemError {
  occurrences?: number;
  hunk?: number;
  conflict?: OpConflict;
}
export interface OpResult extends Pathed {
  status: OpStatus;
  oid: Oid | null;
  size: number | null;
  mode: string | null;
  base_oid: Oid | null;
  revision: number | null;
  error?: OpError;
}
export interface BatchAnswer {
  revision: number;
  results: OpResult[];
}

/** `clean`: the head still has the base; `outdated`: it moved, and the change merges by itself; `conflict`: it does not. */
export type ChangeState = "clean" | "outdated" | "conflict";
export interface StatusEntry extends Pathed {
  action: PendingAction;
  oid: Oid | null;
  base_oid: Oid | null;
  head_oid: Oid | null;
  /** What is pending; null for a deletion. */
  mode: string | null;
  head_mode: string | null;
  /** What the edit started from, where that is known: another `mode` is the user's own change. */
  base_mode?: string;
  state: ChangeState;
  /** A commit would make nothing of it, as the head has the change already; it goes with the user's next commit. */
  in_head?: boolean;
  revision: number;
  /** Others who have pending work on the path. */
  others?: Uuid[];
}
export interface AttemptView {
  attempt: Uuid;
  commit: Oid;
  state: string;
}
export interface Status {
  branch: string;
  head: Oid | null;
  remote_head: Oid | null;
  /** The remote is said to be elsewhere by now; a sync tells. */
  remote_moved: boolean;
  remote_head_reported: Oid | null;
  /** When that was said, if it moved. */
  remote_reported_at: string | null;
  ahead: number;
  behind: number;
  revision: number;
  changes: StatusEntry[];
  attempts: AttemptView[];
}
