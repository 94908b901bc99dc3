import { useEffect, useRef, useState } from "preact/hooks";
import { openPane } from "./editor.js";
import { bytes, Failure } from "./parts.js";
import type { ProjectStore } from "./store.js";

/** Bytes that are shown of what is not edited: as text, and as numbers. */
const HEAD_TEXT = 64 << 10;
const HEAD_BYTES = 256;
const ROW = 16;

/** A file that is not edited: too large a text, or none. */
export interface Odd {
  what: string;
  size: number;
  /** Its first lines, or its first bytes. */
  head: string | Uint8Array;
}

const KINDS: [string, number[]][] = [
  ["A PNG image", [0x89, 0x50, 0x4e, 0x47]], ["A JPEG image", [0xff, 0xd8, 0xff]], ["A GIF image", [0x47, 0x49, 0x46, 0x38]],
  ["A PDF document", [0x25, 0x50, 0x44, 0x46]], ["A ZIP archive", [0x50, 0x4b, 0x03, 0x04]], ["A gzip archive", [0x1f, 0x8b]],
  ["A zstd archive", [0x28, 0xb5, 0x2f, 0xfd]], ["An ELF program", [0x7f, 0x45, 0x4c, 0x46]], ["A WebAssembly module", [0x00, 0x61, 0x73, 0x6d]],
  ["A font", [0x77, 0x4f, 0x46]], ["Text in UTF-16", [0xff, 0xfe]], ["Text in UTF-16", [0xfe, 0xff]],
];

/** A whole file's text, if it is one; else what it is. `head` is the file, or as much as was read of it. */
export function sniffed(head: Uint8Array, size: number): string | Odd {
  const whole = head.length >= size;
  const kind = KINDS.find(([, magic]) => magic.every((byte, at) => head[at] === byte))?.[0];
  const binary = (): Odd => ({ what: kind ?? "A binary file", size, head: head.slice(0, HEAD_BYTES) });
  // As git tells it.
  if (head.subarray(0, 8_000).includes(0)) return binary();
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(head, { stream: !whole });
    return whole ? text : { what: "A large text", size, head: text.slice(0, text.lastIndexOf("\n", HEAD_TEXT) + 1 || HEAD_TEXT) };
  } catch {
    return kind ? binary() : { ...binary(), what: "Text that is not UTF-8, or a binary file" };
  }
}

/** Says what it is, shows its begin, and gives it. */
export function NotEdited({ store, path, odd }: { store: ProjectStore; path: string; odd: Odd }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const get = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const file = await store.project.files.read(path, { ...store.at, signal: store.signal });
      give(file.bytes, path.slice(path.lastIndexOf("/") + 1));
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  return (
    <>
      <div class="banner stack">
        <div class="row">
          <p class="grow"><b>{odd.what}</b> of {bytes(odd.size)}. It is not edited here.</p>
          <button disabled={busy} onClick={() => void get()}><span class={busy ? "busy" : ""}>Download</span></button>
        </div>
        {error !== undefined && <Failure error={error} />}
      </div>
      {typeof odd.head === "string" ? <Begin path={path} text={odd.head} /> : <pre class="hex" tabIndex={0} aria-label={`The first bytes of ${path}`}>{hex(odd.head)}</pre>}
    </>
  );
}

function Begin({ path, text }: { path: string; text: string }) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const pane = openPane(host.current!, { text, path, label: `The begin of ${path}`, readOnly: true });
    return () => pane.destroy();
  }, [text, path]);
  return <><p class="small quiet begin">Its begin:</p><div class="code"><div ref={host} /></div></>;
}

function hex(head: Uint8Array): string {
  const rows: string[] = [];
  for (let at = 0; at < head.length; at += ROW) {
    const row = [...head.subarray(at, at + ROW)];
    const numbers = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const letters = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")).join("");
    rows.push(`${at.toString(16).padStart(4, "0")}  ${numbers.padEnd(3 * ROW)} ${letters}`);
  }
  return rows.join("\n");
}

/** Leaves bytes to the browser, as a file. */
export function give(content: Uint8Array, name: string): void {
  const url = URL.createObjectURL(new Blob([content as BlobPart]));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
