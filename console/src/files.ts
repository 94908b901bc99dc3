import type { FileEntry } from "treehold";

/** A directory or file of the tree. */
export interface Node {
  name: string;
  path: string;
  /** Of a directory. */
  children?: Map<string, Node>;
  sorted?: Node[] | undefined;
}

/** A line of the tree as it is shown. */
export interface Row {
  node: Node;
  level: number;
  /** Its place among its siblings, from 1, and how many they are. */
  at: number;
  of: number;
}

const before = (a: Node, b: Node): number =>
  Number(b.children !== undefined) - Number(a.children !== undefined) || (a.name < b.name ? -1 : 1);

/** All files of a view, as a tree. */
export class FileTree {
  readonly root: Node = { name: "", path: "", children: new Map() };
  size = 0;
  /** All paths in the order of the tree, and as they are looked for. */
  #flat: { path: string; lower: string }[] | undefined;

  static of(files: Iterable<Pick<FileEntry, "path">>): FileTree {
    const tree = new FileTree();
    for (const file of files) tree.add(file.path);
    return tree;
  }

  add(path: string): void {
    let node = this.root;
    let from = 0;
    for (;;) {
      const slash = path.indexOf("/", from);
      const name = slash < 0 ? path.slice(from) : path.slice(from, slash);
      node.children ??= new Map();
      let child = node.children.get(name);
      if (!child) {
        child = { name, path: slash < 0 ? path : path.slice(0, slash) };
        node.children.set(name, child);
        node.sorted = undefined;
        this.#flat = undefined;
        if (slash < 0) this.size++;
      }
      if (slash < 0) return;
      node = child;
      from = slash + 1;
    }
  }

  remove(path: string): void {
    const nodes = [this.root];
    for (const name of path.split("/")) {
      const child = nodes.at(-1)?.children?.get(name);
      if (!child) return;
      nodes.push(child);
    }
    this.size--;
    this.#flat = undefined;
    for (let at = nodes.length - 1; at > 0; at--) {
      const [parent, node] = [nodes[at - 1]!, nodes[at]!];
      if (node.children && node.children.size > 0) return;
      parent.children?.delete(node.name);
      parent.sorted = undefined;
    }
  }

  children(node: Node): Node[] {
    node.sorted ??= [...(node.children?.values() ?? [])].sort(before);
    return node.sorted;
  }

  /** What is to be seen where these directories are open. */
  rows(open: ReadonlySet<string>): Row[] {
    const rows: Row[] = [];
    const walk = (node: Node, level: number): void => {
      const children = this.children(node);
      for (let at = 0; at < children.length; at++) {
        const child = children[at]!;
        rows.push({ node: child, level, at: at + 1, of: children.length });
        if (child.children && open.has(child.path)) walk(child, level + 1);
      }
    };
    walk(this.root, 1);
    return rows;
  }

  /** Files whose path has this in it, whatever its case. */
  found(text: string): Row[] {
    const wanted = text.toLowerCase();
    const found = this.#paths().filter(({ lower }) => lower.includes(wanted));
    return found.map(({ path }, at) => ({ node: { name: path, path }, level: 1, at: at + 1, of: found.length }));
  }

  #paths(): { path: string; lower: string }[] {
    if (this.#flat) return this.#flat;
    const flat: { path: string; lower: string }[] = [];
    const walk = (node: Node): void => {
      for (const child of this.children(node)) {
        if (child.children) walk(child);
        else flat.push({ path: child.path, lower: child.path.toLowerCase() });
      }
    };
    walk(this.root);
    return (this.#flat = flat);
  }
}
