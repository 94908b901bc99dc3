import { useEffect, useRef, useState } from "preact/hooks";
import { merge3 } from "treehold";
import type { Between, Drafts } from "./drafts.js";
import { changedLines, openPane, type Pane } from "./editor.js";
import { Failure } from "./parts.js";
import { useWatched } from "./watch.js";

export interface SidesProps {
  title: string;
  path: string;
  /** Where a result that is typed is kept until it is taken. */
  drafts: Drafts;
  between: Between;
  /** Names what the sides are. */
  sides: string;
  /** `undefined` = not known, `null` = no file. */
  base: string | null | undefined;
  ours: string | null;
  theirs: string | null;
  /** What the editor of the result has as long as nobody typed in it. */
  text: string;
  onOurs: () => Promise<unknown>;
  onTheirs: () => Promise<unknown>;
  onText: (text: string) => Promise<unknown>;
}

/** All sides of a conflict beside each other, and what becomes of it. */
export function Sides(props: SidesProps) {
  const { title, path, drafts, between, sides, base, ours, theirs, text, onOurs, onTheirs, onText } = props;
  useWatched(drafts);
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const result = useRef<Pane | undefined>(undefined);
  const host = useRef<HTMLDivElement>(null);
  const now = useRef(sides);
  now.current = sides;
  const draft = drafts.get(between, path);
  // It stays one of the sides that it began with.
  const keep = (text: string) => void drafts.keep(between, path, { text, sides: drafts.get(between, path)?.sides ?? now.current });
  useEffect(() => {
    result.current = openPane(host.current!, { text: draft?.text ?? text, path, label: "The result", onChange: keep });
    return () => result.current?.destroy();
  }, [drafts, between, path]);
  // What comes is shown, and overwrites nothing that was typed.
  useEffect(() => void (!drafts.get(between, path) && result.current?.set(text)), [text]);
  const begin = async (text: string) => {
    await drafts.drop(between, path);
    result.current?.set(text);
  };
  const act = (resolve: () => Promise<unknown>) => async () => {
    const [pane, taken] = [result.current, drafts.get(between, path)];
    setBusy(true);
    // What is typed meanwhile would be in no result.
    pane?.hold(true);
    try {
      await resolve();
      // A newer one is of the next conflict, which may have come already.
      if (drafts.get(between, path) === taken) await drafts.drop(between, path);
      setError(undefined);
    } catch (failure) {
      setError(failure);
    }
    if (pane === result.current) pane?.hold(false);
    setBusy(false);
  };
  const merged = typeof base === "string" && ours !== null && theirs !== null ? merge3(base, ours, theirs) : undefined;
  return (
    <section aria-label={`Conflict in ${path}`}>
      <div class="banner"><div class="note warn" role="alert">{title}</div></div>
      {draft && draft.sides !== sides && (
        <div class="banner"><div class="note warn" role="alert">
          What is in conflict has changed since you began the result, which is as you left it: compare it with both sides before you take it.{" "}
          <button class="plain" disabled={busy} onClick={() => void begin(text)}>Begin it anew</button>
        </div></div>
      )}
      {error !== undefined && <div class="banner"><Failure error={error} /></div>}
      <div class={base === undefined ? "sides two" : "sides"}>
        <Side name="Mine" path={path} text={ours} base={base} none="deletes the file"><button class="small" disabled={busy} onClick={act(onOurs)}>Take mine</button></Side>
        {base !== undefined && <Side name="Where it started" path={path} text={base} base={undefined} none="did not exist" />}
        <Side name="Theirs" path={path} text={theirs} base={base} none="no file"><button class="small" disabled={busy} onClick={act(onTheirs)}>Take theirs</button></Side>
      </div>
      <div class="merged">
        <header>
          <h3 class="grow">Result</h3>
          {merged !== undefined && <button class="small" disabled={busy} onClick={() => void begin(merged)}>Merge by lines</button>}
          <button class="primary small" disabled={busy} onClick={act(() => onText(result.current?.text() ?? ""))}><span class={busy ? "busy" : ""}>Take the result</span></button>
        </header>
        <div class="code"><div ref={host} /></div>
      </div>
    </section>
  );
}

interface SideProps {
  name: string;
  path: string;
  text: string | null;
  base: string | null | undefined;
  none: string;
  children?: preact.ComponentChildren;
}

function Side({ name, path, text, base, none, children }: SideProps) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (text === null || !host.current) return;
    const pane = openPane(host.current, { text, path, label: name, readOnly: true, marked: changedLines(base, text) });
    return () => pane.destroy();
  }, [text, base]);
  return (
    <section>
      <header><h3 class="grow">{name}</h3>{children}</header>
      {text === null ? <p class="empty small">{none}</p> : <div class="code"><div ref={host} /></div>}
    </section>
  );
}
