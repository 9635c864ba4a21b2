import type { Gap, GroupOptions, Joined, Left, Meta } from "./options.cjs";
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
export declare class Group<M extends object = Record<string, any>> implements AsyncIterable<M[keyof M]> {
    #private;
    readonly name: string;
    private options;
    private lost;
    /** The position of the newest message, to be kept over a reload of the page. */
    at?: string;
    constructor(name: string, options: GroupOptions, lost: (gap: Gap) => void);
    /** Calls handler for `joined`, `left`, `gap`, each message (`message`), or each of a type. Returns what takes it away again. */
    on<E extends keyof GroupEvents>(event: E, handler: (event: GroupEvents[E]) => void): () => void;
    on(event: "message", handler: (message: M[keyof M], meta: Meta) => void): () => void;
    on<K extends keyof M & string>(type: K, handler: (message: M[K], meta: Meta) => void): () => void;
    /**
     * Each message from now on. The loop ends with Client.close(); it throws when the
     * server closed for good. A loop that lags further behind than the buffer loses
     * the oldest, and `gap` says how many before the next message.
     */
    [Symbol.asyncIterator](): AsyncIterableIterator<M[keyof M]>;
}
