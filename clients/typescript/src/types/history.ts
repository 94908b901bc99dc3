// Comparisons, the log, refs and where they were.
import type { Oid, Page, Pathed } from "./shared.js";

export interface TreeChange extends Pathed {
  action: "created" | "deleted" | "modified" | "renamed";
  old_path?: string;
  old_path_b64?: string;
  old_oid: Oid | null;
  new_oid: Oid | null;
  old_mode: string | null;
  new_mode: string | null;
}
export interface DiffFile extends TreeChange {
  binary: boolean;
  additions: number;
  deletions: number;
  /** Hunks as git writes them, without the file header. */
  patch: string;
}
export interface Diff extends Page {
  from: Oid | null;
  to: Oid | null;
  files: DiffFile[];
}
export interface TreeDiff extends Page {
  from: Oid | null;
  to: Oid | null;
  from_tree: Oid | null;
  to_tree: Oid | null;
  revision?: number;
  files: TreeChange[];
}
export interface Person {
  name: string;
  email: string;
  date: string;
}
export interface LogEntry {
  commit: Oid;
  tree: Oid;
  parents: Oid[];
  author: Person;
  committer: Person;
  message: string;
}
export interface LogPage extends Page {
  /** Newest first. A page may be shorter than its limit, or empty with a path, and go on. */
  commits: LogEntry[];
  /** The walk met a commit whose parents were cut off by a shallow fetch. */
  shallow: boolean;
}

export interface RefView {
  /** Full name. */
  name: string;
  oid: Oid;
  /** When an ephemeral branch ends. */
  expires_at?: string;
}
export interface RefList extends Page {
  refs: RefView[];
}
export interface RefRequest {
  oid: Oid;
  /** All zeros = it must not exist. */
  expected_oid?: Oid;
  force?: boolean;
  restore?: boolean;
  /** The branch ends by itself, a week after its last move; `false`: it stays. */
  ephemeral?: boolean;
  /** Makes it ephemeral: seconds after its last move. */
  expires_in?: number;
}
export interface PromoteRequest {
  /** Short name of the ephemeral branch. */
  branch: string;
  /** Short name of the branch that is fast-forwarded to where it is; not given: it stays, under its own name. */
  into?: string;
  /** What the branch that is to move or to stay must be now. */
  expected_oid?: Oid;
}
export interface ReflogView {
  name: string;
  from: Oid | null;
  to: Oid | null;
  reason: string;
  at: string;
}
export interface ReflogPage extends Page {
  entries: ReflogView[];
}
