import { useEffect, useState } from "preact/hooks";

/** What stands behind `#`: `/p/PROJECT/TAB/PATH?branch=…&line=…`, so that a link comes back to the same place. */
export interface Place {
  parts: string[];
  /** Short name; not given: the default branch. */
  branch: string | undefined;
  /** Of the file that is open, from 1. */
  line: number | undefined;
}

export function readPlace(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const asked = new URLSearchParams(query);
  const line = Number(asked.get("line"));
  return {
    parts: path.split("/").filter(Boolean).map(decoded),
    branch: asked.get("branch") || undefined,
    line: Number.isSafeInteger(line) && line > 0 ? line : undefined,
  };
}

/** A part that somebody damaged by hand stays as it is. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function placeOf(project: string, tab: string, more: { path?: string | undefined; branch?: string | undefined; line?: number | undefined } = {}): string {
  const query = new URLSearchParams();
  if (more.branch !== undefined) query.set("branch", more.branch);
  if (more.line !== undefined) query.set("line", String(more.line));
  const rest = more.path === undefined ? "" : `/${encodeURIComponent(more.path)}`;
  return `#/p/${encodeURIComponent(project)}/${tab}${rest}${query.size > 0 ? `?${query}` : ""}`;
}

export function usePlace(): Place {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const changed = () => setHash(location.hash);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return readPlace(hash);
}
