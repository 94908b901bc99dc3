import { useEffect, useState } from "preact/hooks";
import type { CheckpointEntry } from "treehold";
import { Changed, count, Empty, Failure, Waiting, When } from "./parts.js";
import type { ProjectStore } from "./store.js";
import { useAsked, useWatched } from "./watch.js";

const PAGE = 50;

/** Named copies of all that is pending: made, compared, restored, and that undone. */
export function Checkpoints({ store }: { store: ProjectStore }) {
  useWatched(store);
  const [entries, setEntries] = useState<CheckpointEntry[]>();
  const [cursor, setCursor] = useState<string | null>(null);
  const [error, setError] = useState<unknown>();
  const [told, setTold] = useState<{ text: string; undo?: CheckpointEntry | null }>();
  const more = async (from?: string) => {
    try {
      const page = await store.workspace.checkpoints({ limit: PAGE }).page(from);
      setEntries((before) => [...(from ? (before ?? []) : []), ...page.checkpoints]);
      setCursor(page.next_cursor);
      setError(undefined);
    } catch (failure) {
      setError(failure);
    }
  };
  useEffect(() => void more(), [store]);
  const act = async (work: () => Promise<typeof told>) => {
    setTold(undefined);
    setError(undefined);
    try {
      const unsaved = await store.autosave.flush();
      if (unsaved.length > 0) throw new Error(`${count(unsaved.length, "file")} could not be saved yet: ${unsaved.map((file) => file.path).join(", ")}`);
      const done = await work();
      await more();
      setTold(done);
      return true;
    } catch (failure) {
      setError(failure);
      return false;
    } finally {
      void store.refresh();
    }
  };
  const restore = (entry: CheckpointEntry, undone = false) => act(async () => {
    const { changed, before } = await store.workspace.restoreCheckpoint(entry.id);
    const what = undone ? "What was pending before is back" : `${entry.name} is restored`;
    return { text: changed === 0 ? "All of it is pending already." : `${what}: ${count(changed, "change")}.`, undo: before };
  });
  const make = (name: string, message: string) => act(async () => {
    const made = await store.workspace.createCheckpoint(name, message ? { message } : {});
    return { text: `${made.name} has ${count(made.changes, "change")}.` };
  });
  const remove = (entry: CheckpointEntry) => act(async () => {
    await store.workspace.deleteCheckpoint(entry.id);
    return { text: `${entry.name} is deleted.` };
  });
  return (
    <main class="scroll" id="main" tabIndex={-1}>
      <div class="wide two-col">
        <div class="stack">
          <h1>Checkpoints</h1>
          {error !== undefined && <Failure error={error} />}
          {told && <div class="note good" role="status">{told.text} {told.undo && <button class="plain" onClick={() => void restore(told.undo!, true)}>Undo</button>}</div>}
          {!entries && error === undefined && <Waiting what="Asking the server" />}
          {entries?.length === 0 && <div class="card"><Empty title="No checkpoint yet">One keeps all that is pending on {store.branch}, under a name, and brings it back.</Empty></div>}
          {entries && entries.length > 0 && <section class="card" aria-label="Kept"><ol class="commits">{entries.map((entry) => (
            <One key={entry.id} store={store} entry={entry} onRestore={() => restore(entry)} onDelete={() => remove(entry)} />
          ))}</ol></section>}
          {cursor && <button onClick={() => void more(cursor)}>Show more</button>}
        </div>
        <Make pending={store.status?.changes.length ?? 0} onMake={make} />
      </div>
    </main>
  );
}

function Make({ pending, onMake }: { pending: number; onMake: (name: string, message: string) => Promise<boolean> }) {
  const [name, setName] = useState("");
  const [message, setMessage] = useState("");
  const make = async (event: Event) => {
    event.preventDefault();
    if (!(await onMake(name, message))) return;
    // What was typed meanwhile is for the next one.
    setName((now) => (now === name ? "" : now));
    setMessage((now) => (now === message ? "" : now));
  };
  return (
    <form class="card" onSubmit={make}>
      <header><h2>Make one</h2></header>
      <div class="body stack">
        <label><span>Name</span><input value={name} onInput={(event) => setName(event.currentTarget.value)} required placeholder="before the rewrite" /></label>
        <label><span>What it is for</span><input value={message} onInput={(event) => setMessage(event.currentTarget.value)} /></label>
        <button class="primary" disabled={name.trim() === ""}>Keep {count(pending, "pending file")}</button>
      </div>
    </form>
  );
}

interface OneProps {
  store: ProjectStore;
  entry: CheckpointEntry;
  onRestore: () => Promise<unknown>;
  onDelete: () => Promise<unknown>;
}

function One({ store, entry, onRestore, onDelete }: OneProps) {
  const [open, setOpen] = useState(false);
  const [sure, setSure] = useState(false);
  const [busy, setBusy] = useState(false);
  const act = async (work: () => Promise<unknown>) => {
    setBusy(true);
    await work();
    setBusy(false);
  };
  return (
    <li aria-label={entry.name}>
      <span class="name clip" title={entry.name}>{entry.name}</span>
      <span class="meta"><When at={entry.created_at} /> · {count(entry.changes, "change")}{entry.message && ` · ${entry.message}`}</span>
      <span class="acts">
        {sure ? (
          <><button class="danger small" disabled={busy} onClick={() => void act(onDelete)} autoFocus>Delete it</button><button class="plain small" onClick={() => setSure(false)}>Keep it</button></>
        ) : (
          <>
            <button class="small" disabled={busy} onClick={() => void act(onRestore)}>Restore</button>
            <button class="small" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? "Hide" : "Compare"}</button>
            <button class="plain danger small" onClick={() => setSure(true)}>Delete</button>
          </>
        )}
      </span>
      {open && <Compared store={store} entry={entry} />}
    </li>
  );
}

function Compared({ store, entry }: { store: ProjectStore; entry: CheckpointEntry }) {
  const { value: diff, error } = useAsked((signal) => store.workspace.checkpointDiff(entry.id, { signal }), `${entry.id} ${store.status?.revision} ${store.status?.head}`);
  return (
    <div class="stack more">
      {error !== undefined && <Failure error={error} />}
      {!diff && error === undefined && <Waiting what="Comparing" />}
      {diff && <p class="small quiet">{diff.files.length === 0 ? "The same as now." : "What changed since then:"}</p>}
      {diff?.files.map((file, at) => <Changed key={file.path} file={file} open={at < 5} />)}
      {diff?.next_cursor && <p class="quiet small">There are more differences than are shown.</p>}
    </div>
  );
}
