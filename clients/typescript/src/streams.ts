import { TreeholdError } from "./errors.js";
import { parsed, pause, type Reply, type Request, type Transport } from "./http.js";
import type { Snapshot } from "./types.js";

/** The lines of an answer, as they come. The last one counts only if it is ended: a cut answer has no last line. */
export async function* lines(reply: Reply): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of reply.chunks()) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
}

/** A server-sent event. */
export interface ServerEvent {
  event: string;
  data: string;
  /** The last id that the stream has named so far. */
  id: string | undefined;
}

/** Server-sent events (HTML living standard, section 9.2.6). One without data is given too: it is a sign of life. */
export async function* serverEvents(reply: Reply): AsyncGenerator<ServerEvent, void, undefined> {
  let [event, id]: [string, string | undefined] = ["message", undefined];
  let data: string[] = [];
  for await (const raw of lines(reply)) {
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    if (line === "") {
      yield { event, data: data.join("\n"), id };
      event = "message";
      data = [];
      continue;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") data.push(value);
    else if (name === "event") event = value;
    else if (name === "id") id = value;
  }
}

/** The last line of a streamed list. */
export interface End {
  next_cursor: string | null;
}

/**
 * The entries of one NDJSON answer: a head, a line each, an end. It returns the end.
 *
 * An answer that is cut is asked for again. What comes is of the same snapshot if its head is the same; then it goes on where it
 * was cut, else it fails with `snapshot_changed`.
 */
export async function* entries<T extends object, E extends End>(
  transport: Transport,
  request: Request,
  began: (head: Snapshot) => void,
): AsyncGenerator<T, E, undefined> {
  let head: string | undefined;
  let given = 0;
  for (let attempt = 0; ; attempt++) {
    try {
      const reply = await transport.send({ ...request, headers: { ...request.headers, Accept: "application/x-ndjson" } });
      let at = -1;
      for await (const line of lines(reply)) {
        if (line === "") continue;
        if (at++ < 0) {
          if (head !== undefined && head !== line && given > 0) {
            throw new TreeholdError(0, "snapshot_changed", "The list was cut, and has changed since; read it again.");
          }
          if (head === undefined || given === 0) began(parsed(line) as Snapshot);
          head = line;
          continue;
        }
        const value = parsed(line) as T | E;
        if ("next_cursor" in value) return value;
        if (at <= given) continue;
        given = at;
        attempt = 0;
        yield value;
      }
      throw new TreeholdError(0, "network", "The answer was cut.");
    } catch (error) {
      if (!(error instanceof TreeholdError) || !["network", "timeout"].includes(error.code) || attempt >= 4) throw error;
      await pause(transport.pauseMs(attempt, error), request.signal);
    }
  }
}

/** The entries of all pages: asked for as they are needed. */
export class Pages<P extends { next_cursor: string | null }, T> implements AsyncIterable<T> {
  readonly #get: (cursor: string | undefined) => Promise<P>;
  readonly #entries: (page: P) => T[];

  constructor(get: (cursor: string | undefined) => Promise<P>, entries: (page: P) => T[]) {
    this.#get = get;
    this.#entries = entries;
  }

  /** One page; the first one without a cursor. */
  page(cursor?: string): Promise<P> {
    return this.#get(cursor);
  }

  /** Everything. */
  async all(): Promise<T[]> {
    const all: T[] = [];
    for await (const entry of this) all.push(entry);
    return all;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    let cursor: string | undefined;
    do {
      const page = await this.#get(cursor);
      yield* this.#entries(page);
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
  }
}
