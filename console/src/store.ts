import {
  TreeholdError, type Autosave, type FeedItem, type Merged, type Oid, type PendingEvent, type Project, type ProjectView, type RefView, type Status,
  type Treehold, type Workspace,
} from "treehold";
import { Drafts } from "./drafts.js";
import { FileTree } from "./files.js";
import { placeOf } from "./place.js";
import { Search } from "./searching.js";
import { leftBehind, openQueue, type Person } from "./session.js";
import { Watched } from "./watch.js";

/** Milliseconds between typing and saving: after a pause, and at most. */
const DEBOUNCE_MS = 1_500;
const MAX_WAIT_MS = 5_000;
/** What happens at once is listed once. */
const GATHER_MS = 250;
/** Files after which a list lets the page draw and take keys. */
const BREATH = 2_000;
/** Milliseconds that a branch is waited for which is still being left. */
const LEAVING_MS = 3_000;

const HEADS = "refs/heads/";
const leaving = new Map<string, Promise<void>>();

/** What the pages of a project show of a branch: its files, its status, and what happens to them. */
export class ProjectStore extends Watched {
  readonly treehold: Treehold;
  readonly person: Person;
  readonly project: Project;
  readonly workspace: Workspace;
  readonly autosave: Autosave;
  readonly drafts: Drafts;
  readonly view: ProjectView;
  readonly device: string;
  /** Short name of the branch that is shown. */
  readonly branch: string;
  /** The same, for requests that take the default one without a name: it may have no commit yet. */
  readonly on: { branch?: string };
  /** Which version of files is shown. */
  readonly at: { user: string; ref?: string };
  readonly search: Search;
  tree = new FileTree();
  /** Directories that are open in the tree. */
  readonly open = new Set<string>();
  status: Status | undefined;
  /** The branch as a ref; the default one is not asked for. */
  ref: RefView | undefined;
  /** Other branches on which something is not saved; `undefined` = the default one. */
  left: (string | undefined)[] = [];
  /** There is no such branch, or none any more. */
  gone = false;
  listed = false;
  listing = 0;
  online = true;
  error: unknown;
  /** Goes up with everything that happened. */
  turn = 0;
  readonly #ending = new AbortController();
  readonly #remote = new Set<(path: string | undefined) => void>();
  readonly #merged: Set<(merged: Merged) => void>;
  #lists: ReturnType<typeof setTimeout> | undefined;
  #asks: ReturnType<typeof setTimeout> | undefined;
  /** What was edited while the files are being listed. */
  #meanwhile: PendingEvent[] | undefined;
  #again = false;

  private constructor(
    treehold: Treehold, person: Person, view: ProjectView, project: Project, autosave: Autosave, drafts: Drafts, device: string,
    merged: Set<(merged: Merged) => void>,
  ) {
    super();
    this.#merged = merged;
    this.treehold = treehold;
    this.person = person;
    this.view = view;
    this.project = project;
    this.autosave = autosave;
    this.drafts = drafts;
    this.workspace = autosave.workspace;
    this.device = device;
    const { branch } = this.workspace;
    this.branch = branch ?? view.default_branch;
    this.on = branch === undefined ? {} : { branch };
    this.at = { user: person.user, ...(branch === undefined ? {} : { ref: branch }) };
    this.search = new Search(this);
  }

  static async open(treehold: Treehold, name: string, asked: string | undefined, person: Person): Promise<ProjectStore> {
    const view = await treehold.showProject(name);
    const branch = asked === view.default_branch ? undefined : asked;
    const project = treehold.project(view.id);
    // What was typed there a moment ago is on its way.
    const earlier = leaving.get(`${view.id} ${branch}`);
    if (earlier) await Promise.race([earlier, new Promise((resolve) => setTimeout(resolve, LEAVING_MS))]);
    const { device, storage, storageKey } = await openQueue(view.id, person.user, branch);
    const actor = person.name ? `person:${person.name}` : "person";
    const listeners = new Set<(merged: Merged) => void>();
    const onMerged = (merged: Merged): void => listeners.forEach((listener) => listener(merged));
    const autosave = project.autosave({
      user: person.user, device, actor, storage, storageKey, onMerged, debounceMs: DEBOUNCE_MS, maxWaitMs: MAX_WAIT_MS,
      ...(branch === undefined ? {} : { branch }),
    });
    const drafts = await Drafts.open(storage, storageKey);
    const store = new ProjectStore(treehold, person, view, project, autosave, drafts, device, listeners);
    await autosave.restore();
    autosave.subscribe(() => store.changed());
    drafts.watch(() => store.changed());
    void store.#follow();
    return store;
  }

  /** Ends it. What is typed is sent, or stays in this browser. */
  close(): Promise<void> {
    const name = `${this.view.id} ${this.workspace.branch}`;
    this.#ending.abort();
    this.search.stop();
    clearTimeout(this.#lists);
    clearTimeout(this.#asks);
    const left = this.autosave.flush().then(() => this.autosave.stop()).finally(() => leaving.delete(name));
    leaving.set(name, left);
    return left;
  }

  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** What is typed and not saved: files, and results of conflicts. */
  get unsaved(): number {
    return this.autosave.states().filter((file) => file.state !== "saved").length + this.drafts.size;
  }

  /** Whether what is typed and not saved outlives this window. */
  get kept(): boolean {
    return this.autosave.states().every((file) => file.kept) && this.drafts.all().every((draft) => draft.kept);
  }

  /** Saves what is typed in a file that something else is to replace. Fails where that cannot be. */
  async settle(path: string): Promise<void> {
    const typed = this.autosave.state(path);
    const left = await this.autosave.flush();
    if (left.some((file) => file.path === path)) throw new Error(`What was typed in ${path} is not saved: look at it first`);
    if (typed && typed.state !== "saved") await this.refresh();
  }

  /** What the view has at a path, as far as this page was told: `null` = no file. */
  async seen(path: string): Promise<Oid | null> {
    const { head, changes } = this.status ?? (await this.workspace.status({ signal: this.signal }));
    const change = changes.find((change) => change.path === path);
    if (change) return change.oid;
    return head === null ? null : await oidAt(this.project, path, head, this.signal);
  }

  get ephemeral(): boolean {
    return this.ref?.expires_at !== undefined;
  }

  /** Where a page of this branch is. */
  place(tab: string, path?: string, line?: number): string {
    return placeOf(this.view.id, tab, { path, branch: this.workspace.branch, line });
  }

  /** Tells of paths that another device or a commit changed; `undefined` = it may be any. */
  onRemote(listener: (path: string | undefined) => void): () => void {
    this.#remote.add(listener);
    return () => void this.#remote.delete(listener);
  }

  /** Tells of texts that took in what another device wrote. */
  onMerged(listener: (merged: Merged) => void): () => void {
    this.#merged.add(listener);
    return () => void this.#merged.delete(listener);
  }

  async #follow(): Promise<void> {
    const { user } = this.person;
    const onState = (error: TreeholdError | undefined): void => {
      this.online = error === undefined;
      this.changed();
      if (this.online) {
        void this.autosave.retry();
        this.#ask();
      }
    };
    try {
      for await (const item of this.project.feed({ user, signal: this.signal, onState })) this.#take(item);
    } catch (error) {
      this.error = error;
      this.changed();
    }
  }

  #take(item: FeedItem): void {
    this.turn++;
    if (item.kind === "start") {
      void this.list();
      this.#ask();
      this.#tellRemote(undefined);
      return;
    }
    this.#ask();
    if (item.kind === "pending") this.#edited(item);
    if (item.kind === "ref" && item.name === `${HEADS}${this.branch}` && item.to !== null) {
      this.#listSoon();
      this.#tellRemote(undefined);
    }
    this.changed();
  }

  #edited(event: PendingEvent): void {
    if (event.branch !== this.branch) return;
    this.#meanwhile?.push(event);
    if (!follow(this.tree, event)) this.#listSoon();
    if (event.device !== this.device || event.action === "dropped" || event.action === "deleted") this.#tellRemote(event.path);
  }

  #tellRemote(path: string | undefined): void {
    for (const listener of this.#remote) listener(path);
  }

  #listSoon(): void {
    clearTimeout(this.#lists);
    this.#lists = setTimeout(() => void this.list(), GATHER_MS);
  }

  #ask(): void {
    clearTimeout(this.#asks);
    this.#asks = setTimeout(() => void this.refresh(), GATHER_MS);
  }

  /** Lists all files, as they come; once more where it is asked for meanwhile. */
  async list(): Promise<void> {
    if (this.#meanwhile) return void (this.#again = true);
    do {
      this.#again = false;
      this.#meanwhile = [];
      await this.#list(this.#meanwhile);
      this.#meanwhile = undefined;
      this.changed();
    } while (this.#again && !this.signal.aborted);
  }

  /** `meanwhile` gets what was edited after the list's snapshot was taken. */
  async #list(meanwhile: PendingEvent[]): Promise<void> {
    try {
      const tree = new FileTree();
      let listed = 0;
      for await (const file of this.project.files.list({ ...this.at, signal: this.signal })) {
        if (!file.path_b64) tree.add(file.path);
        if (++listed % BREATH === 0) {
          this.listing = tree.size;
          if (!this.listed) this.changed();
          await new Promise((resolve) => setTimeout(resolve));
        }
      }
      for (const event of meanwhile) follow(tree, event);
      this.tree = tree;
      this.listed = true;
      this.error = undefined;
    } catch (error) {
      if (this.signal.aborted) return;
      if (error instanceof TreeholdError && error.code === "snapshot_changed") this.#again = true;
      else if (!this.listed) this.error = error;
    }
  }

  /** Asks how things stand. */
  async refresh(): Promise<void> {
    try {
      const [status, ref] = await Promise.all([this.workspace.status({ signal: this.signal }), this.#readRef()]);
      this.status = status;
      this.ref = ref;
      this.gone = false;
      this.left = await leftBehind(this.view.id, this.person.user, this.workspace.branch);
      this.turn++;
    } catch (error) {
      if (this.signal.aborted) return;
      if (error instanceof TreeholdError && error.code === "ref_not_found") this.gone = true;
      if (!this.status) this.error = error;
    }
    this.changed();
  }

  async #readRef(): Promise<RefView | undefined> {
    if (this.workspace.branch === undefined) return undefined;
    const name = `${HEADS}${this.branch}`;
    // In byte order nothing that begins with a name is before it.
    const { refs } = await this.project.refs({ prefix: name, limit: 1, signal: this.signal }).page();
    return refs.find((ref) => ref.name === name);
  }
}

/** Of a committed file; a byte of it is read. `null` = no file. */
async function oidAt(project: Project, path: string, ref: string, signal: AbortSignal): Promise<Oid | null> {
  try {
    return (await project.files.read(path, { ref, signal, range: { start: 0, end: 1 } })).oid;
  } catch (error) {
    // An empty file has no bytes to take a range of.
    if (error instanceof TreeholdError && error.status === 416) return (await project.files.read(path, { ref, signal })).oid;
    if (error instanceof TreeholdError && error.status === 404) return null;
    throw error;
  }
}

/** What an edit makes of the tree; `false` = that is not known. */
function follow(tree: FileTree, event: PendingEvent): boolean {
  if (event.action === "created" || event.action === "modified") tree.add(event.path);
  else if (event.action === "deleted") tree.remove(event.path);
  else return false;
  return true;
}
