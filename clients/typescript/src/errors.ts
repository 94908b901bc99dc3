import type { ProblemBody } from "./types.js";

/** Codes of failures that no server answered with. */
export type LocalCode = "network" | "timeout" | "bad_answer" | "snapshot_changed" | "bad_path";

/**
 * Why a call failed: a refusal of the server, or (with status 0) a failure on the way.
 *
 * An aborted call throws the signal's own reason instead.
 */
export class TreeholdError extends Error {
  override readonly name = "TreeholdError";
  /** HTTP status; 0 = no answer came. */
  readonly status: number;
  /** Stable: the problem's `code`, or one of {@link LocalCode}. */
  readonly code: string;
  /** A sentence that says what to do. */
  readonly detail: string;
  /** Seconds after which the same request may succeed, where the server says so. */
  readonly retryAfter: number | undefined;
  /** What else the refusal says: `conflicts`, `oid`, `revision`, `limit` … */
  readonly fields: Readonly<Record<string, unknown>>;
  /** The server's id of the request, for its operator. */
  readonly requestId: string | undefined;
  /** Whether it came from the way to the server or from its load, and the same request may succeed later. */
  readonly passes: boolean;

  constructor(status: number, code: string, detail: string, more: ErrorDetails = {}) {
    super(detail, more.cause === undefined ? undefined : { cause: more.cause });
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.retryAfter = more.retryAfter;
    this.fields = more.fields ?? {};
    this.requestId = more.requestId;
    this.passes = more.passes ?? (code === "network" || code === "timeout" || status === 429 || status >= 502);
  }
}

export interface ErrorDetails {
  retryAfter?: number | undefined;
  fields?: Record<string, unknown>;
  requestId?: string | undefined;
  /** Where code and status do not tell. */
  passes?: boolean;
  cause?: unknown;
}

/** What the server said, or what a proxy before it did. */
export function problem(status: number, text: string, headers?: Headers): TreeholdError {
  const more: ErrorDetails = { retryAfter: seconds(headers?.get("retry-after")) };
  more.requestId = headers?.get("x-request-id") ?? undefined;
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    // No server of ours answers so.
  }
  if (isProblem(body)) {
    const { type: _type, title: _title, status: told, code, detail, ...fields } = body;
    return new TreeholdError(status || told, code, detail, { ...more, fields });
  }
  return new TreeholdError(status, "bad_answer", `The server answered ${status} and did not say why.`, more);
}

/** From a problem that came inside of a stream. */
export function toldProblem(text: string): TreeholdError {
  return problem(0, text);
}

function isProblem(body: unknown): body is ProblemBody {
  return typeof body === "object" && body !== null && typeof (body as ProblemBody).code === "string"
    && typeof (body as ProblemBody).detail === "string";
}

/** `Retry-After`: seconds, or a date. */
function seconds(text: string | null | undefined): number | undefined {
  if (!text) return undefined;
  if (/^\d+$/.test(text)) return Number(text);
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, (at - Date.now()) / 1000);
}

/** Whether a failure may be gone if the same is tried later. */
export function mayPass(error: unknown): error is TreeholdError {
  return error instanceof TreeholdError && error.passes;
}
