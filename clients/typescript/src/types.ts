// The shapes of questions and answers, as the server shows them: snake_case JSON, oids as 40 hex digits, times in RFC 3339.
// They mirror `crates/engine/src/api`, from where the sentences come.

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

export interface RemoteSpec {
  /** Without user name or password. */
  url: string;
}
/** What pushes of git clients are refused. */
export interface ReceiveSpec {
  deny_non_fast_forwards?: boolean;
  deny_deletes?: boolean;
}
export interface ProjectSpec {
  /** Unique. */
  name?: string;
  /** Short branch name; `main` if not given. */
  default_branch?: string;
  remote?: RemoteSpec;
  receive?: ReceiveSpec;
  /** Logical bytes; the server's default if not given. */
  quota_bytes?: number;
}
export interface ForkSpec extends Omit<ProjectSpec, "quota_bytes"> {
  /** The fork's id; the server's choice if not given. */
  id?: Uuid;
}
export interface ProjectChange {
  receive?: ReceiveSpec;
  /** Logical bytes; `null` = the server's default. */
  quota_bytes?: number | null;
}
export interface ProjectView {
  id: Uuid;
  name: string | null;
  default_branch: string;
  remote: RemoteSpec | null;
  receive: Required<ReceiveSpec>;
  /** What it holds, and may hold. */
  usage: ProjectUsage;
  /** Commit of the default branch; `null` while it is unborn. */
  head: Oid | null;
  created_at: string;
}
export interface ProjectUsage {
  /** Logical ones. */
  bytes: number;
  /** `null` = no limit. */
  quota_bytes: number | null;
}

/** One page of a list. */
export interface Page {
  /** Give it as `cursor` to go on; `null` = this was the last. */
  next_cursor: string | null;
}
export interface ProjectPage extends Page {
  projects: ProjectView[];
}

export interface FileEntry extends Pathed {
  /** Six octal digits: a link's and a gitlink's too. */
  mode: string;
  oid: Oid;
  /** Bytes; 0 for a gitlink. */
  size: number;
  source: Source;
}
/** The snapshot that a list, a batch read or a search is of. */
export interface Snapshot {
  /** `null` on an unborn branch. */
  commit: Oid | null;
  /** Of the user's workspace, with a user. */
  revision?: number | null;
}
export interface FileList extends Snapshot, Page {
  files: FileEntry[];
}
export interface LineRange {
  path: string;
  /** From 1. */
  start_line?: number;
  /** Included. */
  end_line?: number;
}
export interface ItemError {
  code: string;
  detail: string;
}
export interface ReadFile {
  /** As asked. */
  path: string;
  oid: Oid;
  mode: string;
  /** Bytes of the whole file. */
  size: number;
  source: Source;
  encoding: Encoding;
  content: string;
  start_line?: number;
  end_line?: number;
  total_lines?: number;
  /** The budget cut this file; never in what the client's iterator gives, which puts the pieces together. */
  truncated?: boolean;
}
export interface ReadFailed {
  path: string;
  error: ItemError;
}
export type ReadItem = ReadFile | ReadFailed;

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

export type EventAction = "modified" | "created" | "deleted" | "dropped" | "committed";
interface EventHead {
  /** Give it as `since` to go on after this event. */
  cursor: string;
  at: string;
}
export interface PendingEvent extends EventHead, Pathed, Origin {
  kind: "pending";
  user: Uuid;
  branch: string;
  action: EventAction;
  mode: string | null;
  oid: Oid | null;
  base_oid: Oid | null;
  revision: number;
}
export interface RefEvent extends EventHead {
  kind: "ref";
  /** Full name. */
  name: string;
  from: Oid | null;
  to: Oid | null;
  /** `commit`, `push`, `sync`, `api` … */
  reason: string;
}
export interface SyncEvent extends EventHead {
  kind: "sync";
  branch: string;
  from: Oid | null;
  to: Oid | null;
}
export interface PushEvent extends EventHead {
  kind: "push";
  branch: string;
  attempt: Uuid;
  commit: Oid;
  user?: Uuid;
  outcome: "pushed" | "rejected" | "paused" | "superseded";
}
export type ChangeEvent = PendingEvent | RefEvent | SyncEvent | PushEvent;
export interface ChangePage {
  events: ChangeEvent[];
  next_cursor: string;
  more: boolean;
}

export interface SearchRequest {
  query: string;
  /** The syntax of Rust's `regex`; else literal. */
  regex?: boolean;
  case?: "sensitive" | "insensitive" | "smart";
  word?: boolean;
  multiline?: boolean;
  /** As in `.gitignore`, the last one that matches decides. */
  globs?: string[];
  prefix?: string;
  ref?: string;
  user?: Uuid;
  branch?: string;
  context?: number;
  before?: number;
  after?: number;
  max_matches_per_file?: number;
  limit?: number;
  max_bytes?: number;
  mode?: "matches" | "files" | "count";
  include_binary?: boolean;
}
export interface Excerpt {
  text: string;
  encoding?: "base64";
  truncated?: boolean;
  text_start?: number;
}
/** What a search finds; lines and matches in the mode `matches`, `count` in the mode `count`. */
export interface Found extends Pathed, Partial<Excerpt> {
  oid: Oid;
  source: Source;
  /** From 1. */
  line?: number;
  /** Bytes, from 1. */
  column?: number;
  submatches?: { start: number; end: number }[];
  before?: (Excerpt & { line: number })[];
  after?: (Excerpt & { line: number })[];
  more_in_file?: boolean;
  count?: number;
}

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
  commits: LogEntry[];
  /** The walk met a commit whose parents were cut off by a shallow fetch. */
  shallow: boolean;
}
export interface BlameRange {
  start_line: number;
  lines: number;
  /** The lines are the user's, not committed yet; then nothing else is said of them. */
  pending?: boolean;
  commit?: Oid;
  author?: Person;
  summary?: string;
  original_path?: string;
  original_line?: number;
  boundary?: boolean;
  unfinished?: boolean;
}
export interface Blame extends Pathed {
  commit: Oid | null;
  revision: number | null;
  oid: Oid;
  total_lines: number;
  ranges: BlameRange[];
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

export interface VersionEntry extends Pathed {
  /** Names it, together with its user. */
  id: string;
  action: PendingAction;
  oid: Oid | null;
  mode: string | null;
  size: number;
  base_oid: Oid | null;
  revision: number;
  at: string;
  /** `null` = it is pending now. */
  replaced_at: string | null;
}
export interface VersionList extends Page {
  versions: VersionEntry[];
}
export interface CheckpointEntry {
  id: Uuid;
  branch: string;
  name: string;
  message: string;
  revision: number;
  changes: number;
  created_at: string;
}
export interface CheckpointList extends Page {
  checkpoints: CheckpointEntry[];
}
export interface CheckpointDetail extends CheckpointEntry {
  files: (Pathed & { action: PendingAction; oid: Oid | null; mode: string | null; size: number; base_oid: Oid | null })[];
}
export interface CheckpointRestored {
  revision: number;
  changed: number;
  /** The checkpoint that has what was pending before; `null` = nothing changed. */
  before: CheckpointEntry | null;
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
