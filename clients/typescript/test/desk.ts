// An editor behind a network that can be cut: what the tests of what is typed begin with.
import type { TestContext } from "node:test";
import { Autosave, blobOid, memoryStorage, type AutosaveOptions, type AutosaveStorage, type Merged, type Project } from "treehold";
import { serving, USER, Wire } from "./server.js";

export interface Desk {
  autosave: Autosave;
  wire: Wire;
  here: Project;
  states: string[];
  merged: Merged[];
  storage: AutosaveStorage;
}

export function desks() {
  const { client, project, server } = serving();
  /** An editor behind a network that can be cut. */
  const desk = async (t: TestContext, here: Project, options: AutosaveOptions = {}): Promise<Desk> => {
    const wire = await Wire.to(server().url);
    const [states, merged]: [string[], Merged[]] = [[], []];
    const storage = options.storage ?? memoryStorage();
    const far = client({ baseUrl: wire.url, maxPauseMs: 20 }).project(here.name);
    const autosave = far.autosave({
      user: USER, debounceMs: 10, maxWaitMs: 200, maxPauseMs: 30, storage, onMerged: (one) => merged.push(one), ...options,
    });
    autosave.subscribe((file) => states.push(file.state));
    t.after(async () => {
      await autosave.stop();
      await wire.close();
    });
    return { autosave, wire, here, states, merged, storage };
  };
  return { client, project, server, desk };
}

export const view = async (here: Project, path: string) => (await here.files.read(path, { user: USER })).text();
export const begin = (text: string) => ({ oid: blobOid(text), text });
export const lines = (...all: string[]) => all.map((line) => `${line}\n`).join("");

/** A storage that answers what it has only when it is let. */
export function slow(inner: AutosaveStorage): { storage: AutosaveStorage; answer: () => void } {
  let answer = (): void => {};
  const gate = new Promise<void>((resolve) => (answer = resolve));
  const entries = async (prefix: string) => {
    await gate;
    return inner.entries(prefix);
  };
  return { storage: { ...inner, entries }, answer };
}
