import {
  TreeholdError, type Autosave, type FeedItem, type Merged, type PendingEvent, type Project, type ProjectView, type Status, type Treehold, type Workspace,
} from "treehold";
import { FileTree } from "./files.js";
import { openQueue, type Person } from "./session.js";
import { Watched } from "./watch.js";

/** Milliseconds between typing and saving: after a pause, and at most. */
const DEBOUNCE_MS = 1_500;
const MAX_WAIT_MS = 5_000;
/** What happens at once is listed once. */
const GATHER_MS = 250;

/** What a project's pages show: its files, its status, and what happens to them. */
export class ProjectStore extends Watched {
  readonly treehold: Treehold;
  readonly person: Person;
  readonly project: Project;
  readonly workspace: Workspace;
  readonly autosave: Autosave;
  readonly view: ProjectView;
  readonly device: string;
  tree = new FileTree();
  /** Directories that are open in the tree. */
  readonly open = new Set<string>();
  status: Status | undefined;
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

  private constructor(treehold: Treehold, person: Person, view: ProjectView, project: Project, autosave: Autosave, device: string, merged: Set<(merged: Merged) => void>) {
    super();
    this.#merged = merged;
    this.treehold = treehold;
    this.person = person;
    this.view = view;
    this.project = project;
    this.autosave = autosave;
    this.workspace = autosave.workspace;
    this.device = device;
  }

  static async open(treehold: Treehold, name: string, person: Person): Promise<ProjectStore> {
    const view = await treehold.showProject(name);
    const project = treehold.project(view.id);
    const { device, storage, storageKey } = await openQueue(view.id, person.user);
    const actor = person.name ? `person:${person.name}` : "person";
    const listeners = new Set<(merged: Merged) => void>();
    const onMerged = (merged: Merged): void => listeners.forEach((listener) => listener(merged));
    const autosave = project.autosave({
      user: person.user, device, actor, storage, storageKey, onMerged, debounceMs: DEBOUNCE_MS, maxWaitMs: MAX_WAIT_MS,
    });
    const store = new ProjectStore(treehold, person, view, project, autosave, device, listeners);
    void autosave.restore();
    autosave.subscribe(() => store.changed());
    void store.#follow();
    return store;
  }

  async close(): Promise<void> {
    this.#ending.abort();
    clearTimeout(this.#lists);
    clearTimeout(this.#asks);
    await this.autosave.flush();
    await this.autosave.stop();
  }

  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** What is typed and not saved. */
  get unsaved(): number {
    return this.autosave.states().filter((file) => file.state !== "saved").length;
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
    if (item.kind === "ref" && item.name === `refs/heads/${this.view.default_branch}`) {
      this.#listSoon();
      this.#tellRemote(undefined);
    }
    this.changed();
  }

  #edited(event: PendingEvent): void {
    if (event.branch !== this.view.default_branch) return;
    if (event.action === "created" || event.action === "modified") this.tree.add(event.path);
    else if (event.action === "deleted") this.tree.remove(event.path);
    else this.#listSoon();
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

  /** Lists all files, as they come. */
  async list(): Promise<void> {
    try {
      const tree = new FileTree();
      for await (const file of this.project.files.list({ user: this.person.user, signal: this.signal })) {
        if (!file.path_b64) tree.add(file.path);
        if (!this.listed && tree.size % 5_000 === 0) {
          this.listing = tree.size;
          this.changed();
        }
      }
      this.tree = tree;
      this.listed = true;
      this.error = undefined;
    } catch (error) {
      if (this.signal.aborted) return;
      if (error instanceof TreeholdError && error.code === "snapshot_changed") return this.#listSoon();
      if (!this.listed) this.error = error;
    }
    this.changed();
  }

  /** Asks how things stand. */
  async refresh(): Promise<void> {
    try {
      this.status = await this.workspace.status({ signal: this.signal });
      this.turn++;
    } catch (error) {
      if (this.signal.aborted) return;
      if (!this.status) this.error = error;
    }
    this.changed();
  }
}
