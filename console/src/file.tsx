import { useEffect, useRef, useState } from "preact/hooks";
import { foundInstead, TreeholdError, type FileState } from "treehold";
import { openPane, type Pane } from "./editor.js";
import { NotEdited, sniffed, type Odd } from "./odd.js";
import { Empty, Failure, Waiting } from "./parts.js";
import { Sides } from "./sides.js";
import type { ProjectStore } from "./store.js";
import { useWatched } from "./watch.js";

/** Larger texts are not opened in the editor, bytes. */
const TEXT_MAX = 4 << 20;

type Found = { kind: "text"; oid: string; text: string } | { kind: "odd"; oid: string; odd: Odd } | { kind: "none" };
type Opened = { kind: "text"; file: FileState } | Exclude<Found, { kind: "text" }>;

/** What the view has at a path. */
async function read({ at, project }: ProjectStore, path: string, signal: AbortSignal): Promise<Found> {
  try {
    const file = await project.files.read(path, { ...at, signal, range: { start: 0, end: TEXT_MAX } });
    const found = sniffed(file.bytes, file.size);
    return typeof found === "string" ? { kind: "text", oid: file.oid, text: found } : { kind: "odd", oid: file.oid, odd: found };
  } catch (error) {
    // An empty file has no bytes to take a range of.
    if (error instanceof TreeholdError && error.status === 416) {
      const { oid } = await project.files.read(path, { ...at, signal });
      return { kind: "text", oid, text: "" };
    }
    if (!(error instanceof TreeholdError) || error.status !== 404) throw error;
    return { kind: "none" };
  }
}

/** What an editor is to show: what the view has, or what was typed and is not saved. */
async function open(store: ProjectStore, path: string, signal: AbortSignal): Promise<Opened> {
  const { autosave } = store;
  await autosave.restore();
  for (;;) {
    const before = autosave.state(path)?.oid;
    const found = await read(store, path, signal);
    const now = autosave.state(path);
    // A save that was done meanwhile is newer than what was read.
    if (now?.oid !== before && !signal.aborted) continue;
    if (found.kind === "text") return { kind: "text", file: autosave.open(path, found) };
    return found.kind === "none" && now && now.text !== null && now.state !== "saved" ? { kind: "text", file: now } : found;
  }
}

/** What the view has at a path, what comes meanwhile, and the editor that shows it where it is text. */
function useOpened(store: ProjectStore, path: string) {
  const [opened, setOpened] = useState<Opened>();
  const [error, setError] = useState<unknown>();
  const host = useRef<HTMLDivElement>(null);
  const pane = useRef<Pane | undefined>(undefined);
  const controller = useRef(new AbortController());

  /** Shows what the view has now, unless something is typed that it does not have. */
  const load = async () => {
    const { signal } = controller.current;
    try {
      const kept = store.autosave.state(path);
      // What is typed meets what came by way of the save, which merges them or asks.
      if (pane.current && kept && kept.state !== "saved") return void (await store.autosave.flush());
      const now = await open(store, path, signal);
      if (signal.aborted) return;
      setError(undefined);
      if (now.kind === "text" && pane.current) pane.current.set(now.file.text ?? "");
      setOpened(now);
    } catch (failure) {
      if (!signal.aborted && !pane.current) setError(failure);
    }
  };

  useEffect(() => {
    controller.current = new AbortController();
    setOpened(undefined);
    void load();
    const ends = [
      store.onRemote((changed) => (changed === undefined || changed === path) && void load()),
      store.onMerged((merged) => merged.path === path && pane.current?.set(merged.text ?? "")),
    ];
    return () => {
      controller.current.abort();
      for (const end of ends) end();
      pane.current?.destroy();
      pane.current = undefined;
      void store.autosave.flush().then(() => store.autosave.close(path));
    };
  }, [path, store]);

  const isText = opened?.kind === "text";
  useEffect(() => {
    if (opened?.kind !== "text" || !host.current || pane.current) return;
    pane.current = openPane(host.current, {
      text: opened.file.text ?? "", path, label: path,
      onChange: (text) => store.autosave.change(path, text),
      onBlur: () => void store.autosave.flush(),
    });
    return () => {
      pane.current?.destroy();
      pane.current = undefined;
    };
  }, [isText, path, store]);
  return { opened, error, isText, host, pane, load };
}

/** One file in the editor. */
export function FileView({ store, path, line, onClose }: { store: ProjectStore; path: string; line: number | undefined; onClose: () => void }) {
  useWatched(store);
  const { opened, error, isText, host, pane, load } = useOpened(store, path);
  useEffect(() => void (isText && line !== undefined && pane.current?.go(line)), [isText, path, line]);

  const state = store.autosave.state(path);
  const conflict = state?.conflict;
  return (
    <section class="main" aria-label={path}>
      <header>
        <button class="back plain" onClick={onClose} aria-label="Back to the files">←</button>
        <h2 class="path grow clip" title={path}>{path}</h2>
        {isText && <SaveState state={state} online={store.online} />}
        <a class="small" href={store.place("log", path)}>History</a>
        {opened && opened.kind !== "none" && <Remove store={store} path={path} oid={opened.kind === "odd" ? opened.oid : undefined} onGone={onClose} onChanged={() => void load()} />}
      </header>
      {state?.state === "failed" && <div class="banner"><Failure error={state.error}>{state.kept && "What you typed is kept in this browser. "}<button class="plain" onClick={() => void store.autosave.retry()}>Try again</button></Failure></div>}
      {conflict && (
        <div class="scroll"><Sides title="Another device changed the same lines. Nothing is overwritten until you decide."
          path={path} drafts={store.drafts} between="device" sides={String(conflict.theirsOid)} base={conflict.base} ours={conflict.ours} theirs={conflict.theirs} text={conflict.ours ?? ""}
          onOurs={() => store.autosave.resolve(path, "ours")} onTheirs={() => store.autosave.resolve(path, "theirs")}
          onText={(text) => store.autosave.resolve(path, { text })} /></div>
      )}
      {error !== undefined && <div class="banner"><Failure error={error}><button class="plain" onClick={() => void load()}>Try again</button></Failure></div>}
      {!opened && error === undefined && <Waiting what="Opening" />}
      {opened?.kind === "none" && <Empty title="There is no file here">It was deleted or moved; its versions are under History.</Empty>}
      {opened?.kind === "odd" && <NotEdited store={store} path={path} odd={opened.odd} />}
      <div class="code" hidden={!isText || conflict !== undefined}><div ref={host} /></div>
    </section>
  );
}

const WORDS: Record<FileState["state"], [string, string]> = {
  saved: ["", "Saved"],
  waiting: ["", "Not saved yet"],
  saving: ["", "Saving"],
  offline: ["warn", "Offline: kept in this browser, and sent when the server is back"],
  conflict: ["bad", "Conflict: decide below"],
  failed: ["bad", "Refused"],
};

const UNKEPT = ["bad", "Offline, and not kept: leave this window open"];

function SaveState({ state, online }: { state: FileState | undefined; online: boolean }) {
  const [kind, words] = state?.state === "offline" && !state.kept ? UNKEPT : WORDS[state?.state ?? "saved"];
  return <span class={`save ${kind}`} role="status" data-state={state?.state ?? "saved"}><span class={`dot${online && kind === "" ? "" : " off"}`} aria-hidden="true" /><span class="clip">{words}</span></span>;
}

interface RemoveProps {
  store: ProjectStore;
  path: string;
  /** What is shown, where no editor shows it. */
  oid: string | undefined;
  onGone: () => void;
  /** It is not what is shown any more. */
  onChanged: () => void;
}

function Remove({ store, path, oid, onGone, onChanged }: RemoveProps) {
  const [sure, setSure] = useState(false);
  const [error, setError] = useState<unknown>();
  const remove = async () => {
    setSure(false);
    try {
      const before = store.autosave.state(path);
      await store.settle(path);
      const now = store.autosave.state(path);
      // What came while it was saved was not on the screen when it was decided.
      if (before?.text !== now?.text) throw new Error(CHANGED);
      const expected = oid ?? now?.oid;
      await store.workspace.delete(path, expected === undefined ? {} : { expected });
      store.tree.remove(path);
      onGone();
    } catch (failure) {
      if (foundInstead(failure) !== undefined) onChanged();
      setError(foundInstead(failure) === undefined ? failure : new Error(CHANGED));
    }
  };
  if (sure) return <span class="row"><button class="danger small" onClick={() => void remove()} autoFocus>Delete it</button><button class="plain small" onClick={() => setSure(false)}>Keep it</button></span>;
  return <>{error !== undefined && <Failure error={error} />}<button class="plain danger small" onClick={() => (setError(undefined), setSure(true))}>Delete</button></>;
}

const CHANGED = "Another device changed this file meanwhile. It was not deleted: look at what it is now";
