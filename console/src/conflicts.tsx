import { useState } from "preact/hooks";
import type { ConflictFile, MergeSide, ResolveFile } from "treehold";
import { Empty, Failure, Waiting } from "./parts.js";
import { Sides } from "./sides.js";
import type { ProjectStore } from "./store.js";
import { giveText } from "./unsaved.js";
import { useAsked, useWatched } from "./watch.js";

/** What stands between pending work and the branch. */
export function Conflicts({ store }: { store: ProjectStore }) {
  useWatched(store);
  const [against, setAgainst] = useState<"head" | "remote">("head");
  const { workspace, status } = store;
  const { value: page, error, again } = useAsked(
    (signal) => workspace.conflicts({ against, limit: 50, signal }).page(), `${against} ${status?.revision} ${status?.head} ${status?.remote_head}`,
  );
  return (
    <main class="scroll" id="main" tabIndex={-1}>
      <div class="wide stack">
        <div class="row">
          <h1 class="grow">Conflicts</h1>
          {store.view.remote && (
            <label class="row"><span class="quiet">Against</span>
              <select value={against} onChange={(event) => setAgainst(event.currentTarget.value as "head" | "remote")}>
                <option value="head">the branch</option><option value="remote">what a pull would bring</option>
              </select>
            </label>
          )}
        </div>
        {error !== undefined && <Failure error={error}><button class="plain" onClick={again}>Try again</button></Failure>}
        {!page && error === undefined && <Waiting what="Comparing" />}
        {page?.files.length === 0 && <div class="card"><Empty title="No conflicts">All pending work fits {against === "head" ? "the branch" : "what a pull would bring"}.</Empty></div>}
        {page?.files.map((file) => <One key={file.path_b64 ?? file.path} store={store} file={file} settable={against === "head"} onDone={again} />)}
        {against === "head" && page?.next_cursor === null && <Left store={store} files={page.files} />}
        {page?.next_cursor && <p class="quiet small">More are shown as these are resolved.</p>}
      </div>
    </main>
  );
}

/** A text; `null` = no file; `undefined` = it cannot be shown. */
function text(side: MergeSide | null): string | null | undefined {
  return side === null ? null : side.encoding === "utf-8" ? side.content : undefined;
}

interface OneProps {
  store: ProjectStore;
  file: ConflictFile;
  settable: boolean;
  onDone: () => void;
}

function One({ store, file, settable, onDone }: OneProps) {
  const resolve = (how: Omit<ResolveFile, "path" | "theirs">) => async () => {
    if (!settable) throw new Error("Pull first; what comes is only shown here.");
    await store.workspace.resolve([{ path: file.path, theirs: file.theirs?.oid ?? null, ...how }]);
    onDone();
    void store.refresh();
  };
  const [base, ours, theirs] = [text(file.base), text(file.ours), text(file.theirs)];
  const title = file.state === "conflict" ? "You and the branch changed the same lines." : "The branch moved; this merges by itself.";
  const others = file.others.length > 0 ? ` ${file.others.length} more at this file.` : "";
  return (
    <article class="card">
      <header><h2 class="path grow clip">{file.path}</h2><span class={`tag ${file.state === "conflict" ? "bad" : "warn"}`}>{file.state}</span></header>
      {ours === undefined || theirs === undefined ? (
        <Unshown why={file.ours?.omitted ?? file.theirs?.omitted} onOurs={resolve({ take: "ours" })} onTheirs={resolve({ take: "theirs" })} />
      ) : (
        <Sides title={title + others} path={file.path} drafts={store.drafts} between="branch" sides={`${file.ours?.oid} ${file.theirs?.oid}`}
          base={base} ours={ours} theirs={theirs} text={file.merged?.content ?? ours ?? ""}
          onOurs={resolve({ take: "ours" })} onTheirs={resolve({ take: "theirs" })} onText={(content) => resolve({ take: "text", content })()} />
      )}
    </article>
  );
}

/** A conflict whose sides are not shown. */
function Unshown({ why, onOurs, onTheirs }: { why: string | undefined; onOurs: () => Promise<unknown>; onTheirs: () => Promise<unknown> }) {
  const [error, setError] = useState<unknown>();
  const act = (resolve: () => Promise<unknown>) => () => {
    setError(undefined);
    resolve().catch(setError);
  };
  return (
    <div class="body stack">
      <p>A side is binary or too large to be shown ({why}).</p>
      {error !== undefined && <Failure error={error} />}
      <div class="row"><button onClick={act(onOurs)}>Take mine</button><button onClick={act(onTheirs)}>Take theirs</button></div>
    </div>
  );
}

/** Results that were typed for conflicts which are none any more: they are nowhere else. */
function Left({ store, files }: { store: ProjectStore; files: ConflictFile[] }) {
  const settled = store.drafts.all().filter(({ between, path }) => (
    between === "branch" ? !files.some((file) => file.path === path) : ["saved", undefined].includes(store.autosave.state(path)?.state)
  ));
  return <>{settled.map(({ between, path, draft }) => (
    <article class="card" key={`${between} ${path}`} aria-label={`Left of ${path}`}>
      <header><h2 class="path grow clip">{path}</h2></header>
      <div class="body stack">
        <p>This conflict was settled elsewhere. The result that you typed was not taken, and is kept until you discard it.</p>
        <div class="row"><button onClick={() => giveText(draft.text, path)}>Download it</button><button class="danger" onClick={() => void store.drafts.drop(between, path)}>Discard it</button></div>
      </div>
    </article>
  ))}</>;
}
