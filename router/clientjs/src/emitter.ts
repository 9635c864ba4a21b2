// Emitter calls handlers by name. A handler that throws harms no other: its error
// goes where an error in an event listener goes.
export class Emitter {
  #handlers = new Map<string, Set<(...args: any[]) => void>>();

  on(name: string, handler: (...args: any[]) => void): () => void {
    let all = this.#handlers.get(name);
    if (!all) this.#handlers.set(name, (all = new Set()));
    // A wrapper of its own for each call: the same function may listen twice.
    const entry = (...args: unknown[]) => handler(...args);
    all.add(entry);
    return () => void all.delete(entry);
  }

  emit(name: string, ...args: unknown[]): void {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) {
      try {
        handler(...args);
      } catch (err) {
        queueMicrotask(() => {
          throw err;
        });
      }
    }
  }
}
