import type { FileState } from "treehold";
import { give } from "./odd.js";
import type { ProjectStore } from "./store.js";
import { useWatched } from "./watch.js";

/** What is typed and not saved, the file in the editor aside: that says it itself. */
export function Unsaved({ store, open }: { store: ProjectStore; open: string | undefined }) {
  useWatched(store);
  const files = store.autosave.states().filter(({ path }) => path !== open);
  const refused = files.filter(({ state }) => state === "failed");
  const conflicts = files.filter(({ state }) => state === "conflict");
  return (
    <>
      <Unkept store={store} />
      {refused.length > 0 && (
        <div class="banner"><div class="note bad" role="alert">
          The server refused what was typed{refused.every(({ kept }) => kept) && ", and this browser keeps it"}: <Links store={store} files={refused} />
        </div></div>
      )}
      {conflicts.length > 0 && (
        <div class="banner"><div class="note warn" role="alert">
          Another device changed the same lines, and nothing is overwritten until you decide: <Links store={store} files={conflicts} />
        </div></div>
      )}
    </>
  );
}

function Links({ store, files }: { store: ProjectStore; files: FileState[] }) {
  return <>{files.map(({ path }, index) => <>{index > 0 && ", "}<a href={store.place("files", path)}>{path}</a></>)}</>;
}

/** What only this window has: the browser has no room for it. What is about to be saved is not told. */
function Unkept({ store }: { store: ProjectStore }) {
  const files = store.autosave.states().filter(({ kept, state }) => !kept && state !== "waiting" && state !== "saving");
  const drafts = store.drafts.all().filter(({ kept }) => !kept);
  const texts = [...files.map(({ path, text }) => ({ path, text })), ...drafts.map(({ path, draft }) => ({ path, text: draft.text }))];
  if (texts.length === 0) return null;
  return (
    <div class="banner"><div class="note bad" role="alert">
      This browser has no room for what you typed. It is not kept: leave this window open until it is saved.{" "}
      {texts.map(({ path, text }) => text !== null && <button class="plain" onClick={() => giveText(text, path)}>Download {path}</button>)}
    </div></div>
  );
}

export function giveText(text: string, path: string): void {
  give(new TextEncoder().encode(text), path.slice(path.lastIndexOf("/") + 1));
}
