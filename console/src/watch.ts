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

/**
 * What is asked for, as it comes: asked again when `key` changes or `again` is called. Until the new answer is there the old one stays,
 * also beside an error, so that nothing that somebody works in goes away.
 */
export function useAsked<T>(ask: (signal: AbortSignal) => Promise<T>, key: unknown): { value?: T; error?: unknown; again: () => void } {
  const [state, setState] = useState<{ value?: T; error?: unknown }>({});
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    ask(controller.signal).then(
      (value) => !controller.signal.aborted && setState({ value }),
      (error: unknown) => !controller.signal.aborted && setState((before) => ({ ...before, error })),
    );
    return () => controller.abort();
  }, [key, turn]);
  return { ...state, again: () => setTurn((turn) => turn + 1) };
}
