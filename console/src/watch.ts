import { useEffect, useState } from "preact/hooks";

/** Something that tells when it changed. */
export class Watched {
  readonly #watchers = new Set<() => void>();

  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  protected changed(): void {
    for (const watcher of this.#watchers) watcher();
  }
}

/** Draws again whenever it changes. */
export function useWatched(target: Watched): void {
  const [, draw] = useState(0);
  useEffect(() => target.watch(() => draw((turn) => turn + 1)), [target]);
}

/** What is asked for, as it comes: asked again when `key` changes or `again` is called. */
export function useAsked<T>(ask: (signal: AbortSignal) => Promise<T>, key: unknown): { value?: T; error?: unknown; again: () => void } {
  const [state, setState] = useState<{ key: unknown; value?: T; error?: unknown }>({ key });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    ask(controller.signal).then(
      (value) => !controller.signal.aborted && setState({ key, value }),
      (error: unknown) => !controller.signal.aborted && setState({ key, error }),
    );
    return () => controller.abort();
  }, [key, turn]);
  const current = state.key === key ? state : { key };
  const again = () => setTurn((turn) => turn + 1);
  return { ...("value" in current ? { value: current.value as T } : {}), ...("error" in current ? { error: current.error } : {}), again };
}
