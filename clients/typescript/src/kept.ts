import { TreeholdError } from "./errors.js";
import { merge3 } from "./merge.js";
import type { FileState, SaveConflict, SaveState } from "./state.js";
import type { Oid, OpError, OpResult, PendingOp } from "./types.js";
import { blobOid } from "./values.js";

/** What the view had when an edit began. */
export interface Known {
  oid: Oid | null;
  text: string | null | undefined;
}

/** What is kept of a file that is not saved. */
export interface Kept {
  text: string | null;
  known?: Known | undefined;
  /** Sent, and not known whether it arrived. */
  unsettled?: { text: string | null } | undefined;
}

export interface Entry extends Kept {
  path: string;
  state: SaveState;
  dirty: boolean;
  error?: TreeholdError | undefined;
  conflict?: SaveConflict | undefined;
  timer?: ReturnType<typeof setTimeout> | undefined;
  /** When the oldest change that was not sent was made. */
  since?: number | undefined;
  running?: Promise<void> | undefined;
  /** It is not to wait for a pause in typing. */
  urgent?: boolean;
  /** `false` = the storage fails. */
  keeping?: Promise<boolean> | undefined;
  keepAgain?: boolean;
  /** It is not saved, and the storage has not its newest text. */
  unkept?: boolean;
}

/** A batch whose outcome is not known: it is sent again, word for word, with its key. */
export interface Replay {
  key: string;
  ops: PendingOp[];
  /** It has texts that an earlier page left behind, while this one went on from what the view had. */
  overtaken?: boolean;
  /** Of its key in the storage; `batch` if not given. */
  name?: string;
  /** `1` = it goes where its files go. Those of before have none: their files may have gone to another page, and been saved there. */
  format?: 1;
}

/**
 * What a text and the view's come to together; `undefined` where they do not merge.
 *
 * What was sent before may be in the view or not. It is merged first, which in either case comes to a view that has it; what was
 * typed since starts from there.
 */
export function together({ text, known, unsettled }: Kept, theirs: string | null | undefined): string | null | undefined {
  const base = known?.text;
  const sent = unsettled ? unsettled.text : text;
  if (base !== undefined && base === text) return theirs;
  if (typeof base !== "string" || typeof sent !== "string" || typeof text !== "string" || typeof theirs !== "string") return undefined;
  const arrived = merge3(base, sent, theirs);
  return sent === text || arrived === undefined ? arrived : merge3(sent, text, arrived);
}

/** A text that the view has. */
export function known(text: string | null): Known {
  return { oid: text === null ? null : blobOid(text), text };
}

/** What an operation writes. */
export function text(op: PendingOp): string | null {
  return op.op === "delete" ? null : (op.content ?? "");
}

/** What is kept, as operations: of a text that may have arrived first that text, so that the newer one starts from it. */
export function opsOf(path: string, { text, known: from, unsettled }: Kept): PendingOp[] {
  if (!unsettled || unsettled.text === text) return [op(path, text, from?.oid)];
  return [op(path, unsettled.text, from?.oid), op(path, text, known(unsettled.text).oid)];
}

function op(path: string, text: string | null, expected: Oid | null | undefined): PendingOp {
  const expects = expected === undefined ? {} : { expected_oid: expected };
  return text === null ? { op: "delete", path, ...expects } : { op: "put", path, content: text, ...expects };
}

/** An operation that is neither in the view nor in the local history, and why. */
export interface Refused {
  op: PendingOp;
  error: TreeholdError;
}

/** Which operations of a batch that was answered are to be kept. What a newer one of them started from is in that one. */
export function refusals(ops: PendingOp[], results: OpResult[]): Refused[] {
  return ops.flatMap((op, index) => {
    const { status, error } = results[index] ?? {};
    if (status !== undefined && ["applied", "merged", "duplicate", "conflict"].includes(status)) return [];
    if (ops[index + 1]?.expected_oid === known(text(op)).oid) return [];
    const refused = resultError(error);
    return nothingToDelete(text(op), refused) ? [] : [{ op, error: refused }];
  });
}

/** It is as it was wanted. */
export function nothingToDelete(sent: string | null, error: unknown): boolean {
  return sent === null && error instanceof TreeholdError && error.code === "file_not_found";
}

/** What the server says of one operation of a batch. */
export function resultError({ code = "failed", detail = "The server refused the change." }: Partial<OpError> = {}): TreeholdError {
  return new TreeholdError(422, code, detail);
}

export function asRefusal(error: unknown): TreeholdError {
  return error instanceof TreeholdError ? error : new TreeholdError(0, "bad_answer", String(error), { cause: error });
}

export function shown(entry: Entry): FileState {
  const { path, state, text, known, error, conflict, unkept } = entry;
  return { path, state, text, oid: known?.oid, kept: !unkept, ...(error ? { error } : {}), ...(conflict ? { conflict } : {}) };
}

/** A text as what it has between the begin and the end of another: their lengths, and what is between. */
type Between = [begin: number, end: number, text: string];

/** `Kept` as the storage has it: what an edit started from, and what was sent of it, mostly differ little from the text. */
interface Packed extends Kept {
  base?: Between;
  sent?: Between;
}

/** A browser keeps some megabytes: the text is in it once. */
export function packed({ text, known, unsettled }: Kept): string {
  const kept: Packed = { text, known, unsettled };
  if (text !== null && typeof known?.text === "string") {
    kept.base = between(text, known.text);
    kept.known = { oid: known.oid, text: undefined };
  }
  if (text !== null && typeof unsettled?.text === "string") {
    kept.sent = between(text, unsettled.text);
    kept.unsettled = undefined;
  }
  return JSON.stringify(kept);
}

/** What was kept; `undefined` = it is damaged, and stays where it is. */
export function unpacked(value: string): Kept | undefined {
  const found = parsed<Packed>(value);
  if (!found) return undefined;
  const { base, sent, ...kept } = found;
  const whole = ([begin, end, middle]: Between): string => {
    const text = kept.text ?? "";
    return text.slice(0, begin) + middle + text.slice(text.length - end);
  };
  if (base && kept.known) kept.known.text = whole(base);
  if (sent) kept.unsettled = { text: whole(sent) };
  return kept;
}

function between(text: string, other: string): Between {
  const most = Math.min(text.length, other.length);
  let begin = 0;
  while (begin < most && text[begin] === other[begin]) begin++;
  let end = 0;
  while (end < most - begin && text[text.length - 1 - end] === other[other.length - 1 - end]) end++;
  return [begin, end, other.slice(begin, other.length - end)];
}

/** Whether an answer is still to come: anything with a `then`, as promises of libraries and of other windows are no `Promise` of this one. */
export function later<T>(answer: T | PromiseLike<T>): answer is PromiseLike<T> {
  return typeof (answer as Partial<PromiseLike<T>> | null | undefined)?.then === "function";
}

/** `undefined` = it is damaged. */
export function parsed<T>(value: string): T | undefined {
  try {
    return JSON.parse(value) as T;
  } catch {
    return undefined;
  }
}

/** A file's text; one that is no UTF-8 would not be the same when it is written back. */
export function decoded(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new TreeholdError(0, "not_text", `Another device saved ${path} as bytes that are not UTF-8: copy the text, and look.`);
  }
}
