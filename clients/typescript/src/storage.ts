/** Where what is not saved yet is kept, so that it outlives the page or process. */
export interface AutosaveStorage {
  /** All entries whose key begins with `prefix`. */
  entries(prefix: string): Promise<[key: string, value: string][]>;
  /** Durable when it resolves. */
  set(key: string, value: string): Promise<void>;
  delete(key: string): Promise<void>;
}

/** Keeps nothing beyond the page or process. */
export function memoryStorage(): AutosaveStorage {
  const kept = new Map<string, string>();
  return {
    entries: async (prefix) => [...kept].filter(([key]) => key.startsWith(prefix)),
    set: async (key, value) => void kept.set(key, value),
    delete: async (key) => void kept.delete(key),
  };
}

/** In `localStorage` or `sessionStorage`: some megabytes. */
export function webStorage(storage: Storage): AutosaveStorage {
  return {
    entries: async (prefix) => {
      const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index));
      const ours = keys.filter((key) => key !== null && key.startsWith(prefix)) as string[];
      return ours.map((key) => [key, storage.getItem(key) ?? ""]);
    },
    set: async (key, value) => storage.setItem(key, value),
    delete: async (key) => storage.removeItem(key),
  };
}

/** In IndexedDB: as much as the browser gives. */
export function indexedDbStorage(name = "treehold-autosave"): AutosaveStorage {
  let open: Promise<IDBDatabase> | undefined;
  const store = async (mode: IDBTransactionMode): Promise<IDBObjectStore> => {
    open ??= settled(indexedDB.open(name, 1), (request) => request.result.createObjectStore("kept"));
    return (await open).transaction("kept", mode, { durability: "strict" }).objectStore("kept");
  };
  return {
    entries: async (prefix) => {
      const range = IDBKeyRange.bound(prefix, prefix + "\uffff");
      const kept = await store("readonly");
      const [keys, values] = await Promise.all([settled(kept.getAllKeys(range)), settled(kept.getAll(range))]);
      return keys.map((key, index) => [String(key), String(values[index])]);
    },
    set: async (key, value) => done(await store("readwrite"), (kept) => kept.put(value, key)),
    delete: async (key) => done(await store("readwrite"), (kept) => kept.delete(key)),
  };
}

function settled<T>(request: IDBRequest<T>, upgrade?: (request: IDBRequest<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    if (upgrade) (request as IDBRequest<T> & IDBOpenDBRequest).onupgradeneeded = () => upgrade(request);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB failed"));
  });
}

/** Resolves once the transaction is complete. */
function done(store: IDBObjectStore, act: (store: IDBObjectStore) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    store.transaction.oncomplete = () => resolve();
    store.transaction.onerror = () => reject(store.transaction.error ?? new Error("IndexedDB failed"));
    store.transaction.onabort = () => reject(store.transaction.error ?? new Error("IndexedDB gave up"));
    act(store);
  });
}
