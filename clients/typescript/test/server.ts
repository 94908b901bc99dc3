// The real server on a temporary directory, and a network between it and its clients that can be cut.
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, connect, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { blobOid, Treehold, type Options, type Project } from "treehold";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
export const BINARY = process.env["TREEHOLD_BINARY"] ?? join(ROOT, "target/debug/treehold");
export const USER = "11111111-2222-4333-8444-555555555555";

export interface Running {
  url: string;
  key: string;
  dir: string;
  stop(): Promise<void>;
}

export async function start(...options: string[]): Promise<Running> {
  const dir = mkdtempSync(join(tmpdir(), "treehold-client-"));
  const child = spawn(BINARY, ["serve", "--data-dir", dir, "--listen", "127.0.0.1:0", ...options], { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (data: Buffer) => (log += data.toString()));
  const url = await address(child, () => log);
  const key = readFileSync(join(dir, "api-key"), "utf8").trim();
  const stop = async () => {
    // One that ended before says so no more.
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
    }
    rmSync(dir, { recursive: true, force: true });
  };
  return { url, key, dir, stop };
}

function address(child: ChildProcess, log: () => string): Promise<string> {
  let late: ReturnType<typeof setTimeout> | undefined;
  const told = new Promise<string>((resolve, reject) => {
    late = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`the server does not listen after a minute: ${log()}`));
    }, 60_000);
    let out = "";
    child.stdout?.on("data", (data: Buffer) => {
      const found = /listening on (\S+)/.exec((out += data.toString()));
      if (found?.[1]) resolve(found[1]);
    });
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the server ended with ${code}: ${log()}`)));
  });
  return told.finally(() => clearTimeout(late));
}

/** A server for the tests of a file, and clients of it. */
export function serving(...options: string[]) {
  let running: Running | undefined;
  before(async () => void (running = await start(...options)));
  after(() => running?.stop());
  const server = (): Running => running!;
  const client = (more: Partial<Options> = {}) => new Treehold({ baseUrl: server().url, key: server().key, ...more });
  let projects = 0;
  /** A new project with these files. */
  const project = async (files: Record<string, string> = {}, more: Partial<Options> = {}): Promise<Project> => {
    const made = await client().createProject({ name: `p${++projects}-${Date.now()}` });
    const project = client(more).project(made.id);
    const actions = Object.entries(files).map(([path, content]) => ({ action: "create" as const, path, content }));
    const author = { name: "A", email: "a@example.org" };
    if (actions.length > 0) await client().project(made.id).commit({ message: "Begin", author, actions });
    return project;
  };
  /** A project that has a remote with these files, and where that is: for many files, too, the fastest way. */
  const imported = (files: Record<string, string>, more: Partial<Options> = {}): { project: Project; remote: string } => {
    const name = `i${++projects}-${Date.now()}`;
    const remote = join(server().dir, `${name}.git`);
    execFileSync("git", ["init", "--quiet", "--bare", "--initial-branch=main", remote]);
    const env = { ...process.env, GIT_INDEX_FILE: join(server().dir, `${name}.index`) };
    const run = (args: string[], input?: string) => {
      const options = { encoding: "utf8" as const, env, ...(input === undefined ? {} : { input }) };
      return execFileSync("git", ["-C", remote, "-c", "user.name=G", "-c", "user.email=g@example.org", ...args], options).trim();
    };
    // An index takes many files of one directory; fast-import takes ever longer for them.
    const blobs = [...new Set(Object.values(files))].flatMap((content) => ["blob", `data ${Buffer.byteLength(content)}`, content]);
    run(["fast-import", "--quiet"], blobs.join("\n") + "\n");
    const lines = Object.entries(files).map(([path, content]) => `100644 ${blobOid(content)}\t${path}\n`);
    run(["update-index", "--index-info"], lines.join(""));
    run(["update-ref", "refs/heads/main", run(["commit-tree", run(["write-tree"]), "-m", "Begin"])]);
    treehold("import", remote, "--project", name, "--data-dir", server().dir);
    return { project: client(more).project(name), remote };
  };
  return { server, client, project, imported };
}

/** A network that can be cut. */
export class Wire {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #down = false;
  /** Bytes of answers that still pass, then everything is cut once. */
  #answerBytes = Infinity;
  connections = 0;

  private constructor(target: URL) {
    this.#server = createServer((near) => {
      this.connections++;
      if (this.#down) return void near.destroy();
      const far = connect(Number(target.port), target.hostname);
      const end = () => {
        near.destroy();
        far.destroy();
      };
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on("error", end).on("close", () => {
          this.#sockets.delete(socket);
          end();
        });
      }
      near.on("data", (data) => far.write(data));
      far.on("data", (data) => {
        if (data.length < this.#answerBytes) {
          this.#answerBytes -= data.length;
          return void near.write(data);
        }
        const pass = data.subarray(0, this.#answerBytes);
        this.#answerBytes = Infinity;
        near.write(pass, () => end());
      });
    });
  }

  static async to(url: string): Promise<Wire> {
    const wire = new Wire(new URL(url));
    await new Promise<void>((resolve) => wire.#server.listen(0, "127.0.0.1", resolve));
    return wire;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Cuts all connections, and lets no new ones through. */
  cut(): void {
    this.#down = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#down = false;
  }

  /** Cuts a connection once, in the middle of an answer. */
  cutAfter(bytes: number): void {
    this.#answerBytes = bytes;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

export function git(dir: string, ...args: string[]): string {
  const identity = ["-c", "user.name=G", "-c", "user.email=g@example.org", "-c", "init.defaultBranch=main"];
  return execFileSync("git", [...identity, ...args], { cwd: dir, encoding: "utf8", env: { ...process.env, GIT_CONFIG_NOSYSTEM: "1" } });
}

export function treehold(...args: string[]): string {
  return execFileSync(BINARY, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
}

/** Waits until something holds; bounded, so that a test fails instead of hanging. */
export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let turn = 0; turn < 1_500; turn++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`it never came to this: ${what}`);
}
