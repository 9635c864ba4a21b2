import { Emitter } from "./emitter.js";
import type { Gap, GroupOptions, Joined, Left, Meta } from "./options.js";

/** What a group tells beside its messages. */
export interface GroupEvents {
  joined: Joined;
  left: Left;
  gap: Gap;
}

/**
 * One group, as the server's consumer has joined this connection to it. Handlers
 * stay over reconnects. A `for await` loop gets each message from its start on.
 */
export class Group<M extends object = Record<string, any>> implements AsyncIterable<M[keyof M]> {
  #events = new Emitter();
  #loops = new Set<(end: boolean, message?: unknown, err?: Error) => void>();
  #ended: { err?: Error } | undefined;

  /** The position of the newest message, to be kept over a reload of the page. */
  at?: string;

  constructor(
    readonly name: string,
    private options: GroupOptions,
    private lost: (gap: Gap) => void,
  ) {
    this.at = options.at;
  }

  /** Calls handler for `joined`, `left`, `gap`, each message (`message`), or each of a type. Returns what takes it away again. */
  on<E extends keyof GroupEvents>(event: E, handler: (event: GroupEvents[E]) => void): () => void;
  on(event: "message", handler: (message: M[keyof M], meta: Meta) => void): () => void;
  on<K extends keyof M & string>(type: K, handler: (message: M[K], meta: Meta) => void): () => void;
  on(name: string, handler: (...args: any[]) => void): () => void {
    return this.#events.on(name, handler);
  }

  /**
   * Each message from now on. The loop ends with Client.close(); it throws when the
   * server closed for good. A loop that lags further behind than the buffer loses
   * the oldest, and `gap` says how many before the next message.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<M[keyof M]> {
    const limit = this.options.buffer ?? 1000;
    const waiting: { resolve(r: IteratorResult<any>): void; reject(e: Error): void }[] = [];
    let messages: unknown[] = [];
    let dropped = 0;
    let over = this.#ended;
    const done = { done: true as const, value: undefined };
    const loop = (end: boolean, message?: unknown, err?: Error) => {
      if (end) {
        over = { err };
        this.#loops.delete(loop);
        for (const w of waiting.splice(0)) err ? w.reject(err) : w.resolve(done);
      } else if (waiting.length) {
        waiting.shift()!.resolve({ done: false, value: message });
      } else if (messages.push(message) > limit) {
        messages.shift();
        dropped++;
      }
    };
    if (!over) this.#loops.add(loop);
    return {
      next: () =>
        new Promise((resolve, reject) => {
          if (dropped) {
            const n = dropped;
            dropped = 0;
            this.lost({ group: this.name, reason: "buffer", dropped: n });
          }
          if (messages.length) return resolve({ done: false, value: messages.shift() as any });
          if (!over) return void waiting.push({ resolve, reject });
          const { err } = over;
          over = {}; // an error is thrown once
          err ? reject(err) : resolve(done);
        }),
      return: async () => {
        messages = [];
        dropped = 0;
        loop(true);
        return done;
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /** @internal */
  tell(name: string, event: unknown, meta?: Meta): void {
    this.#events.emit(name, event, meta);
  }

  /** @internal */
  take(message: unknown): void {
    for (const loop of [...this.#loops]) loop(false, message);
  }

  /** @internal */
  end(err?: Error): void {
    this.#ended = { err };
    for (const loop of [...this.#loops]) loop(true, undefined, err);
  }
}
