import type { TreeholdError } from "./errors.js";
import type { AutosaveStorage } from "./storage.js";
import type { Oid } from "./types.js";

/**
 * `saved`: the server has it. `waiting`: typed, not sent yet. `saving`: on its way. `offline`: kept here until the server can be
 * reached. `conflict`: another device changed the same lines, and nobody has decided yet. `failed`: the server refuses it.
 */
export type SaveState = "saved" | "waiting" | "saving" | "offline" | "conflict" | "failed";

/** Both texts, and what they have in common; `null` = no file. */
export interface SaveConflict {
  path: string;
  /** What the edit started from; `undefined` = not known. */
  base: string | null | undefined;
  ours: string | null;
  theirs: string | null;
  theirsOid: Oid | null;
}

/** What a conflict comes to: one side, or another text. */
export type Resolution = "ours" | "theirs" | { text: string | null };

/** A file as it stands. */
export interface FileState {
  path: string;
  state: SaveState;
  /** What the server was last seen to have there; `null` = no file, `undefined` = not known. */
  oid: Oid | null | undefined;
  /** The newest text; `null` = it is to go. */
  text: string | null;
  /** `false` = it is not saved, and the storage fails: it does not outlive the page. */
  kept: boolean;
  /** Why it is `offline` or `failed`; of a `conflict`, why `onConflict` did not decide it (`not_decided`). */
  error?: TreeholdError;
  /** Where it is a `conflict`. */
  conflict?: SaveConflict;
}

/** A text that took in what another device wrote: show it. */
export interface Merged {
  path: string;
  text: string | null;
  /** What the text was before. */
  before: string | null;
}

export interface AutosaveOptions {
  /** Milliseconds without a change after which a file is saved; 1,000 if not given. */
  debounceMs?: number;
  /** Milliseconds after which it is saved though changes go on; 5,000 if not given. */
  maxWaitMs?: number;
  /** Where what is not saved is kept; only in memory if not given. */
  storage?: AutosaveStorage;
  /** Begins all keys in the storage: one for each page or process that writes at the same time. */
  storageKey?: string;
  /** Milliseconds between attempts to reach a server that is away, at most; 15,000 if not given. */
  maxPauseMs?: number;
  /**
   * Decides a conflict; without an answer it stays one until `Autosave.resolve`. A promise may take its time: only its file waits for
   * it, and `flush` and `stop` do not. Where it is rejected, the conflict stays, and the file's `error` says why.
   */
  onConflict?: (conflict: SaveConflict) => Resolution | undefined | PromiseLike<Resolution | undefined>;
  /** Told where a text took in another device's change. */
  onMerged?: (merged: Merged) => void;
  /** Told where the storage fails: what is typed is still sent, and does not outlive the page (`FileState.kept` says of which file). */
  onStorageError?: (error: unknown) => void;
}
