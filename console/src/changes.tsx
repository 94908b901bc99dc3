import { useState } from "preact/hooks";
import { newUuid, TreeholdError, type CommitAnswer, type StatusEntry, type SyncProgress } from "treehold";
import { bytes, Changed, count, Empty, Failure, Oid, Waiting } from "./parts.js";
import { PushState } from "./projects.js";
import type { ProjectStore } from "./store.js";
import { useAsked, useWatched } from "./watch.js";

/** What is pending, and where it goes. */
export function Changes({ store }: { store: ProjectStore }) {
  useWatched(store);
  const { status, project, person } = store;
  const revision = status?.revision;
  const { value: diff, error } = useAsked(
    async (signal) => (revision === undefined ? undefined : await project.diff({ user: person.user, ...store.on, signal }).page()), `${revision} ${status?.head}`,
  );
  const changes = new Map(status?.changes.map((change) => [change.path, change]));
  return (
    <main class="scroll" id="main" tabIndex={-1}>
      <div class="wide two-col">
        <div class="stack">
          <div class="row"><h1 class="grow">Changes</h1>{status && <span class="quiet small">on {status.branch}, over <Oid oid={status.head} /></span>}</div>
          {error !== undefined && <Failure error={error} />}
          {!status && <Waiting what="Asking the server" />}
          {status?.changes.length === 0 && <div class="card"><Empty title="Nothing is pending">What you edit is saved here by itself, for all your devices, until you commit it.</Empty></div>}
          {diff?.files.map((file, at) => <Changed key={file.path} file={file} open={at < 5}><State store={store} change={changes.get(file.path)} /></Changed>)}
          <Landed store={store} changes={status?.changes.filter((change) => change.in_head) ?? []} />
          {diff?.next_cursor && <p class="quiet small">There are more changes than are shown; a commit takes all of them.</p>}
        </div>
        <div class="stack">
          <CommitCard store={store} />
          <RemoteCard store={store} />
        </div>
      </div>
    </main>
  );
}

/** What the branch has already: no diff shows it. */
function Landed({ store, changes }: { store: ProjectStore; changes: StatusEntry[] }) {
  if (changes.length === 0) return null;
  return (
    <section class="card" aria-label="On the branch already">
      <header><h2>On the branch already</h2></header>
      <div class="body stack">
        <p class="small quiet">Somebody committed the same. There is nothing to commit of it, and it goes with your next commit.</p>
        {changes.slice(0, 100).map((change) => <div class="row" key={change.path}><code class="grow clip">{change.path}</code><State store={store} change={change} /></div>)}
        {changes.length > 100 && <p class="small quiet">And {count(changes.length - 100, "other")}.</p>}
      </div>
    </section>
  );
}

function State({ store, change }: { store: ProjectStore; change: StatusEntry | undefined }) {
  const [error, setError] = useState<unknown>();
  if (!change) return null;
  const discard = async (event: Event) => {
    event.preventDefault();
    await store.workspace.drop(change.path, { expected: change.oid }).catch(setError);
  };
  return (
    <>
      {change.state === "conflict" && <a class="tag bad" href={store.place("conflicts")}>conflict</a>}
      {change.state === "outdated" && <span class="tag warn" title="The branch moved; it merges by itself">merges</span>}
      {change.others && <span class="tag warn" title={change.others.join(", ")}>{count(change.others.length, "other")} at it</span>}
      <button class="plain small" onClick={(event) => void discard(event)} title="The version stays in local history">Discard</button>
      {error !== undefined && <Failure error={error} />}
    </>
  );
}

function CommitCard({ store }: { store: ProjectStore }) {
  const { person, status, workspace } = store;
  const [message, setMessage] = useState("");
  const [push, setPush] = useState(true);
  const [token, setToken] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const [done, setDone] = useState<CommitAnswer>();
  const changes = status?.changes.length ?? 0;
  // What ends by itself does not leave for the remote.
  const pushes = store.view.remote !== null && !store.ephemeral;
  const commit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    setDone(undefined);
    try {
      const unsaved = await store.autosave.flush();
      if (unsaved.length > 0) throw new Error(`${count(unsaved.length, "file")} could not be saved yet: ${unsaved.map((file) => file.path).join(", ")}`);
      const author = { name: person.name, email: person.email };
      const request = { message, author, trailers: false, ...(pushes ? { push } : {}) };
      setDone(await workspace.commit(request, { idempotencyKey: newUuid(), ...(token ? { remoteToken: token } : {}) }));
      setMessage((now) => (now === message ? "" : now));
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
    void store.refresh();
  };
  const isConflict = error instanceof TreeholdError && error.code === "conflict";
  return (
    <form class="card" onSubmit={commit}>
      <header><h2>Commit</h2></header>
      <div class="body stack">
        {error !== undefined && <Failure error={error}>{isConflict && <a href={store.place("conflicts")}>Resolve it</a>}</Failure>}
        {done && <div class="note good" role="status">Committed as <Oid oid={done.commit} />, {count(done.files.length, "file")}{done.pushed ? ", and pushed" : ""}.</div>}
        <label><span>Message</span><textarea value={message} onInput={(event) => setMessage(event.currentTarget.value)} required placeholder="What it does" /></label>
        {(!person.name || !person.email) && <p class="small quiet">Sign in anew with a name and e-mail address, which a commit needs.</p>}
        {pushes && <label class="row"><input type="checkbox" checked={push} onChange={(event) => setPush(event.currentTarget.checked)} /> and push</label>}
        {pushes && push && <label><span>Token for the remote, if it needs one</span><input type="password" autoComplete="off" value={token} onInput={(event) => setToken(event.currentTarget.value)} /></label>}
        <button class="primary" disabled={busy || changes === 0 || message.trim() === ""}><span class={busy ? "busy" : ""}>Commit {changes > 0 ? count(changes, "file") : ""}</span></button>
      </div>
    </form>
  );
}

function RemoteCard({ store }: { store: ProjectStore }) {
  const { status, view, project } = store;
  const [token, setToken] = useState("");
  const [step, setStep] = useState<SyncProgress>();
  const [busy, setBusy] = useState("");
  const [told, setTold] = useState("");
  const [error, setError] = useState<unknown>();
  if (!view.remote) return null;
  const call = token ? { remoteToken: token } : {};
  const act = async (name: string, work: () => Promise<string>) => {
    setBusy(name);
    setError(undefined);
    setTold("");
    try {
      setTold(await work());
    } catch (failure) {
      setError(failure);
    }
    setBusy("");
    setStep(undefined);
    void store.refresh();
  };
  const pull = (merge = false) => act("pull", async () => {
    const pulled = await project.sync({ ...store.on, ...(merge ? { on_conflict: "merge" as const } : {}) }, { ...call, onProgress: setStep });
    if (pulled.from === pulled.to) return "Nothing new.";
    const touched = pulled.pending.filter((one) => one.user === store.person.user && one.state === "conflict").length;
    return `${count(pulled.changed_count, "file")} changed, ${bytes(pulled.bytes)} received${touched > 0 ? `; ${count(touched, "of your edits conflicts", "of your edits conflict")}` : ""}.`;
  });
  const push = () => act("push", async () => {
    const pushed = await project.push({ ...call, ...store.on });
    return pushed.pushed ? `${count(pushed.commits, "commit")} sent.` : "The remote has everything.";
  });
  const diverged = error instanceof TreeholdError && error.code === "diverged";
  return (
    <section class="card" aria-label="Remote">
      <header><h2 class="grow">Remote</h2><PushState project={view} status={status} /></header>
      <div class="body stack">
        <p class="small quiet clip" title={view.remote.url}>{view.remote.url}</p>
        {error !== undefined && <Failure error={error}>{diverged && <button class="plain" onClick={() => void pull(true)}>Pull, and merge both</button>}</Failure>}
        {store.ephemeral && <p class="small">This branch ends by itself, and is not pushed until it is kept: see the list of branches.</p>}
        {told && <div class="note good" role="status">{told}</div>}
        {step && <label class="small"><span>{step.step}{step.total ? `, ${step.done} of ${step.total}` : ""}</span><progress {...(step.total ? { value: step.done, max: step.total } : {})} /></label>}
        <label><span>Token, if it needs one</span><input type="password" autoComplete="off" value={token} onInput={(event) => setToken(event.currentTarget.value)} /></label>
        <div class="row">
          <button disabled={busy !== ""} onClick={() => void pull()}><span class={busy === "pull" ? "busy" : ""}>Pull</span></button>
          {(status?.ahead ?? 0) > 0 && !store.ephemeral && <button disabled={busy !== ""} onClick={() => void push()}><span class={busy === "push" ? "busy" : ""}>Push {count(status?.ahead ?? 0, "commit")}</span></button>}
        </div>
      </div>
    </section>
  );
}
