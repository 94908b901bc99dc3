// Files: lists, reads, whose lines they are.
import type { Encoding, ItemError, Oid, Page, Pathed, Snapshot, Source } from "./shared.js";
import type { Person } from "./history.js";

export interface FileEntry extends Pathed {
  /** Six octal digits: a link's and a gitlink's too. */
  mode: string;
  oid: Oid;
  /** Bytes; 0 for a gitlink. */
  size: number;
  source: Source;
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
