import { useState } from "preact/hooks";
import { newUuid, TreeholdError, type Treehold } from "treehold";
import { Failure } from "./parts.js";
import { placeOf, readPlace } from "./place.js";
import { connect, savedPerson, signIn, UUID, type Person } from "./session.js";

/** Whether a refusal is that of a credential which opens something, but not all projects: a token, or a key that has not all scopes. */
function opensLess(error: unknown): boolean {
  return error instanceof TreeholdError && (error.code === "key_required" || error.code === "scope_missing");
}

/** The id of a project that a credential opens, for a user: whose pending work it may not see gets the server's sentence. */
async function entered(treehold: Treehold, name: string, user: string): Promise<string> {
  const { id } = await treehold.showProject(name);
  await treehold.project(id).workspace({ user }).list({ limit: 1 }).page();
  return id;
}

/** The project that the page's place is in. */
function linked(): string | undefined {
  const [place, project] = readPlace(location.hash).parts;
  return place === "p" ? project : undefined;
}

interface SignInProps {
  onSigned: (key: string, person: Person) => void;
  why?: unknown;
}

/** What is typed, and how one enters with it. */
function useEntry({ onSigned, why }: SignInProps) {
  const [key, setKey] = useState("");
  const [person, setPerson] = useState(savedPerson);
  const [error, setError] = useState<unknown>(why);
  const [busy, setBusy] = useState(false);
  /** `undefined` = it is not known yet that the credential opens less than everything. */
  const [project, setProject] = useState<string>();
  const enter = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const user = person.user.trim().toLowerCase();
      if (!UUID.test(user)) throw new Error("The user must be a UUID, such as the one that was proposed.");
      const treehold = connect(key.trim());
      let only: string | undefined;
      if (project === undefined) await treehold.projects({ limit: 1 }).page();
      else only = await entered(treehold, project.trim(), user);
      const known = { ...person, user };
      signIn(key.trim(), known, only);
      // A link to somewhere in it goes on to there.
      if (only !== undefined && linked() !== project?.trim()) location.hash = placeOf(only, "files");
      onSigned(key.trim(), known);
    } catch (failure) {
      if (project === undefined && opensLess(failure)) {
        // A link names it, perhaps.
        setProject(linked() ?? "");
        setError(undefined);
      } else setError(failure);
      setBusy(false);
    }
  };
  return { key, setKey, person, setPerson, project, setProject, error, busy, enter };
}

/** Asks for the key and who is there; of what opens one project, as a token does, for the project too. */
export function SignIn(props: SignInProps) {
  const { key, setKey, person, setPerson, project, setProject, error, busy, enter } = useEntry(props);
  const field = (name: keyof Person) => (event: Event) => setPerson({ ...person, [name]: (event.target as HTMLInputElement).value });
  return (
    <main class="sign scroll">
      <form class="card stack" onSubmit={enter}>
        <div class="brand"><img src="console/icon.svg" alt="" />Treehold</div>
        {error !== undefined && <Failure error={error} />}
        <label>
          <span>Key of this server, or a token</span>
          <input type="password" autoComplete="current-password" required value={key} autoFocus onInput={(event) => {
            setKey(event.currentTarget.value);
            setProject(undefined);
          }} />
        </label>
        {project !== undefined && (
          <label>
            <span>Project</span>
            <input class="mono" required value={project} onInput={(event) => setProject(event.currentTarget.value)} spellcheck={false} aria-describedby="project-says" ref={focusOnce} />
          </label>
        )}
        {project !== undefined
          ? <p class="small quiet" id="project-says" role="status">This opens one project, or a part of all: name the one to open. A token of one user takes that user's id below.</p>
          : <p class="small quiet">The operator has it; on the first start it is written to <code>api-key</code> in the data directory. It is kept until this tab is closed.</p>}
        <div class="pair">
          <label><span>Name, for commits</span><input autoComplete="name" value={person.name} onInput={field("name")} placeholder="Ann" /></label>
          <label><span>E-mail</span><input type="email" autoComplete="email" value={person.email} onInput={field("email")} placeholder="ann@example.org" /></label>
        </div>
        <label>
          <span>User</span>
          <input class="mono" required value={person.user} onInput={field("user")} spellcheck={false} aria-describedby="user-says" />
        </label>
        <p class="small quiet" id="user-says">
          Uncommitted work belongs to a user. Give the same id on all your devices, and edits cross.{" "}
          <button type="button" class="plain small" onClick={() => setPerson({ ...person, user: newUuid() })}>Another one</button>
        </p>
        <button class="primary" disabled={busy || key.trim() === "" || project?.trim() === ""}><span class={busy ? "busy" : ""}>Sign in</span></button>
      </form>
    </main>
  );
}

/** It appears where somebody waits to go on. */
function focusOnce(input: HTMLInputElement | null): void {
  input?.focus();
}
