import { useState } from "preact/hooks";
import type { ConflictFile, MergeSide, ResolveFile } from "treehold";
import { Empty, Failure, Waiting } from "./parts.js";
import { Sides } from "./sides.js";
import type { ProjectStore } from "./store.js";
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
        {page?.files.map((file) => <One key={`${file.path} ${file.ours?.oid} ${file.theirs?.oid}`} store={store} file={file} settable={against === "head"} onDone={again} />)}
        {page?.next_cursor && <p class="quiet small">More are shown as these are resolved.</p>}
      </div>
    </main>
  );
}

/** A text; `null` = no file; `undefined` = it cannot be shown. */
function text(side: MergeSide | null): string | null | undefined {
  return side === null ? null : side.encoding === "utf-8" ? side.content : undefined;
}

function One({ store, file, settable, onDone }: { store: ProjectStore; file: ConflictFile; settable: boolean; onDone: () => void }) {
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
        <div class="body stack">
          <p>A side is binary or too large to be shown ({file.ours?.omitted ?? file.theirs?.omitted}).</p>
          <div class="row"><button onClick={() => void resolve({ take: "ours" })()}>Take mine</button><button onClick={() => void resolve({ take: "theirs" })()}>Take theirs</button></div>
        </div>
      ) : (
        <Sides title={title + others} path={file.path} base={base} ours={ours} theirs={theirs} text={file.merged?.content ?? ours ?? ""}
          onOurs={resolve({ take: "ours" })} onTheirs={resolve({ take: "theirs" })} onText={(content) => resolve({ take: "text", content })()} />
      )}
    </article>
  );
}
