import { useState } from "preact/hooks";
import { newUuid } from "treehold";
import { Failure } from "./parts.js";
import { connect, savedPerson, signIn, UUID, type Person } from "./session.js";

/** Asks for the key and who is there. */
export function SignIn({ onSigned, why }: { onSigned: (key: string, person: Person) => void; why?: unknown }) {
  const saved = savedPerson();
  const [key, setKey] = useState("");
  const [person, setPerson] = useState(saved);
  const [error, setError] = useState<unknown>(why);
  const [busy, setBusy] = useState(false);
  const enter = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const user = person.user.trim().toLowerCase();
      if (!UUID.test(user)) throw new Error("The user must be a UUID, such as the one that was proposed.");
      await connect(key.trim()).projects({ limit: 1 }).page();
      const known = { ...person, user };
      signIn(key.trim(), known);
      onSigned(key.trim(), known);
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  const field = (name: keyof Person) => (event: Event) => setPerson({ ...person, [name]: (event.target as HTMLInputElement).value });
  return (
    <main class="sign scroll">
      <form class="card stack" onSubmit={enter}>
        <div class="brand"><img src="console/icon.svg" alt="" />Treehold</div>
        {error !== undefined && <Failure error={error} />}
        <label>
          <span>Key of this server</span>
          <input type="password" autoComplete="current-password" required value={key} onInput={(event) => setKey(event.currentTarget.value)} autoFocus />
        </label>
        <p class="small quiet">The operator has it; on the first start it is written to <code>api-key</code> in the data directory. It is kept until this tab is closed.</p>
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
        <button class="primary" disabled={busy || key.trim() === ""}><span class={busy ? "busy" : ""}>Sign in</span></button>
      </form>
    </main>
  );
}
