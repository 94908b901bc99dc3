// Commits, and what goes to and comes from the remote.
import type { Encoding, Mode, Oid, Pathed, Uuid } from "./shared.js";
import type { ChangeState, PendingAction } from "./pending.js";

export interface Author {
  name: string;
  email: string;
  /** RFC 3339 or `@unix +zzzz`; now in +0000 if not given. */
  date?: string;
}
export interface CommitRequest {
  user: Uuid;
  /** Without the final LF. */
  message: string;
  author: Author;
  branch?: string;
  /** Only these. */
  paths?: string[];
  expected_head_sha?: Oid;
  on_conflict?: "merge" | "fail" | "branch";
  /** True if the project has a remote, unless given. */
  push?: boolean;
  dry_run?: boolean;
  trailers?: boolean;
}
export interface CommitAction {
  action: "create" | "update" | "delete" | "move" | "chmod";
  path: string;
  from?: string;
  mode?: Mode;
  encoding?: Encoding;
  content?: string;
  expected_oid?: Oid;
}
export interface ActionsRequest {
  branch?: string;
  message: string;
  author: Author;
  expected_head_sha?: Oid;
  push?: boolean;
  actions: CommitAction[];
}
export interface CommittedFile extends Pathed {
  action: PendingAction;
  oid: Oid | null;
}
export interface CommitAnswer {
  commit: Oid;
  tree: Oid;
  parents: Oid[];
  branch: string;
  pushed: boolean;
  files: CommittedFile[];
  objects: number;
}
/** In the `conflicts` of a refused commit. */
export interface Conflict extends Pathed {
  base: Oid | null;
  ours: Oid | null;
  theirs: Oid | null;
}

export interface SyncRequest {
  branch?: string;
  /** Commits of history for the first sync, 0 = all. */
  depth?: number;
  dry_run?: boolean;
  on_conflict?: "merge" | "fail";
}
export interface ChangedFile extends Pathed {
  action: PendingAction;
  old_oid: Oid | null;
  new_oid: Oid | null;
  old_mode: string | null;
  new_mode: string | null;
}
export interface TouchedPending extends Pathed {
  user: Uuid;
  state: ChangeState;
  /** A commit would make nothing of it, as the new head has the change already. */
  in_head?: boolean;
}
export interface SyncAnswer {
  branch: string;
  from: Oid | null;
  to: Oid | null;
  changed: ChangedFile[];
  /** Not all of them are in `changed`: a comparison of `from` and `to` has them in pages; where `from` is `null`, the list of files. */
  truncated?: boolean;
  changed_count: number;
  objects: number;
  bytes: number;
  pending: TouchedPending[];
}
export interface SyncProgress {
  step: string;
  done: number;
  /** `null` = not known. */
  total: number | null;
}
export interface PushAnswer {
  branch: string;
  from: Oid | null;
  to: Oid;
  commits: number;
  objects: number;
  pushed: boolean;
}
