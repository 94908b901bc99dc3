import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { RefView } from "treehold";
import { placeOf } from "./place.js";
import { count, Dialog, Failure, Oid, Waiting, When } from "./parts.js";
import type { ProjectStore } from "./store.js";
import { useAsked } from "./watch.js";

const HEADS = "refs/heads/";
const NONE = "0".repeat(40);
/** Branches that are listed at once; more are found by their name. */
const SHOWN_MAX = 200;
const ASKED_MAX = 10_000;

/** An input with a list below it, which its keys walk. */
const COMBOBOX = { role: "combobox", "aria-expanded": "true", "aria-controls": "branches" } as object;

interface Branch extends RefView {
  short: string;
}

/** A branch was chosen, and is not shown yet. */
let chosen = false;

/** Which branch is shown, and the way to another one. */
export function BranchButton({ store, tab, path }: { store: ProjectStore; tab: string; path: string | undefined }) {
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  // The keys go on from here, on the page of the branch that was chosen.
  useEffect(() => {
    if (chosen) button.current?.focus();
    chosen = false;
  }, []);
  const go = (branch: string) => {
    chosen = branch !== store.branch;
    setOpen(false);
    button.current?.focus();
    location.hash = placeOf(store.view.id, tab, { path, branch: branch === store.view.default_branch ? undefined : branch });
  };
  return (
    <>
      <button class="branch" ref={button} aria-haspopup="dialog" aria-label={`Branch ${store.branch}${store.ephemeral ? ", which ends by itself" : ""}`} onClick={() => setOpen(true)}>
        <span class="clip">{store.branch}</span>{store.ephemeral && <span class="tag warn">ends</span>}<span aria-hidden="true">▾</span>
      </button>
      {open && <Dialog title="Branches" onClose={() => setOpen(false)}><Picker store={store} onChoose={go} /></Dialog>}
    </>
  );
}

function Picker({ store, onChoose }: { store: ProjectStore; onChoose: (branch: string) => void }) {
  const { value, error, again } = useAsked((signal) => store.project.refs({ prefix: HEADS, limit: ASKED_MAX, signal }).page(), store.view.id);
  const [filter, setFilter] = useState("");
  const [at, setAt] = useState(0);
  const all = useMemo(() => (value ? ordered(value.refs, store.view.default_branch) : []), [value]);
  const found = useMemo(() => all.filter((branch) => branch.short.toLowerCase().includes(filter.toLowerCase())), [all, filter]);
  const shown = found.slice(0, SHOWN_MAX);
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => list.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" }), [at, shown.length]);
  const key = (event: KeyboardEvent) => {
    const steps: Record<string, () => void> = {
      ArrowDown: () => setAt(Math.min(at + 1, shown.length - 1)), ArrowUp: () => setAt(Math.max(at - 1, 0)),
      Enter: () => shown[at] && onChoose(shown[at].short),
    };
    if (!steps[event.key]) return;
    event.preventDefault();
    steps[event.key]!();
  };
  return (
    <div class="stack">
      {error !== undefined && <Failure error={error}><button class="plain" onClick={again}>Try again</button></Failure>}
      <input type="search" {...COMBOBOX} aria-label="Find a branch" placeholder="Find a branch" autoFocus
        aria-activedescendant={shown[at] ? `branch-${at}` : undefined} value={filter} onKeyDown={key}
        onInput={(event) => (setFilter(event.currentTarget.value), setAt(0))} />
      {!value && error === undefined && <Waiting what="Asking the server" />}
      <ul id="branches" role="listbox" aria-label="Branches" class="branches" ref={list}>
        {shown.map((branch, index) => (
          <li key={branch.name} id={`branch-${index}`} role="option" aria-selected={index === at} onClick={() => onChoose(branch.short)}>
            <span class="grow clip">{branch.short}</span>
            {branch.short === store.branch && <span class="tag good">shown</span>}
            {branch.short === store.view.default_branch && <span class="tag">default</span>}
            {branch.expires_at && <span class="tag warn">ends <When at={branch.expires_at} /></span>}
            <Oid oid={branch.oid} />
          </li>
        ))}
      </ul>
      {value && found.length === 0 && <p class="small quiet">{all.length === 0 ? "There is no branch yet: the first commit begins one." : "No branch has this in its name."}</p>}
      {found.length > shown.length && <p class="small quiet">And {count(found.length - shown.length, "more", "more")}; type a part of the name.</p>}
      {value?.next_cursor && <p class="small quiet">There are more branches than are listed here; those are opened by their link.</p>}
      {store.ephemeral && <Promote store={store} branches={all} onDone={onChoose} />}
      <NewBranch store={store} onMade={onChoose} />
    </div>
  );
}

/** The default one first. */
function ordered(refs: RefView[], first: string): Branch[] {
  const branches = refs.map((ref) => ({ ...ref, short: ref.name.slice(HEADS.length) }));
  return [...branches.filter(({ short }) => short === first), ...branches.filter(({ short }) => short !== first)];
}

function NewBranch({ store, onMade }: { store: ProjectStore; onMade: (branch: string) => void }) {
  const [name, setName] = useState("");
  const [ends, setEnds] = useState(false);
  const [error, setError] = useState<unknown>();
  const head = store.status?.head;
  const make = async (event: Event) => {
    event.preventDefault();
    try {
      if (!head) throw new Error("There is no commit yet to begin a branch from.");
      await store.project.writeRef(`heads/${name}`, { oid: head, expected_oid: NONE, ...(ends ? { ephemeral: true } : {}) });
      onMade(name);
    } catch (failure) {
      setError(failure);
    }
  };
  return (
    <details class="file">
      <summary>New branch from here</summary>
      <form class="body stack" onSubmit={make}>
        {error !== undefined && <Failure error={error} />}
        <label><span>Name</span><input class="mono" value={name} onInput={(event) => setName(event.currentTarget.value)} required spellcheck={false} placeholder="try/another-way" /></label>
        <label class="row"><input type="checkbox" checked={ends} onChange={(event) => setEnds(event.currentTarget.checked)} /> ends by itself, a week after its last commit</label>
        <p class="small quiet">It begins at <Oid oid={head} />, where {store.branch} is. Uncommitted work stays on {store.branch}.</p>
        <div class="row"><button class="primary">Make it</button></div>
      </form>
    </details>
  );
}

function Promote({ store, branches, onDone }: { store: ProjectStore; branches: Branch[]; onDone: (branch: string) => void }) {
  const others = branches.filter((branch) => branch.short !== store.branch && !branch.expires_at);
  const [into, setInto] = useState("");
  const [error, setError] = useState<unknown>();
  const act = async (target: string) => {
    try {
      await store.project.promote({ branch: store.branch, ...(target ? { into: target } : {}) });
      void store.refresh();
      onDone(target || store.branch);
    } catch (failure) {
      setError(failure);
    }
  };
  const chosen = into || others[0]?.short || "";
  return (
    <section class="note warn stack" aria-label="Keep it">
      <p>{store.branch} ends by itself {store.ref?.expires_at && <When at={store.ref.expires_at} />}, and is not pushed until it is kept.</p>
      {error !== undefined && <Failure error={error} />}
      <div class="row"><button onClick={() => void act("")}>Keep {store.branch}</button></div>
      {others.length > 0 && (
        <div class="row">
          <button onClick={() => void act(chosen)}>Take it over into</button>
          <select class="grow" aria-label="Branch that takes it over" value={chosen} onChange={(event) => setInto(event.currentTarget.value)}>
            {others.map((branch) => <option key={branch.name} value={branch.short}>{branch.short}</option>)}
          </select>
        </div>
      )}
    </section>
  );
}

/** A way back from a branch that is not there. */
export function GoneBranch({ store }: { store: ProjectStore }) {
  return (
    <div class="banner"><div class="note bad" role="alert">
      There is no branch {store.branch}{store.status ? " any more" : ""}. {store.unsaved > 0 && store.kept && "What you typed is kept in this browser. "}
      <a href={placeOf(store.view.id, "files")}>Go to {store.view.default_branch}</a>
    </div></div>
  );
}

/** Where something waits to be saved. */
export function LeftBehind({ store }: { store: ProjectStore }) {
  return (
    <div class="banner"><div class="note warn" role="status">
      Something that was typed is not saved yet on{" "}
      {store.left.map((branch, index) => (
        <>{index > 0 && ", "}<a href={placeOf(store.view.id, "files", { branch })}>{branch ?? store.view.default_branch}</a></>
      ))}: open it, and it is, or you are asked.
    </div></div>
  );
}
