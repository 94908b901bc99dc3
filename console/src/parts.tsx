import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { TreeholdError, type DiffFile } from "treehold";

/** What went wrong, in the server's sentence. */
export function Failure({ error, children }: { error: unknown; children?: ComponentChildren }) {
  return <div class="note bad" role="alert">{sentence(error)} {children}</div>;
}

export function sentence(error: unknown): string {
  const text = error instanceof TreeholdError ? error.detail : error instanceof Error ? error.message : String(error);
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return <div class="empty"><h2>{title}</h2><p>{children}</p></div>;
}

export function Waiting({ what }: { what: string }) {
  return <div class="empty" role="status"><span class="busy">{what}</span></div>;
}

export function Oid({ oid }: { oid: string | null | undefined }) {
  return oid ? <code title={oid}>{oid.slice(0, 8)}</code> : <span class="quiet">none</span>;
}

const units: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_536_000], ["month", 2_592_000], ["day", 86_400], ["hour", 3_600], ["minute", 60],
];

export function When({ at }: { at: string }) {
  const time = Date.parse(at);
  if (Number.isNaN(time)) return <span>{at}</span>;
  const ago = (Date.now() - time) / 1000;
  const unit = units.find(([, seconds]) => Math.abs(ago) >= seconds);
  const format = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const text = unit ? format.format(-Math.trunc(ago / unit[1]), unit[0]) : "just now";
  return <time dateTime={at} title={new Date(time).toLocaleString()}>{text}</time>;
}

export function bytes(size: number): string {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; size >= 1024 && at < names.length - 1; at++) size /= 1024;
  return `${at === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${names[at]}`;
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** A dialog over the page; Escape closes it. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="card" aria-label={title} onClose={onClose}>
      <header><h2 class="grow">{title}</h2><button class="plain small" aria-label="Close" onClick={() => dialog.current?.close()}>✕</button></header>
      <div class="body">{children}</div>
    </dialog>
  );
}

/** Lines of a patch beyond which only a part is drawn. */
const DIFF_LINES_MAX = 2_000;

interface DiffLine {
  kind: "add" | "del" | "hunk" | "same";
  old: number | undefined;
  now: number | undefined;
  text: string;
}

function diffLines(patch: string): DiffLine[] {
  const lines: DiffLine[] = [];
  let [old, now] = [0, 0];
  for (const text of patch.split("\n").slice(0, DIFF_LINES_MAX)) {
    const hunk = /^@@ -(\d+)(?:,\d+)? \+(\d+)/.exec(text);
    if (hunk) {
      [old, now] = [Number(hunk[1]), Number(hunk[2])];
      lines.push({ kind: "hunk", old: undefined, now: undefined, text });
    } else if (text.startsWith("+")) lines.push({ kind: "add", old: undefined, now: now++, text });
    else if (text.startsWith("-")) lines.push({ kind: "del", old: old++, now: undefined, text });
    else if (text.startsWith(" ")) lines.push({ kind: "same", old: old++, now: now++, text });
    else if (text.startsWith("\\")) lines.push({ kind: "hunk", old: undefined, now: undefined, text: text.slice(2) });
  }
  return lines;
}

export function Patch({ file }: { file: DiffFile }) {
  if (file.binary) return <p class="body quiet">A binary file; its lines are not compared.</p>;
  if (!file.patch) return <p class="body quiet">{file.old_mode !== file.new_mode ? "Only its mode changed." : "Its content is the same."}</p>;
  const lines = diffLines(file.patch);
  const width = Math.max(3, ...lines.map((line) => String(line.old ?? line.now ?? "").length));
  const number = (value: number | undefined) => String(value ?? "").padStart(width);
  return (
    <div class="diff" tabIndex={0} role="region" aria-label={`What changed in ${file.path}`}>
      <ol>
        {lines.map((line) => <li class={line.kind} data-old={number(line.old)} data-new={number(line.now)}>{line.text || " "}</li>)}
      </ol>
      {file.patch.length > 0 && lines.length >= DIFF_LINES_MAX && <p class="quiet small">The rest of this difference is not shown.</p>}
    </div>
  );
}

export function Changed({ file, open, children }: { file: DiffFile; open: boolean; children?: ComponentChildren }) {
  return (
    <details class="file" open={open}>
      <summary>
        <span class="path grow clip">{file.old_path ? `${file.old_path} → ${file.path}` : file.path}</span>
        <span class="tag">{file.action}</span>
        {!file.binary && <span class="small"><span class="plus">+{file.additions}</span> <span class="minus">−{file.deletions}</span></span>}
        {children}
      </summary>
      <Patch file={file} />
    </details>
  );
}
