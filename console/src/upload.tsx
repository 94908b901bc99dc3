import { useEffect, useRef, useState } from "preact/hooks";
import { TreeholdError } from "treehold";
import { bytes, count, Dialog, Failure, sentence } from "./parts.js";
import type { ProjectStore } from "./store.js";

/** Files that are sent at once. */
const AT_ONCE = 3;
/** Files of one upload. */
export const FILES_MAX = 2_000;
/** Rows that are drawn; those that need a hand come first. */
const SHOWN = 200;

/** A file of this machine, and where it goes below the directory that is uploaded into. */
export interface Chosen {
  path: string;
  file: File;
}

type State = "waiting" | "sending" | "saved" | "exists" | "failed";

interface Item extends Chosen {
  state: State;
  why?: string;
}

const WORDS: Record<State, string> = { waiting: "waits", sending: "is sent…", saved: "saved", exists: "exists", failed: "failed" };
/** What is shown first. */
const ORDER: State[] = ["failed", "exists", "sending", "waiting", "saved"];

/** The files that were chosen in a dialog of the browser. */
export const chosen = (files: Iterable<File>): Chosen[] => [...files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));

/** The files that were dropped; directories with all that is in them. To be called while the event is handled. */
export async function dropped(transfer: DataTransfer): Promise<Chosen[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  // What is no file has no entry; a browser without entries gives files alone.
  if (entries.length === 0) return chosen(transfer.files);
  const found: Chosen[] = [];
  const open = [...entries];
  for (let entry = open.shift(); entry && found.length <= FILES_MAX; entry = open.shift()) {
    const path = entry.fullPath.replace(/^\/+/, "");
    if (entry.isFile) found.push({ path, file: await fileOf(entry as FileSystemFileEntry) });
    else open.push(...(await entriesOf(entry as FileSystemDirectoryEntry)));
  }
  return found;
}

const fileOf = (entry: FileSystemFileEntry): Promise<File> => new Promise((resolve, reject) => entry.file(resolve, reject));

async function entriesOf(directory: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = directory.createReader();
  const all: FileSystemEntry[] = [];
  // It gives them in parts, and an empty one at the end.
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (part.length === 0 || all.length > FILES_MAX) return all;
    all.push(...part);
  }
}

export const joined = (directory: string, path: string): string => {
  const clean = directory.replace(/^\/+|\/+$/g, "");
  return clean ? `${clean}/${path}` : path;
};

interface Props {
  store: ProjectStore;
  files: Chosen[];
  /** The directory that is proposed. */
  into: string;
  onClose: () => void;
}

/** Saves files as pending edits, several at once. What is there already is replaced only where that is said. */
export function Upload({ store, files, into, onClose }: Props) {
  const [directory, setDirectory] = useState(into);
  const [items, setItems] = useState<Item[]>(() => files.map((one) => ({ ...one, state: "waiting" })));
  const [begun, setBegun] = useState(false);
  const ending = useRef(new AbortController());
  useEffect(() => () => ending.current.abort(), []);

  const set = (item: Item, state: State, why?: string) =>
    setItems((all) => all.map((one) => (one.file === item.file ? { path: one.path, file: one.file, state, ...(why === undefined ? {} : { why }) } : one)));
  const send = async (item: Item, replace: boolean) => {
    const { signal } = ending.current;
    set(item, "sending");
    try {
      const content = new Uint8Array(await item.file.arrayBuffer());
      // As another device, so that an editor that shows the file takes in what came.
      const { user, branch } = store.workspace;
      const device = `${store.device} upload`;
      const workspace = store.project.workspace({ user, device, ...(branch === undefined ? {} : { branch }) });
      await workspace.put(joined(directory, item.path), content, { signal, ...(replace ? {} : { expected: null }) });
      set(item, "saved");
    } catch (failure) {
      if (signal.aborted) return;
      const exists = failure instanceof TreeholdError && failure.status === 412;
      set(item, exists ? "exists" : "failed", exists ? "There is a file at this path already." : sentence(failure));
    }
  };
  const all = async (which: Item[], replace: boolean) => {
    setBegun(true);
    const left = [...which];
    const work = async (): Promise<void> => {
      for (let item = left.shift(); item && !ending.current.signal.aborted; item = left.shift()) await send(item, replace);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  };
  const of = (...states: State[]) => items.filter((item) => states.includes(item.state));
  const size = (some: Item[]) => some.reduce((total, { file }) => total + file.size, 0);

  const [saved, exist, failed, busy] = [of("saved"), of("exists"), of("failed"), begun && of("waiting", "sending").length > 0];
  const shown = [...items].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state)).slice(0, SHOWN);
  const said = begun ? `${saved.length.toLocaleString("en")} of ${count(items.length, "file")} saved` : `${count(items.length, "file")}, ${bytes(size(items))}`;
  return (
    <Dialog title="Upload files" onClose={onClose}>
      <form class="stack" onSubmit={(event) => (event.preventDefault(), void all(of("waiting"), false))}>
        {files.length > FILES_MAX && <Failure error={new Error(`These are more than ${FILES_MAX.toLocaleString("en")} files: use git for so many`)} />}
        <label><span>Directory</span><input class="mono" value={directory} onInput={(event) => setDirectory(event.currentTarget.value)} placeholder="the root" disabled={begun} /></label>
        <progress aria-label="Saved" max={Math.max(1, size(items))} value={size(saved)} />
        <p class="small" role="status">{said}{failed.length > 0 && `, ${failed.length.toLocaleString("en")} failed`}{exist.length > 0 && `, ${exist.length.toLocaleString("en")} exist`}</p>
        <ul class="uploads" aria-label="Files to upload" tabIndex={0}>
          {shown.map((item) => (
            <li key={item.path} class={`row small ${item.state}`}>
              <span class="grow clip mono" title={joined(directory, item.path)}>{item.path}</span>
              <span class="quiet">{bytes(item.file.size)}</span>
              <span title={item.why}>{WORDS[item.state]}</span>
              {item.why !== undefined && <span class="why">{item.why}</span>}
            </li>
          ))}
          {items.length > SHOWN && <li class="small quiet">and {(items.length - SHOWN).toLocaleString("en")} more</li>}
        </ul>
        <div class="row">
          {!begun && <button class="primary" disabled={files.length > FILES_MAX}>Upload</button>}
          {!busy && exist.length > 0 && <button type="button" onClick={() => void all(exist, true)}>Replace {count(exist.length, "file")}</button>}
          {!busy && failed.length > 0 && <button type="button" onClick={() => void all(failed, false)}>Try {count(failed.length, "file")} again</button>}
          <button type="button" onClick={onClose}>{busy ? "Stop" : begun ? "Close" : "Cancel"}</button>
        </div>
      </form>
    </Dialog>
  );
}
