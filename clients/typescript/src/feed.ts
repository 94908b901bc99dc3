import { TreeholdError, mayPass, problem, toldProblem } from "./errors.js";
import { pause, type Call } from "./http.js";
import { only, type Project } from "./project.js";
import { serverEvents, type ServerEvent } from "./streams.js";
import type { ChangeEvent, ChangePage, Uuid } from "./types.js";

/** Where the reader stands. It comes first, and again where events were lost: then list what you need anew, and go on reading. */
export interface FeedStart {
  kind: "start";
  cursor: string;
  /** Why events were lost: `cursor_expired`; not there at the beginning. */
  expired?: TreeholdError;
}

export type FeedItem = ChangeEvent | FeedStart;

export interface FeedOptions extends Call {
  /** A cursor; `start` = the oldest event that is kept. Not given: from now on. */
  since?: string;
  /** Of pending work only this user's. */
  user?: Uuid;
  /** `auto`: server-sent events, or long polls where something on the way holds them back. */
  transport?: "auto" | "stream" | "poll";
  /** Told when the feed is cut, and when it is there again (without an error). */
  onState?: (error: TreeholdError | undefined) => void;
}

/** Silence of a stream that is no silence of the server, which gives a sign every 15 s. */
const SILENCE_MS = 40_000;
/** A stream's first sign comes at once, unless something on the way gathers answers. */
const FIRST_SIGN_MS = 8_000;
const WAIT_S = 25;

/**
 * The change feed: `for await (const item of project.feed())`.
 *
 * It comes back by itself from where it was, skips nothing and tells nothing twice. It ends with its signal, by an error that does
 * not pass (the key is refused, the project is gone), or when the loop is left.
 */
export class Feed implements AsyncIterable<FeedItem> {
  readonly #project: Project;
  readonly #options: FeedOptions;
  #cursor: string | undefined;
  #poll: boolean;
  #cut = false;

  constructor(project: Project, options: FeedOptions) {
    this.#project = project;
    this.#options = options;
    this.#cursor = options.since;
    this.#poll = options.transport === "poll";
  }

  /** Give it as `since` to go on after what was read so far. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<FeedItem, void, undefined> {
    let expired: TreeholdError | undefined;
    let failures = 0;
    let told = false;
    for (;;) {
      try {
        if (!told) {
          // The place of now, before anything is listed: what changes while its reader lists comes again.
          if (this.#cursor === undefined) this.#cursor = (await this.#page(0, 1)).next_cursor;
          told = true;
          this.#there();
          yield { kind: "start", cursor: this.#cursor, ...(expired ? { expired } : {}) };
          expired = undefined;
        }
        for await (const event of this.#poll ? this.#polled() : this.#streamed()) {
          failures = 0;
          yield event;
        }
        // The server ended the stream in good order.
      } catch (error) {
        if (this.#options.signal?.aborted) return;
        if (error instanceof TreeholdError && error.code === "cursor_expired") {
          expired = error;
          told = false;
          this.#cursor = undefined;
          continue;
        }
        if (!mayPass(error) && !(error instanceof TreeholdError && error.status >= 500)) throw error;
        this.#away(error);
        await this.#rest(failures++, error);
        continue;
      }
      await this.#rest(failures++, undefined);
    }
  }

  async #rest(failures: number, error: unknown): Promise<void> {
    try {
      await pause(this.#project.transport.pauseMs(failures, error), this.#options.signal);
    } catch {
      // The loop looks at the signal itself.
    }
  }

  #there(): void {
    if (this.#cut) this.#options.onState?.(undefined);
    this.#cut = false;
  }

  #away(error: TreeholdError): void {
    if (!this.#cut) this.#options.onState?.(error);
    this.#cut = true;
  }

  #page(wait: number, limit: number): Promise<ChangePage> {
    const query = { since: this.#cursor, user: this.#options.user, wait, limit };
    const timeoutMs = (wait + 15) * 1000;
    return this.#project.transport.json({ timeoutMs, ...only(this.#options), path: this.#project.path("/changes"), query });
  }

  async *#polled(): AsyncGenerator<ChangeEvent, void, undefined> {
    for (;;) {
      const page = await this.#page(WAIT_S, 1000);
      this.#there();
      for (const event of page.events) {
        this.#cursor = event.cursor;
        yield event;
      }
      this.#cursor = page.next_cursor;
    }
  }

  async *#streamed(): AsyncGenerator<ChangeEvent, void, undefined> {
    const controller = new AbortController();
    const aborted = () => controller.abort(this.#options.signal?.reason);
    this.#options.signal?.addEventListener("abort", aborted, { once: true });
    let mute = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const answered = () => {
      timer = setTimeout(() => {
        mute = true;
        controller.abort();
      }, FIRST_SIGN_MS);
    };
    try {
      for await (const event of this.#events(controller.signal, answered)) {
        clearTimeout(timer);
        this.#there();
        if (event.event === "expired" || event.event === "gone" || event.event === "problem") throw toldProblem(event.data);
        if (event.data !== "") {
          const change = JSON.parse(event.data) as ChangeEvent;
          this.#cursor = change.cursor;
          yield change;
        } else if (event.id !== undefined) {
          this.#cursor = event.id;
        }
      }
    } catch (error) {
      if (!mute || this.#options.signal?.aborted) throw error;
      // It was answered, and nothing came through.
      if (this.#options.transport !== "stream") this.#poll = true;
    } finally {
      clearTimeout(timer);
      this.#options.signal?.removeEventListener("abort", aborted);
      controller.abort();
    }
  }

  async *#events(signal: AbortSignal, answered: () => void): AsyncGenerator<ServerEvent, void, undefined> {
    const query = { since: this.#cursor, user: this.#options.user };
    const headers = { Accept: "text/event-stream" };
    const asked = { path: this.#project.path("/changes"), query, headers, signal, timeoutMs: SILENCE_MS };
    const reply = await this.#project.transport.send(asked);
    answered();
    if (!reply.headers.get("content-type")?.startsWith("text/event-stream")) {
      if (this.#options.transport === "stream") throw problem(reply.status, await reply.text(), reply.headers);
      await reply.bytes();
      this.#poll = true;
      return;
    }
    yield* serverEvents(reply);
  }
}
