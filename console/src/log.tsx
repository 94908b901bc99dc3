import { useEffect, useState } from "preact/hooks";
import { foundInstead, TreeholdError, type LogEntry, type Oid as ObjectId, type VersionEntry } from "treehold";
import { bytes, Changed, Empty, Failure, Oid, Waiting, When } from "./parts.js";
import type { ProjectStore } from "./store.js";
import { useAsked, useWatched } from "./watch.js";

const PAGE = 50;

/** Commits; of one file also the versions that were saved lately. */
export function History({ store, path }: { store: ProjectStore; path: string | undefined }) {
  useWatched(store);
  return (
    <main class="scroll" id="main" tabIndex={-1}>
      <div class="wide stack">
        <div class="row">
          <h1 class="grow clip">{path ? <>History of <span class="mono">{path}</span></> : "History"}</h1>
          {path && <a href={store.place("files", path)}>Open the file</a>}
          {path && <a href={store.place("log")}>All files</a>}
        </div>
        <Saved store={store} path={path} />
        <Commits store={store} path={path} />
      </div>
    </main>
  );
}

function Commits({ store, path }: { store: ProjectStore; path: string | undefined }) {
  const [commits, setCommits] = useState<LogEntry[]>();
  const [cursor, setCursor] = useState<string | null>(null);
  const [shallow, setShallow] = useState(false);
  const [error, setError] = useState<unknown>();
  const more = async (from?: string) => {
    try {
      const page = await store.project.log({ limit: PAGE, ...(path ? { path } : {}), ...(store.at.ref ? { ref: store.at.ref } : {}) }).page(from);
      setCommits((before) => [...(from ? (before ?? []) : []), ...page.commits]);
      setCursor(page.next_cursor);
      setShallow((was) => was || page.shallow);
    } catch (failure) {
      setError(failure);
    }
  };
  useEffect(() => void more(), [store, path, store.status?.head]);
  return (
    <section class="card" aria-label="Commits">
      <header><h2>Commits</h2></header>
      {error !== undefined && <div class="body"><Failure error={error} /></div>}
      {!commits && error === undefined && <Waiting what="Reading the log" />}
      {commits?.length === 0 && <Empty title="No commit yet">{path ? "This file was never committed." : "The first one begins the branch."}</Empty>}
      <ol class="commits">{commits?.map((entry) => <Commit key={entry.commit} store={store} entry={entry} path={path} />)}</ol>
      {cursor && <div class="body"><button onClick={() => void more(cursor)}>Show more</button></div>}
      {shallow && !cursor && <p class="body small quiet">Older history was not fetched from the remote.</p>}
    </section>
  );
}

function Commit({ store, entry, path }: { store: ProjectStore; entry: LogEntry; path: string | undefined }) {
  const [open, setOpen] = useState(false);
  const [subject = "", ...rest] = entry.message.trim().split("\n");
  return (
    <li>
      <span class="name clip" title={entry.message}>{subject}</span>
      <span class="meta">{entry.author.name} · <When at={entry.author.date} /> · <Oid oid={entry.commit} />{entry.parents.length > 1 && " · merge"}</span>
      <span class="acts">
        {path && <RestoreCommitted store={store} commit={entry.commit} path={path} />}
        <button class="small" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? "Hide" : "Show"}</button>
      </span>
      {open && (
        <div class="stack more">
          {rest.join("\n").trim() && <p class="pre">{rest.join("\n").trim()}</p>}
          {entry.parents[0] ? <Difference store={store} from={entry.parents[0]} to={entry.commit} path={path} /> : <p>The first commit.</p>}
        </div>
      )}
    </li>
  );
}

function Difference({ store, from, to, path }: { store: ProjectStore; from: string; to: string; path: string | undefined }) {
  const { value, error } = useAsked(
    (signal) => store.project.diff({ from, to, renames: true, limit: 50, signal, ...(path ? { prefix: path } : {}) }).page(), `${from} ${to}`,
  );
  if (error instanceof TreeholdError && error.status === 404) return <p>The commit before it was not fetched from the remote.</p>;
  if (error !== undefined) return <Failure error={error} />;
  if (!value) return <Waiting what="Comparing" />;
  return <>{value.files.map((file, at) => <Changed key={file.path} file={file} open={at < 3} />)}{value.next_cursor && <p>More files changed than are shown.</p>}</>;
}

function RestoreCommitted({ store, commit, path }: { store: ProjectStore; commit: string; path: string }) {
  const restore = async (expected: ObjectId | null) => {
    const old = await store.project.files.read(path, { ref: commit });
    await store.workspace.put(path, old.bytes, { expected });
  };
  return <Restore store={store} path={path} act={restore} />;
}

/** Replaces what the page showed of a file, and nothing newer. */
function Restore({ store, path, act }: { store: ProjectStore; path: string; act: (expected: ObjectId | null) => Promise<unknown> }) {
  const [state, setState] = useState<"" | "busy" | "done">("");
  const [error, setError] = useState<unknown>();
  const go = async () => {
    setState("busy");
    setError(undefined);
    try {
      await store.settle(path);
      await act(await store.seen(path));
      await store.refresh();
      setState("done");
    } catch (failure) {
      setError(foundInstead(failure) === undefined ? failure : new Error("Another device changed the file meanwhile. Nothing was restored: look at it again"));
      setState("");
      await store.refresh();
    }
  };
  return <>
    {error !== undefined && <Failure error={error} />}
    {state === "done" ? <span class="tag good" role="status">restored, pending</span>
      : <button class="small" disabled={state === "busy"} onClick={() => void go()}>Restore</button>}
  </>;
}

/** Local history: what was saved and is not committed, or is not any more. */
function Saved({ store, path }: { store: ProjectStore; path: string | undefined }) {
  const { workspace, status } = store;
  const { value: page, error } = useAsked(
    (signal) => workspace.history({ limit: 30, signal, ...(path ? { path } : {}) }).page(), `${path} ${status?.revision}`,
  );
  return (
    <section class="card" aria-label="Saved lately">
      <header><h2 class="grow">Saved lately</h2><span class="small quiet">your own versions, kept for a while</span></header>
      {error !== undefined && <div class="body"><Failure error={error} /></div>}
      {!page && error === undefined && <Waiting what="Asking the server" />}
      {page?.versions.length === 0 && <Empty title="Nothing was saved lately">Each version that you save is here for a while, also after it was replaced or discarded.</Empty>}
      <ol class="commits">{page?.versions.map((version) => <Version key={version.id} store={store} version={version} path={path} />)}</ol>
    </section>
  );
}

function Version({ store, version, path }: { store: ProjectStore; version: VersionEntry; path: string | undefined }) {
  const [open, setOpen] = useState(false);
  const { value: diff, error } = useAsked(
    async (signal) => (open ? await store.workspace.versionDiff(version.id, { signal }) : undefined), `${version.id} ${open} ${store.status?.revision}`,
  );
  return (
    <li>
      <span class="name clip">{path ? <When at={version.at} /> : <span class="path">{version.path}</span>} {version.replaced_at === null && <span class="tag good">pending now</span>}</span>
      <span class="meta">{path ? "" : <><When at={version.at} /> · </>}{version.action}{version.oid ? <> · {bytes(version.size)} · <Oid oid={version.oid} /></> : ""}</span>
      <span class="acts">
        {version.replaced_at !== null && <Restore store={store} path={version.path} act={(expected) => store.workspace.restoreVersion(version.id, { expected })} />}
        <button class="small" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? "Hide" : "Compare"}</button>
      </span>
      {open && (
        <div class="stack more">
          {error !== undefined && <Failure error={error} />}
          {diff?.files.length === 0 && <p>The same as now.</p>}
          {diff?.files.map((file) => <Changed key={file.path} file={file} open />)}
        </div>
      )}
    </li>
  );
}
