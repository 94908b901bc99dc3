import { TreeholdError, problem } from "./errors.js";

/** Where the server is, and how it is spoken with. */
export interface Options {
  /** For example `https://store.example.org`; in a browser, `""` is the page's own origin. */
  baseUrl: string;
  /** Sent as `X-Internal-API-Key`. */
  key?: string;
  /** Sent as `Authorization: Bearer`, instead of a key. */
  token?: string;
  /** Instead of the global one. */
  fetch?: typeof globalThis.fetch;
  /** Milliseconds without a byte after which an attempt has failed; 30,000 if not given. */
  timeoutMs?: number;
  /** Attempts after the first one, for calls that are safe to repeat; 4 if not given. */
  retries?: number;
  /** Longest pause between attempts, milliseconds, also where the server asks for a longer one; 20,000 if not given. */
  maxPauseMs?: number;
  /** Sent with all requests. */
  headers?: Record<string, string>;
}

/** What every call takes. */
export interface Call {
  signal?: AbortSignal;
  /** Milliseconds without a byte after which an attempt has failed. */
  timeoutMs?: number;
  /** Attempts after the first one, where it is safe to repeat. */
  retries?: number;
}

export type Query = Record<string, string | number | boolean | null | undefined>;

/** One request. */
export interface Request extends Call {
  method?: "GET" | "HEAD" | "PUT" | "POST" | "PATCH" | "DELETE";
  path: string;
  query?: Query;
  headers?: Record<string, string | undefined>;
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is. */
  body?: Uint8Array | string;
  /** Whether it may be sent again where its outcome is not known; if not given, GET, HEAD, PUT and DELETE may. */
  repeatable?: boolean;
  /** Statuses that are no failures, besides 2xx. */
  accept?: number[];
}

/** An answer whose body is still to be read. */
export interface Reply {
  status: number;
  headers: Headers;
  /** How many attempts failed before this one. */
  attempt: number;
  /** Bytes as they come; ends or throws, and never stays silent longer than the timeout. */
  chunks(): AsyncGenerator<Uint8Array, void, undefined>;
  bytes(): Promise<Uint8Array>;
  text(): Promise<string>;
}

const TIMEOUT_MS = 30_000;
const RETRIES = 4;
const FIRST_PAUSE_MS = 250;
const MAX_PAUSE_MS = 20_000;

/** Sends requests: credentials, timeouts, retries. */
export class Transport {
  readonly #options: Options;
  readonly #fetch: typeof globalThis.fetch;

  constructor(options: Options) {
    if (options.key !== undefined && options.token !== undefined) throw new TypeError("give a key or a token, not both");
    this.#options = options;
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  /** The answer's head, after as many attempts as it takes and may take. */
  async send(request: Request): Promise<Reply> {
    const retries = request.retries ?? this.#options.retries ?? RETRIES;
    for (let attempt = 0; ; attempt++) {
      let failure: unknown;
      try {
        const reply = await this.#attempt(request, attempt);
        if ((reply.status >= 200 && reply.status < 300) || request.accept?.includes(reply.status)) return reply;
        failure = problem(reply.status, await reply.text(), reply.headers);
      } catch (error) {
        failure = error;
      }
      if (attempt >= retries || !mayRepeat(request, failure)) throw failure;
      await pause(this.pauseMs(attempt, failure), request.signal);
    }
  }

  /** Milliseconds before the next attempt: what the server asks for, or twice as long each time, spread by chance. */
  pauseMs(attempt: number, failure?: unknown): number {
    const most = this.#options.maxPauseMs ?? MAX_PAUSE_MS;
    const asked = failure instanceof TreeholdError ? failure.retryAfter : undefined;
    if (asked !== undefined) return Math.min(most, asked * 1000 * (1 + Math.random() / 4));
    return Math.min(most, FIRST_PAUSE_MS * 2 ** Math.min(attempt, 16)) * (0.5 + Math.random() / 2);
  }

  /** The answer as JSON. A body that is cut counts as no answer, and is asked for again where that is safe. */
  async json<T>(request: Request): Promise<T> {
    const retries = request.retries ?? this.#options.retries ?? RETRIES;
    for (let attempt = 0; ; attempt++) {
      const reply = await this.send(request);
      try {
        const text = await reply.text();
        return (text === "" ? undefined : parsed(text)) as T;
      } catch (failure) {
        if (attempt >= retries || !mayRepeat(request, failure)) throw failure;
        await pause(this.pauseMs(attempt, failure), request.signal);
      }
    }
  }

  async #attempt(request: Request, attempt: number): Promise<Reply> {
    request.signal?.throwIfAborted();
    const watch = new Watch(request.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS, request.signal);
    const { headers, body } = this.#parts(request);
    // `fetch` takes every header but `Authorization` along to wherever it is sent: a key must not go elsewhere.
    const init: RequestInit = { method: request.method ?? "GET", headers, signal: watch.signal, cache: "no-store", redirect: "manual" };
    if (body !== undefined) init.body = body as BodyInit;
    try {
      const response = await this.#fetch(this.#url(request), init);
      watch.sign();
      if (isRedirect(response)) {
        watch.cancel();
        const detail = "The server sends its callers elsewhere: give that place as baseUrl, if you trust it with the key.";
        // It may be to where one signs in, until somebody did.
        throw new TreeholdError(response.status, "bad_answer", detail, { passes: true });
      }
      return reply(response, watch, attempt);
    } catch (error) {
      throw watch.end(error);
    }
  }

  #url(request: Request): string {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined && value !== null) query.set(name, String(value));
    }
    const text = query.toString();
    return this.#options.baseUrl.replace(/\/+$/, "") + request.path + (text ? `?${text}` : "");
  }

  #parts(request: Request): { headers: Headers; body: Uint8Array | string | undefined } {
    const headers = new Headers(this.#options.headers);
    if (this.#options.key !== undefined) headers.set("X-Internal-API-Key", this.#options.key);
    if (this.#options.token !== undefined) headers.set("Authorization", `Bearer ${this.#options.token}`);
    for (const [name, value] of Object.entries(request.headers ?? {})) if (value !== undefined) headers.set(name, value);
    if (request.json === undefined) return { headers, body: request.body };
    headers.set("Content-Type", "application/json");
    return { headers, body: JSON.stringify(request.json) };
  }
}

/** Aborts an attempt when its caller does, or when nothing came for too long. */
class Watch {
  readonly #controller = new AbortController();
  readonly #timeoutMs: number;
  readonly #outer: AbortSignal | undefined;
  readonly #aborted = () => this.#controller.abort(this.#outer?.reason);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #late = false;

  constructor(timeoutMs: number, outer: AbortSignal | undefined) {
    this.#timeoutMs = timeoutMs;
    this.#outer = outer;
    outer?.addEventListener("abort", this.#aborted, { once: true });
    this.sign();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Something came. */
  sign(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#late = true;
      this.#controller.abort();
    }, this.#timeoutMs);
  }

  done(): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#aborted);
  }

  /** Nothing more is wanted. */
  cancel(): void {
    this.done();
    this.#controller.abort();
  }

  /** What went wrong, in our words. */
  end(error: unknown): unknown {
    this.done();
    if (this.#outer?.aborted) return this.#outer.reason;
    if (error instanceof TreeholdError) return error;
    if (this.#late) {
      return new TreeholdError(0, "timeout", `The server was silent for ${this.#timeoutMs / 1000} s.`, { cause: error });
    }
    return new TreeholdError(0, "network", "The server cannot be reached.", { cause: error });
  }
}

/** A browser does not tell where to. */
function isRedirect(response: Response): boolean {
  return response.type === "opaqueredirect" || (response.status >= 300 && response.status < 400 && response.headers.has("location"));
}

function reply(response: Response, watch: Watch, attempt: number): Reply {
  async function* chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    const reader = response.body?.getReader();
    let ended = reader === undefined;
    try {
      while (reader) {
        const { done, value } = await reader.read();
        if (done) break;
        watch.sign();
        yield value;
        // The caller's own pauses are no silence of the server.
        watch.sign();
      }
      ended = true;
    } catch (error) {
      ended = true;
      throw watch.end(error);
    } finally {
      // Who stops reading wants no more.
      if (ended) watch.done();
      else watch.cancel();
    }
  }
  const bytes = async (): Promise<Uint8Array> => {
    const parts: Uint8Array[] = [];
    for await (const part of chunks()) parts.push(part);
    return joined(parts);
  };
  const text = async (): Promise<string> => new TextDecoder().decode(await bytes());
  if (response.body === null) watch.done();
  return { status: response.status, headers: response.headers, attempt, chunks, bytes, text };
}

export function joined(parts: Uint8Array[]): Uint8Array {
  const first = parts[0];
  if (parts.length === 1 && first) return first;
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new TreeholdError(0, "bad_answer", "The server's answer is not the JSON that it should be.", { cause });
  }
}

/** Whether the same request may be sent again after this failure. */
function mayRepeat(request: Request, failure: unknown): boolean {
  if (!(failure instanceof TreeholdError)) return false;
  // It was turned away before anything was done.
  if (failure.status === 429) return true;
  const safe = request.repeatable ?? (request.method === undefined || !["POST", "PATCH"].includes(request.method));
  if (!safe) return false;
  // 502 and 504 of the server itself are about a remote, and for its caller to judge; those of a proxy say nothing.
  const proxy = failure.code === "bad_answer" && [502, 504].includes(failure.status);
  return failure.status === 503 || proxy || failure.code === "network" || failure.code === "timeout";
}

/** Resolves after a time; rejects with the signal's reason. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const aborted = () => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }, ms);
    signal?.addEventListener("abort", aborted, { once: true });
  });
}
