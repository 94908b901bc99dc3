// Search.
import type { Oid, Pathed, Source, Uuid } from "./shared.js";

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
