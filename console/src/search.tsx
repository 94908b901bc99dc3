import { useEffect, useRef, useState } from "preact/hooks";
import type { Excerpt, Found } from "treehold";
import { count, Empty, Failure } from "./parts.js";
import { MATCHES_MAX, type FoundFile, type Search, type Wanted } from "./searching.js";
import type { ProjectStore } from "./store.js";
import { useWatched } from "./watch.js";

/** What is in the files of the view. */
export function SearchView({ store }: { store: ProjectStore }) {
  const { search } = store;
  useWatched(search);
  const [wanted, setWanted] = useState<Wanted>(search.wanted);
  const query = useRef<HTMLInputElement>(null);
  useEffect(() => query.current?.focus(), []);
  const set = (more: Partial<Wanted>) => setWanted({ ...wanted, ...more });
  const begin = (event: Event) => {
    event.preventDefault();
    if (wanted.query !== "") void search.start(wanted);
  };
  return (
    <main class="scroll" id="main" tabIndex={-1}>
      <div class="wide stack">
        <h1>Search</h1>
        <form class="card" role="search" onSubmit={begin}>
          <div class="body stack">
            <div class="row">
              <input class="grow mono" type="search" ref={query} aria-label="Look for" placeholder={wanted.regex ? "fn \\w+_ready" : "Text in the files"} value={wanted.query}
                onInput={(event) => set({ query: event.currentTarget.value })} spellcheck={false} autoComplete="off" />
              <button class="primary" disabled={wanted.query === ""}>Search</button>
              {search.state === "running" && <button type="button" onClick={() => search.stop()}>Stop</button>}
            </div>
            <div class="row options">
              <label class="row"><input type="checkbox" checked={wanted.regex} onChange={(event) => set({ regex: event.currentTarget.checked })} /> regular expression</label>
              <label class="row"><input type="checkbox" checked={wanted.word} onChange={(event) => set({ word: event.currentTarget.checked })} /> whole words</label>
              <label class="row"><span>Case</span>
                <select value={wanted.case} onChange={(event) => set({ case: event.currentTarget.value as Wanted["case"] })}>
                  <option value="smart">counts if capitals are typed</option><option value="sensitive">counts</option><option value="insensitive">does not count</option>
                </select>
              </label>
              <label class="row"><span>Lines around</span>
                <select value={wanted.context} onChange={(event) => set({ context: Number(event.currentTarget.value) })}>
                  {[0, 1, 2, 3, 5, 10].map((lines) => <option key={lines} value={lines}>{lines}</option>)}
                </select>
              </label>
            </div>
            <label><span>Only in, or not in</span><input class="mono" value={wanted.globs} onInput={(event) => set({ globs: event.currentTarget.value })} placeholder="*.rs !tests/" spellcheck={false} /></label>
          </div>
        </form>
        {search.error !== undefined && <Failure error={search.error} />}
        {search.state !== "" && <p class="small quiet" role="status">{told(search)}</p>}
        {search.state === "done" && search.matches === 0 && <div class="card"><Empty title="Nothing was found">No file of {store.branch} has this in it.</Empty></div>}
        {search.files.map((file) => <InFile key={file.path} store={store} file={file} hits={file.hits.length} />)}
      </div>
    </main>
  );
}

function told({ state, matches, files, searched }: Search): string {
  const found = `${count(matches, "match", "matches")} in ${count(files.length, "file")}`;
  if (state === "running") return `Searching: ${found} so far`;
  if (state === "full") return `The first ${MATCHES_MAX.toLocaleString("en")} matches; look for something rarer, or in fewer files`;
  const left = [searched.binary > 0 && `${searched.binary} binary`, searched.large > 0 && `${searched.large} too large`].filter(Boolean).join(", ");
  return `${state === "stopped" ? "Stopped: " : ""}${found}${state === "done" ? `, of ${searched.files.toLocaleString("en")} searched${left ? ` (not in ${left})` : ""}` : ""}`;
}

function InFile({ store, file, hits }: { store: ProjectStore; file: FoundFile; hits: number }) {
  return (
    <section class="card found" aria-label={file.path}>
      <header>
        {file.odd ? <span class="path grow clip">{file.path}</span> : <a class="path grow clip" href={store.place("files", file.path)}>{file.path}</a>}
        {file.pending && <span class="tag">pending</span>}
        <span class="small quiet">{hits}</span>
      </header>
      <ol>{file.hits.map((hit) => <Hit key={`${hit.line} ${hit.column}`} hit={hit} to={file.odd ? undefined : store.place("files", file.path, hit.line)} />)}</ol>
    </section>
  );
}

function Hit({ hit, to }: { hit: Found; to: string | undefined }) {
  return (
    <li>
      <a {...(to ? { href: to } : {})}>
        {hit.before?.map((line) => <Line number={line.line} text={shown(line)} />)}
        <span class="line hit"><span class="no">{hit.line}</span><span>{pieces(hit)}</span></span>
        {hit.after?.map((line) => <Line number={line.line} text={shown(line)} />)}
      </a>
    </li>
  );
}

function Line({ number, text }: { number: number; text: string }) {
  return <span class="line"><span class="no">{number}</span><span>{text}</span></span>;
}

function bytesOf(excerpt: Partial<Excerpt>): Uint8Array {
  const { text = "", encoding } = excerpt;
  return encoding === "base64" ? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)) : new TextEncoder().encode(text);
}

function shown(excerpt: Partial<Excerpt>): string {
  return excerpt.encoding === "base64" ? new TextDecoder().decode(bytesOf(excerpt)) : (excerpt.text ?? "");
}

/** The line, with what matches standing out: its places count bytes. */
function pieces(hit: Found) {
  const bytes = bytesOf(hit);
  const text = (from: number, to: number) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(from, to));
  let at = 0;
  const parts = hit.submatches?.flatMap(({ start, end }) => {
    const both = [text(at, start), <mark>{text(start, end)}</mark>];
    at = end;
    return both;
  });
  return <>{hit.truncated && (hit.text_start ?? 0) > 0 && "…"}{parts}{text(at, bytes.length)}{hit.truncated && "…"}</>;
}
