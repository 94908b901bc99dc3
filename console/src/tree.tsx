import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Row } from "./files.js";
import { count, Dialog, Failure } from "./parts.js";
import type { ProjectStore } from "./store.js";
import { chosen, dropped, Upload, type Chosen } from "./upload.js";

const ROW = 28;
/** Rows drawn beyond what is seen. */
const SPARE = 12;
const MARKS: Record<string, string> = { modified: "M", created: "A", deleted: "D", none: "" };

/** What of a box is seen. */
function useScrolled(box: { current: HTMLDivElement | null }): { top: number; height: number } {
  const [seen, setSeen] = useState({ top: 0, height: 600 });
  useEffect(() => {
    const element = box.current!;
    const measure = () => setSeen({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", measure);
    };
  }, []);
  return seen;
}

interface Rows {
  rows: Row[];
  /** Goes on when directories are opened or closed. */
  turn: number;
  toggle: (row: Row, open?: boolean) => void;
}

/** What open directories show, or a filter finds. */
function useRows(store: ProjectStore, path: string | undefined, filter: string): Rows {
  const [turn, setTurn] = useState(0);
  const { tree } = store;
  const rows = useMemo(() => (filter ? tree.found(filter) : tree.rows(store.open)), [tree, tree.size, filter, turn]);
  // The directories of the file that is open are open, too.
  useEffect(() => {
    if (!path) return;
    const parts = path.split("/");
    for (let n = 1; n < parts.length; n++) store.open.add(parts.slice(0, n).join("/"));
    setTurn((turn) => turn + 1);
  }, [path]);
  const toggle = (row: Row, open = !store.open.has(row.node.path)) => {
    if (open) store.open.add(row.node.path);
    else store.open.delete(row.node.path);
    setTurn((turn) => turn + 1);
  };
  return { rows, turn, toggle };
}

/** The row that the keys are at, and what they do. */
function useTreeKeys(store: ProjectStore, path: string | undefined, { rows, turn, toggle }: Rows, box: { current: HTMLDivElement | null }, onOpen: (path: string) => void) {
  const [at, setAt] = useState(0);
  // They go on from the file that is open.
  useEffect(() => {
    const index = path === undefined ? -1 : rows.findIndex((row) => row.node.path === path);
    if (index >= 0) setAt(index);
  }, [path, turn, store.listed]);
  const go = (to: number) => {
    const next = Math.max(0, Math.min(rows.length - 1, to));
    setAt(next);
    const element = box.current!;
    if (next * ROW < element.scrollTop) element.scrollTop = next * ROW;
    if ((next + 1) * ROW > element.scrollTop + element.clientHeight) element.scrollTop = (next + 1) * ROW - element.clientHeight;
  };
  const act = (row: Row | undefined) => {
    if (row?.node.children) toggle(row);
    else if (row) onOpen(row.node.path);
  };
  const key = (event: KeyboardEvent) => {
    const row = rows[at];
    const page = Math.max(1, Math.floor(box.current!.clientHeight / ROW) - 1);
    const open = row?.node.children !== undefined && store.open.has(row.node.path);
    const parent = () => {
      for (let n = at - 1; n >= 0; n--) if (rows[n]!.level < (row?.level ?? 0)) return n;
      return at;
    };
    const steps: Record<string, () => void> = {
      ArrowDown: () => go(at + 1), ArrowUp: () => go(at - 1), PageDown: () => go(at + page), PageUp: () => go(at - page),
      Home: () => go(0), End: () => go(rows.length - 1), Enter: () => act(row), " ": () => act(row),
      ArrowRight: () => (row?.node.children && !open ? toggle(row, true) : go(at + 1)),
      ArrowLeft: () => (row && open ? toggle(row, false) : go(parent())),
    };
    if (!steps[event.key]) return;
    event.preventDefault();
    steps[event.key]!();
  };
  return { at, setAt, act, key };
}

/** The directory that a row is, or is in. */
function directory(row: Row | undefined): string {
  if (!row) return "";
  return row.node.children ? row.node.path : row.node.path.slice(0, Math.max(0, row.node.path.lastIndexOf("/")));
}

/** Files that are dropped, on a directory or beside all, or chosen, and that are to be uploaded. */
function useDrop(rows: Row[], box: { current: HTMLDivElement | null }) {
  const [upload, setUpload] = useState<{ files: Chosen[]; into: string }>();
  const [over, setOver] = useState(false);
  const [refused, setRefused] = useState<unknown>();
  const onDrop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    const { transfer, top } = { transfer: event.dataTransfer, top: box.current!.getBoundingClientRect().top };
    const row = rows[Math.floor((event.clientY - top + box.current!.scrollTop) / ROW)];
    if (!transfer) return;
    setRefused(undefined);
    dropped(transfer).then((files) => files.length > 0 && setUpload({ files, into: event.clientY < top ? "" : directory(row) }), setRefused);
  };
  const onDragOver = (event: DragEvent) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    setOver(true);
  };
  return { upload, setUpload, over, refused, onto: { onDrop, onDragOver, onDragLeave: () => setOver(false) } };
}

/** All files: only the rows that are seen are there. */
export function Tree({ store, path, onOpen }: { store: ProjectStore; path: string | undefined; onOpen: (path: string) => void }) {
  const [filter, setFilter] = useState("");
  const [making, setMaking] = useState(false);
  const picker = useRef<HTMLInputElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const { tree, status } = store;
  const seen = useScrolled(box);
  const all = useRows(store, path, filter);
  const { rows } = all;
  const { at, setAt, act, key } = useTreeKeys(store, path, all, box, onOpen);
  const { upload, setUpload, over, refused, onto } = useDrop(rows, box);
  const marks = useMemo(() => new Map(status?.changes.map((change) => [change.path, change]) ?? []), [status]);
  const first = Math.max(0, Math.floor(seen.top / ROW) - SPARE);
  const shown = rows.slice(first, Math.ceil((seen.top + seen.height) / ROW) + SPARE);
  return (
    <aside class={`side${over ? " over" : ""}`} aria-label="Files" {...onto}>
      <div class="find">
        <input type="search" placeholder="Find a file" aria-label="Find a file" value={filter} onInput={(event) => {
          setFilter(event.currentTarget.value);
          setAt(0);
        }} onKeyDown={(event) => event.key === "ArrowDown" && (event.preventDefault(), box.current?.focus())} />
        <button onClick={() => setMaking(true)} title="New file" aria-label="New file">+</button>
        <button onClick={() => picker.current?.click()} title="Upload files (or drop them on a directory)" aria-label="Upload files">↑</button>
        <input type="file" multiple hidden ref={picker} onChange={(event) => {
          const files = chosen(event.currentTarget.files ?? []);
          event.currentTarget.value = "";
          if (files.length > 0) setUpload({ files, into: directory(rows[at]) });
        }} />
      </div>
      <div class="tree" role="tree" aria-label="Files" tabIndex={0} ref={box} onKeyDown={key} aria-activedescendant={rows[at] ? `row-${at}` : undefined}>
        <div class="all" ref={(element) => void (element && (element.style.height = `${rows.length * ROW}px`))}>
          {shown.map((row, index) => (
            <Item key={row.node.path} row={row} index={first + index} current={first + index === at} selected={row.node.path === path}
              open={store.open.has(row.node.path)} mark={MARKS[marks.get(row.node.path)?.action ?? "none"] ?? ""}
              onAct={() => (setAt(first + index), act(row))} />
          ))}
        </div>
        {rows.length === 0 && store.listed && <p class="empty small">{filter ? "No path has this in it." : "There is no file yet."}</p>}
      </div>
      <footer aria-live="polite">
        {store.listed ? (filter ? `${count(rows.length, "file")} of ${tree.size.toLocaleString("en")}` : count(tree.size, "file"))
          : `Listing… ${store.listing > 0 ? store.listing.toLocaleString("en") : ""}`}
      </footer>
      {refused !== undefined && <Failure error={refused} />}
      {upload && <Upload key={upload.files[0]?.file.lastModified} store={store} {...upload} onClose={() => setUpload(undefined)} />}
      {making && <NewFile store={store} onClose={() => setMaking(false)} onMade={onOpen} />}
    </aside>
  );
}

interface ItemProps {
  row: Row;
  index: number;
  current: boolean;
  selected: boolean;
  open: boolean;
  mark: string;
  onAct: () => void;
}

function Item({ row, index, current, selected, open, mark, onAct }: ItemProps) {
  const { node, level } = row;
  // By script, as styles in the page's text are forbidden.
  const place = (element: HTMLElement | null) => {
    if (!element) return;
    element.style.top = `${index * ROW}px`;
    element.style.paddingLeft = `${8 + (level - 1) * 14}px`;
  };
  return (
    <div id={`row-${index}`} ref={place} role="treeitem" class={`item${node.children ? " dir" : ""}${current ? " at" : ""}`} onClick={onAct}
      aria-level={level} aria-posinset={row.at} aria-setsize={row.of} aria-selected={selected} title={node.path}
      {...(node.children ? { "aria-expanded": open } : {})}>
      <span class="twist" aria-hidden="true">{node.children ? (open ? "▾" : "▸") : ""}</span>
      <span class="clip">{node.name}</span>
      {mark && <span class="mark" title="pending">{mark}</span>}
    </div>
  );
}

function NewFile({ store, onClose, onMade }: { store: ProjectStore; onClose: () => void; onMade: (path: string) => void }) {
  const [path, setPath] = useState("");
  const [error, setError] = useState<unknown>();
  const make = async (event: Event) => {
    event.preventDefault();
    try {
      await store.workspace.put(path, "", { expected: null });
      onClose();
      onMade(path);
    } catch (failure) {
      setError((failure as { status?: number }).status === 412 ? new Error("There is a file at this path already.") : failure);
    }
  };
  return (
    <Dialog title="New file" onClose={onClose}>
      <form class="stack" onSubmit={make}>
        {error !== undefined && <Failure error={error} />}
        <label><span>Path</span><input class="mono" value={path} onInput={(event) => setPath(event.currentTarget.value)} placeholder="guide/intro.md" required autoFocus /></label>
        <div class="row"><button class="primary">Make it</button><button type="button" onClick={onClose}>Cancel</button></div>
      </form>
    </Dialog>
  );
}
