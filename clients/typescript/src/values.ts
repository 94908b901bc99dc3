import { TreeholdError } from "./errors.js";
import type { Oid, ReadFile, Uuid } from "./types.js";

/** A path from the root: text, or its bytes where they are not UTF-8. */
export type FilePath = string | Uint8Array;

/** A path in a URL. Its slashes stay, unless a component would be taken for a dot segment and change what is meant. */
export function encodePath(path: FilePath): string {
  const encode = (part: FilePath): string => (typeof part === "string" ? encodeURIComponent(part) : encodeBytes(part));
  const parts = typeof path === "string" ? path.split("/") : split(path);
  const dots = (part: FilePath): boolean => /^(\.|%2e){1,2}$/i.test(encode(part));
  if (!parts.some(dots)) return parts.map(encode).join("/");
  if (parts.length === 1) {
    throw new TreeholdError(0, "bad_path", "A file cannot be called “.” or “..”; give it another name.");
  }
  return parts.map(encode).join("%2F");
}

function split(path: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let from = 0;
  for (let at = 0; at <= path.length; at++) {
    if (at < path.length && path[at] !== 0x2f) continue;
    parts.push(path.subarray(from, at));
    from = at + 1;
  }
  return parts;
}

function encodeBytes(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    const letter = String.fromCharCode(byte);
    text += /[A-Za-z0-9._~-]/.test(letter) ? letter : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return text;
}

export function fromBase64(text: string): Uint8Array {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(binary);
}

/** The bytes of a file that a batch read gave. */
export function bytesOf(file: Pick<ReadFile, "encoding" | "content">): Uint8Array {
  return file.encoding === "base64" ? fromBase64(file.content) : new TextEncoder().encode(file.content);
}

/** A random UUID, where pages without TLS have no `crypto.randomUUID` too. */
export function newUuid(): Uuid {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** The id that git gives to a file with this content: SHA-1 (FIPS 180-4) over `blob`, its length, NUL and the bytes. */
export function blobOid(content: Uint8Array | string): Oid {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const head = new TextEncoder().encode(`blob ${bytes.length}\0`);
  const length = head.length + bytes.length;
  const padded = new Uint8Array(((length + 8) >> 6) * 64 + 64);
  padded.set(head);
  padded.set(bytes, head.length);
  padded[length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(length / 0x20000000));
  view.setUint32(padded.length - 4, length << 3);
  return sha1(view);
}

function sha1(blocks: DataView): string {
  const state = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  const words = new Int32Array(80);
  for (let at = 0; at < blocks.byteLength; at += 64) {
    for (let i = 0; i < 16; i++) words[i] = blocks.getInt32(at + 4 * i);
    for (let i = 16; i < 80; i++) words[i] = turn(words[i - 3]! ^ words[i - 8]! ^ words[i - 14]! ^ words[i - 16]!, 1);
    let [a, b, c, d, e] = state as [number, number, number, number, number];
    for (let i = 0; i < 80; i++) {
      const [mix, add] = i < 20 ? [(b & c) | (~b & d), 0x5a827999]
        : i < 40 ? [b ^ c ^ d, 0x6ed9eba1]
        : i < 60 ? [(b & c) | (b & d) | (c & d), 0x8f1bbcdc]
        : [b ^ c ^ d, 0xca62c1d6];
      [a, b, c, d, e] = [(turn(a, 5) + mix + e + add + words[i]!) | 0, a, turn(b, 30), c, d];
    }
    [a, b, c, d, e].forEach((value, i) => (state[i] = (state[i]! + value) | 0));
  }
  return state.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

function turn(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by));
}
