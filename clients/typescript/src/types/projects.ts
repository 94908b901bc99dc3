// Projects.
import type { Oid, Page, Uuid } from "./shared.js";

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
export interface ProjectPage extends Page {
  projects: ProjectView[];
}
