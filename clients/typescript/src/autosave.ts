import { TreeholdError, mayPass } from "./errors.js";
import {
  asRefusal, decoded, known, later, nothingToDelete, opsOf, packed, parsed, refusals, resultError, shown, text, together, unpacked, type Entry,
  type Kept, type Known, type Refused, type Replay,
} from "./kept.js";
import { memoryStorage, type AutosaveStorage } from "./storage.js";
import type { AutosaveOptions, FileState, Resolution, SaveConflict, SaveState } from "./state.js";
import type { Oid, OpResult, PendingOp } from "./types.js";
import { newUuid } from "./values.js";
import { foundInstead, type Workspace } from "./workspace.js";

/** Bounds of one batch; its contents, characters. */
const REPLAY_OPS_MAX = 200;
const REPLAY_LENGTH_MAX = 4 << 20;
const FIRST_PAUSE_MS = 500;

/**
 * Saves what is typed: `open` says what an editor begins with, `change` what it has now.
 *
 * One request is on its way for each path. What cannot be sent is kept in the storage, and sent in one batch once the server is
 * there again. Another device's changes are never overwritten: they are merged, or both texts are shown to `onConflict`.
 */
export class Autosave {
  readonly workspace: Workspace;
  readonly #options: AutosaveOptions;
  readonly #storage: AutosaveStorage;
  readonly #prefix: string;
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<(file: FileState) => void>();
  readonly #closing = new AbortController();
  #restored: Promise<FileState[]> | undefined;
  #reading: Promise<unknown> | undefined;
  /** Sent, and not known whether they arrived: an earlier page's, or this one's. */
  #replays: Replay[] = [];
  /** Left behind by an earlier page, and sent before what was typed since; and what of it was refused, which stays in the storage. */
  #overtaken: PendingOp[] = [];
  #stuck: PendingOp[] = [];
  #replaying: Promise<void> | undefined;
  #away = false;
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(workspace: Workspace, options: AutosaveOptions = {}) {
    this.workspace = workspace;
    this.#options = options;
    this.#storage = options.storage ?? memoryStorage();
    const { project, branch = "", user } = workspace;
    this.#prefix = `${options.storageKey ?? `treehold:${project.name}:${branch}:${user}`}:`;
    globalThis.addEventListener?.("online", this.#online);
  }

  readonly #online = () => void this.retry();

  /**
   * Takes up what an earlier page or process left behind, and begins to send it.
   *
   * Await it before `open`, and the editor begins with it. What was opened meanwhile is told by `onMerged`; what was typed meanwhile
   * is sent after it, and merged.
   */
  restore(): Promise<FileState[]> {
    this.#restored ??= this.#restore().finally(() => (this.#reading = undefined));
    this.#reading ??= this.#restored.catch(() => {});
    return this.#restored;
  }

  async #restore(): Promise<FileState[]> {
    const restored: FileState[] = [];
    const found = await this.#storage.entries(this.#prefix);
    for (const [key, value] of found) {
      const name = key.slice(this.#prefix.length);
      const replay = /^batch(:|$)/.test(name) ? parsed<Replay>(value) : undefined;
      if (Array.isArray(replay?.ops)) this.#replays.push({ ...replay, name });
      if (!name.startsWith("file:")) continue;
      const kept = unpacked(value);
      if (kept) restored.push(this.#takeUp(name.slice("file:".length), kept));
    }
    const left = found.find(([key]) => key === `${this.#prefix}overtaken`)?.[1];
    const ops = left === undefined ? undefined : parsed<PendingOp[]>(left);
    if (Array.isArray(ops)) this.#overtaken.push(...ops);
    if (this.#overtaken.length > 0) await this.#keepOvertaken();
    // Of a batch whose files are not here, nothing else says what became of it.
    for (const replay of this.#replays) replay.overtaken ||= !replay.ops.some(({ path }) => this.#entries.get(path)?.dirty);
    if (restored.length > 0 || this.#replays.length > 0 || this.#overtaken.length > 0) {
      this.#away = true;
      for (const entry of this.#entries.values()) if (entry.dirty && !entry.running) this.#set(entry, "offline");
      this.#schedule(0);
    }
    return restored;
  }

  /** A kept text meets what was opened or typed since the page began. */
  #takeUp(path: string, kept: Kept): FileState {
    const entry = this.#entries.get(path);
    if (entry && (entry.dirty || entry.running)) {
      // What is typed now did not start from it: the server has it first, and the newer text is merged with it.
      this.#overtaken.push(...opsOf(path, kept));
      return shown(entry);
    }
    const before = entry?.text ?? null;
    const taken: Entry = Object.assign(entry ?? { path, dirty: true, state: "offline" as const }, kept);
    taken.dirty = true;
    this.#entries.set(path, taken);
    this.#set(taken, "offline");
    if (entry && before !== kept.text) this.#options.onMerged?.({ path, text: kept.text, before });
    return shown(taken);
  }

  /**
   * Says what the view has at a path: an editor begins with it. Answers with what the editor is to show: the same, or newer text
   * that was not saved.
   */
  open(path: string, view: { oid: Oid | null; text: string | null }): FileState {
    const entry = this.#entries.get(path) ?? { path, text: view.text, state: "saved", dirty: false };
    this.#entries.set(path, entry);
    if (!entry.dirty && !entry.running) {
      entry.known = { oid: view.oid, text: view.text };
      entry.text = view.text;
    }
    return shown(entry);
  }

  /** Takes note of a new text; `null` = the file is to go. */
  change(path: string, text: string | null): void {
    const entry = this.#entries.get(path) ?? { path, text: null, state: "saved", dirty: false };
    this.#entries.set(path, entry);
    if (entry.text === text && (entry.dirty || entry.known?.text === text)) return;
    entry.text = text;
    entry.dirty = true;
    entry.since ??= Date.now();
    void this.#keep(entry);
    if (entry.state === "conflict") {
      if (entry.conflict) entry.conflict = { ...entry.conflict, ours: text };
      this.#tell(entry);
      return;
    }
    if (this.#away) {
      this.#set(entry, "offline", entry.error);
      return;
    }
    if (!entry.running) this.#set(entry, "waiting");
    const wait = this.#options.debounceMs ?? 1_000;
    const most = entry.since + (this.#options.maxWaitMs ?? 5_000) - Date.now();
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => void this.#run(entry, false), Math.max(0, Math.min(wait, most)));
  }

  /** Forgets a path that is saved. */
  close(path: string): void {
    const entry = this.#entries.get(path);
    if (entry && !entry.dirty && !entry.running) this.#entries.delete(path);
  }

  /** How a path stands. */
  state(path: string): FileState | undefined {
    const entry = this.#entries.get(path);
    return entry && shown(entry);
  }

  /** How all paths stand. */
  states(): FileState[] {
    return [...this.#entries.values()].map(shown);
  }

  /** Whether the server could not be reached the last time. */
  get away(): boolean {
    return this.#away;
  }

  /** Tells of each change of a state. Answers with what ends it. */
  subscribe(listener: (file: FileState) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Saves everything now. Answers, once nothing is on its way, with what is not saved: it is kept, and its state says why. */
  async flush(): Promise<FileState[]> {
    await this.#restored;
    if (this.#away) await this.retry();
    await Promise.all([...this.#entries.values()].map((entry) => this.#run(entry)));
    await Promise.all([...this.#entries.values()].map((entry) => entry.keeping));
    return [...this.#entries.values()].filter((entry) => entry.dirty).map(shown);
  }

  /** Decides a conflict. */
  async resolve(path: string, resolution: Resolution): Promise<void> {
    const entry = this.#entries.get(path);
    if (!entry?.conflict) return;
    this.#decide(entry, entry.conflict, resolution);
    await this.#goOn(entry);
  }

  /** Tries at once what is offline or was refused. */
  async retry(): Promise<void> {
    for (const entry of this.#entries.values()) {
      if (entry.state === "failed") this.#set(entry, this.#away ? "offline" : "waiting");
    }
    if (this.#away || this.#replays.length > 0) await this.#comeBack();
    if (!this.#away) await Promise.all([...this.#entries.values()].map((entry) => this.#run(entry)));
  }

  /** Ends it. What is not saved stays in the storage. */
  async stop(): Promise<void> {
    globalThis.removeEventListener?.("online", this.#online);
    this.#closing.abort();
    clearTimeout(this.#timer);
    for (const entry of this.#entries.values()) clearTimeout(entry.timer);
    const ends = [...this.#entries.values()].flatMap((entry) => [entry.running, entry.keeping]);
    await Promise.all([...ends, this.#replaying]);
    this.#listeners.clear();
  }

  #run(entry: Entry, urgent = true): Promise<void> {
    clearTimeout(entry.timer);
    entry.timer = undefined;
    if (this.#closing.signal.aborted) return Promise.resolve();
    entry.urgent ||= urgent;
    entry.running ??= this.#save(entry).finally(() => {
      entry.running = undefined;
      entry.urgent = false;
    });
    return entry.running;
  }

  /** Sends a file until the server has its newest text, or something stands in the way. */
  async #save(entry: Entry): Promise<void> {
    const stands = () => this.#away || this.#closing.signal.aborted || entry.state === "conflict" || entry.state === "failed";
    while (entry.dirty && !stands()) {
      // More was typed while it was on its way: that waits for its own time.
      if (entry.timer !== undefined && !entry.urgent) return;
      this.#set(entry, "saving");
      const { text, known } = entry;
      entry.since = undefined;
      entry.unsettled = { text };
      await this.#keep(entry);
      try {
        const call = { signal: this.#closing.signal, retries: 1, ...(known ? { expected: known.oid } : {}) };
        const { workspace } = this;
        const answer = text === null ? await workspace.delete(entry.path, call) : await workspace.put(entry.path, text, call);
        // A deletion of what the head does not have leaves nothing.
        await this.#settled(entry, { oid: text === null ? null : answer.oid, text });
      } catch (error) {
        await this.#stumbled(entry, error);
      }
    }
  }

  async #stumbled(entry: Entry, error: unknown): Promise<void> {
    if (this.#closing.signal.aborted) return;
    if (foundInstead(error) !== undefined) return this.#reconcile(entry);
    if (mayPass(error)) return this.#lost(entry, error);
    if (nothingToDelete(entry.text, error)) return this.#settled(entry, { oid: null, text: null });
    entry.unsettled = undefined;
    this.#set(entry, "failed", asRefusal(error));
  }

  /** The server has `known`. */
  async #settled(entry: Entry, known: Known): Promise<void> {
    entry.known = known;
    entry.unsettled = undefined;
    entry.dirty = entry.text !== known.text;
    await this.#keep(entry);
    this.#set(entry, entry.dirty ? "waiting" : "saved");
  }

  /** Another device wrote first: merge, or ask. */
  async #reconcile(entry: Entry): Promise<void> {
    let theirs: Known;
    try {
      theirs = await this.#view(entry.path);
    } catch (error) {
      return this.#stumbled(entry, error);
    }
    const ours = entry.text;
    const base = entry.known?.text;
    if (theirs.text === ours) return this.#settled(entry, theirs);
    const merged = together(entry, theirs.text);
    if (merged !== undefined) return this.#adopt(entry, theirs, merged);
    entry.conflict = { path: entry.path, base, ours, theirs: theirs.text ?? null, theirsOid: theirs.oid };
    this.#set(entry, "conflict");
    this.#ask(entry, entry.conflict);
  }

  /** Asks whoever decides. An answer that takes its time holds up nothing: until it comes the file stays as it is. */
  #ask(entry: Entry, conflict: SaveConflict): void {
    const answer = this.#options.onConflict?.(conflict);
    if (!later(answer)) return this.#hear(entry, conflict, answer);
    void Promise.resolve(answer).then(
      (resolution) => {
        this.#hear(entry, conflict, resolution);
        return this.#goOn(entry);
      },
      // Nobody decided: it stays a conflict, and says why.
      (error: unknown) => this.#undecided(entry, conflict, error),
    );
  }

  #undecided(entry: Entry, asked: SaveConflict, error: unknown): void {
    if (entry.conflict?.theirsOid !== asked.theirsOid || this.#closing.signal.aborted) return;
    entry.error = new TreeholdError(0, "not_decided", String(error), { cause: error });
    this.#tell(entry);
  }

  #hear(entry: Entry, asked: SaveConflict, resolution: Resolution | undefined): void {
    const { conflict } = entry;
    if (resolution === undefined || this.#closing.signal.aborted) return;
    // It was decided meanwhile, and a newer one is asked for by itself.
    if (!conflict || conflict.theirsOid !== asked.theirsOid) return;
    // What was typed while somebody decided is not in that decision: it is asked for again.
    if (resolution !== "ours" && entry.text !== asked.ours) return this.#ask(entry, conflict);
    this.#decide(entry, conflict, resolution);
  }

  /** Sends what was decided, after what found the conflict has ended. */
  async #goOn(entry: Entry): Promise<void> {
    await entry.running;
    await this.#run(entry);
  }

  /** The text goes on from what the view has. */
  async #adopt(entry: Entry, theirs: Known, text: string | null): Promise<void> {
    const before = entry.text;
    entry.text = text;
    entry.error = undefined;
    if (before !== text) this.#options.onMerged?.({ path: entry.path, text, before });
    await this.#settled(entry, theirs);
  }

  #decide(entry: Entry, conflict: SaveConflict, resolution: Resolution): void {
    const before = entry.text;
    entry.known = { oid: conflict.theirsOid, text: conflict.theirs };
    if (resolution === "theirs") entry.text = conflict.theirs;
    else if (resolution !== "ours") entry.text = resolution.text;
    entry.conflict = undefined;
    entry.unsettled = undefined;
    entry.dirty = entry.text !== conflict.theirs;
    this.#set(entry, !entry.dirty ? "saved" : this.#away ? "offline" : "waiting");
    void this.#keep(entry);
    if (before !== entry.text) this.#options.onMerged?.({ path: entry.path, text: entry.text, before });
  }

  /** What the view has at a path. */
  async #view(path: string): Promise<Known> {
    const { project, user, branch } = this.workspace;
    try {
      const at = { user, signal: this.#closing.signal, ...(branch === undefined ? {} : { ref: branch }) };
      const file = await project.files.read(path, at);
      return { oid: file.oid, text: decoded(path, file.bytes) };
    } catch (error) {
      if (error instanceof TreeholdError && error.status === 404 && error.code !== "project_not_found") {
        return { oid: null, text: null };
      }
      throw error;
    }
  }

  #lost(entry: Entry, error: TreeholdError): void {
    this.#away = true;
    this.#set(entry, "offline", error);
    this.#schedule(this.#pauseMs(error));
  }

  #pauseMs(error: TreeholdError): number {
    const most = this.#options.maxPauseMs ?? 15_000;
    const next = error.retryAfter === undefined ? FIRST_PAUSE_MS * 2 ** Math.min(this.#failures++, 10) : error.retryAfter * 1000;
    return Math.min(most, next) * (0.75 + Math.random() / 4);
  }

  #schedule(ms: number): void {
    if (this.#closing.signal.aborted) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#comeBack(), ms);
  }

  #comeBack(): Promise<void> {
    clearTimeout(this.#timer);
    this.#replaying ??= this.#sendKept().finally(() => (this.#replaying = undefined));
    return this.#replaying;
  }

  /** Sends all that is kept, in batches, until all is sent or the server is away again. */
  async #sendKept(): Promise<void> {
    try {
      while (!this.#closing.signal.aborted) {
        await Promise.all([...this.#entries.values()].map((entry) => entry.running));
        const replay = this.#replays[0] ?? this.#batchOfOvertaken() ?? this.#batch();
        if (!replay) break;
        this.#replays[0] = replay;
        await this.#send(replay);
        await this.#done(replay);
      }
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      if (!mayPass(error)) return this.#refused(error);
      // There may be room by now.
      for (const entry of this.#entries.values()) if (entry.unkept) void this.#keep(entry);
      return this.#schedule(this.#pauseMs(error));
    }
    this.#away = false;
    this.#failures = 0;
    for (const entry of this.#entries.values()) if (entry.dirty) void this.#run(entry);
  }

  async #send(replay: Replay): Promise<void> {
    await this.#store(this.#batchKey(replay), JSON.stringify(replay));
    const request = { ops: replay.ops, atomic: false, on_conflict: "merge" as const };
    const call = { idempotencyKey: replay.key, signal: this.#closing.signal, retries: 0 };
    if (!replay.overtaken) return this.#answered(replay, (await this.workspace.batch(request, call)).results);
    let refused: Refused[];
    try {
      refused = refusals(replay.ops, (await this.workspace.batch(request, call)).results);
    } catch (error) {
      if (mayPass(error) || this.#closing.signal.aborted) throw error;
      refused = replay.ops.map((op) => ({ op, error: asRefusal(error) }));
    }
    if (refused.length < replay.ops.length) for (const path of new Set(replay.ops.map((op) => op.path))) await this.#follow(path);
    await this.#shelve(refused);
    await this.#keepOvertaken();
  }

  #batchKey({ name = "batch" }: Replay): string {
    return this.#prefix + name;
  }

  async #done(replay: Replay): Promise<void> {
    this.#replays = this.#replays.filter((other) => other !== replay);
    await this.#store(this.#batchKey(replay), undefined);
  }

  /** An editor that has nothing of its own takes over what an earlier page's text came to. */
  async #follow(path: string): Promise<void> {
    const entry = this.#entries.get(path);
    if (!entry || entry.dirty) return;
    try {
      const view = await this.#view(entry.path);
      if (!entry.dirty) await this.#adopt(entry, view, view.text ?? null);
    } catch (error) {
      // The server has the text. That it cannot be shown here is no reason to send it again.
      if (mayPass(error) || this.#closing.signal.aborted) throw error;
    }
  }

  /** A batch of before may be of several files: each has its own newest. */
  async #shelve(refused: Refused[]): Promise<void> {
    for (const path of new Set(refused.map(({ op }) => op.path))) await this.#shelveOf(refused.filter(({ op }) => op.path === path));
  }

  /**
   * What an earlier page left of a file, and the server refuses: the newest becomes what the file has here, as `failed`. Where the
   * editor has something of its own, and what is older, stays in the storage for the next page.
   */
  async #shelveOf(refused: Refused[]): Promise<void> {
    const last = refused.at(-1);
    this.#stuck.push(...refused.slice(0, -1).map(({ op }) => op));
    if (!last) return;
    const { op, error } = last;
    const entry = this.#entries.get(op.path);
    const [sent, before] = [text(op), entry?.text ?? null];
    if (entry?.dirty) {
      if (before !== sent) this.#stuck.push(op);
      if (entry.state !== "conflict") this.#set(entry, "failed", error);
      return;
    }
    const from = op.expected_oid === undefined || op.expected_oid === entry?.known?.oid ? entry?.known : { oid: op.expected_oid, text: undefined };
    const taken: Entry = Object.assign(entry ?? { path: op.path, state: "failed" as const }, { text: sent, known: from, dirty: true });
    this.#entries.set(op.path, taken);
    this.#set(taken, "failed", error);
    if (entry && before !== sent) this.#options.onMerged?.({ path: op.path, text: sent, before });
    if (!(await this.#keep(taken))) this.#stuck.push(op);
  }

  #keepOvertaken(): Promise<boolean> {
    const ops = [...this.#stuck, ...this.#overtaken];
    return this.#store(`${this.#prefix}overtaken`, ops.length > 0 ? JSON.stringify(ops) : undefined);
  }

  /** A batch as a whole is refused: each file is tried by itself, and says what is wrong with it. */
  async #refused(error: unknown): Promise<void> {
    const refused = asRefusal(error);
    // Whoever is not let in, or has no project, is told so once.
    const all = [401, 403].includes(refused.status) || refused.code === "project_not_found";
    if (this.#replays[0]) await this.#done(this.#replays[0]);
    this.#away = false;
    for (const entry of this.#entries.values()) {
      if (entry.state !== "offline") continue;
      if (all) this.#set(entry, "failed", refused);
      else this.#set(entry, "waiting");
      void this.#run(entry);
    }
    if (this.#replays.length > 0 && !all) this.#schedule(0);
  }

  /** Of one file, as what is refused harms no other. In the storage they stay until they are answered. */
  #batchOfOvertaken(): Replay | undefined {
    const path = this.#overtaken[0]?.path;
    const ops = this.#overtaken.filter((op) => op.path === path);
    this.#overtaken = this.#overtaken.filter((op) => op.path !== path);
    return ops.length > 0 ? { key: newUuid(), ops, overtaken: true, format: 1 } : undefined;
  }

  /** What is kept, as operations. */
  #batch(): Replay | undefined {
    const ops: PendingOp[] = [];
    let length = 0;
    for (const entry of this.#entries.values()) {
      if (!entry.dirty || entry.state !== "offline") continue;
      if (ops.length >= REPLAY_OPS_MAX || length >= REPLAY_LENGTH_MAX) break;
      ops.push(...opsOf(entry.path, entry));
      length += (entry.text?.length ?? 0) + (entry.unsettled?.text?.length ?? 0);
    }
    return ops.length > 0 ? { key: newUuid(), ops, format: 1 } : undefined;
  }

  async #answered(replay: Replay, results: OpResult[]): Promise<void> {
    const last = new Map<string, { op: PendingOp; result: OpResult }>();
    for (const [index, op] of replay.ops.entries()) {
      const [result, before, entry] = [results[index], last.get(op.path), this.#entries.get(op.path)];
      if (result) last.set(op.path, { op, result });
      // The text that had been sent before is in the view now: so the newer one starts from it.
      if (entry && before && ["applied", "duplicate", "merged"].includes(before.result.status)) entry.known = known(text(before.op));
    }
    for (const [path, { op, result }] of last) {
      const entry = this.#entries.get(path);
      if (entry) await this.#replayed(entry, text(op), result);
    }
  }

  async #replayed(entry: Entry, sent: string | null, result: OpResult): Promise<void> {
    entry.unsettled = undefined;
    switch (result.status) {
      case "applied":
      case "duplicate":
      case "merged": {
        // A duplicate may be a text that has more than what was sent.
        if (result.oid === known(sent).oid) return this.#settled(entry, known(sent));
        const view = await this.#view(entry.path);
        if (entry.text === sent) return this.#adopt(entry, view, view.text ?? null);
        // More was typed since: it starts from what was sent.
        entry.known = known(sent);
        return this.#reconcile(entry);
      }
      case "conflict":
        return this.#reconcile(entry);
      default: {
        const refused = resultError(result.error);
        if (nothingToDelete(sent, refused)) return this.#settled(entry, { oid: null, text: null });
        this.#set(entry, "failed", refused);
      }
    }
  }

  /** Keeps what is not saved, and drops what is; one write at a time for each file, the newest wins. `false` = the storage fails. */
  #keep(entry: Entry): Promise<boolean> {
    entry.keepAgain = true;
    entry.keeping ??= (async () => {
      // What an earlier page left behind is not written over before it was read.
      if (this.#reading) await this.#reading;
      let kept = true;
      while (entry.keepAgain) {
        entry.keepAgain = false;
        const key = `${this.#prefix}file:${entry.path}`;
        kept = await this.#store(key, entry.dirty ? packed(entry) : undefined);
      }
      const unkept = entry.dirty && !kept;
      if (unkept !== Boolean(entry.unkept)) {
        entry.unkept = unkept;
        this.#tell(entry);
      }
      return kept;
    })().finally(() => (entry.keeping = undefined));
    return entry.keeping;
  }

  async #store(key: string, value: string | undefined): Promise<boolean> {
    try {
      await (value === undefined ? this.#storage.delete(key) : this.#storage.set(key, value));
      return true;
    } catch (error) {
      this.#options.onStorageError?.(error);
      return false;
    }
  }

  #set(entry: Entry, state: SaveState, error?: TreeholdError): void {
    entry.state = state;
    entry.error = state === "offline" || state === "failed" ? error : undefined;
    if (state !== "conflict") entry.conflict = undefined;
    this.#tell(entry);
  }

  #tell(entry: Entry): void {
    const file = shown(entry);
    for (const listener of this.#listeners) listener(file);
  }
}
