import { Group } from "./group.cjs";
import type { Events, GroupOptions, Meta, Options, RequestOptions, State } from "./options.cjs";
/** A connection to one consumer that comes back by itself. Made by connect(). */
export declare class Client<M extends object = Record<string, any>> {
    #private;
    /** By which servers know this client, over reconnects: opaque. */
    session?: string;
    constructor(url: string | URL, options?: Options);
    get state(): State;
    /**
     * Calls handler for an event of the client, for each message (`message`), or for
     * each message whose `type` has that name. Returns what takes it away again.
     */
    on<E extends keyof Events>(event: E, handler: (event: Events[E]) => void): () => void;
    on(event: "message", handler: (message: M[keyof M], meta: Meta) => void): () => void;
    on<K extends keyof M & string>(type: K, handler: (message: M[K], meta: Meta) => void): () => void;
    /** The messages of one group. The server's consumer decides what this connection joins. */
    group<G extends object = M>(name: string, options?: GroupOptions): Group<G>;
    /** Lets go of a group that the page is done with: its handlers, loops and position. */
    forget(name: string): void;
    /**
     * Sends data to the consumer's Receive, at most once. Without a connection it
     * waits for the next one. Throws a TidewayError (`full`, `closed`, `plain`).
     */
    send(data: unknown): void;
    /**
     * Sends data as a request and resolves to the reply. Rejects with a ServerError,
     * or a TidewayError (`timeout`, `lost`, `full`, `closed`, `plain`), or the
     * reason of the signal. A request is never sent twice.
     */
    request<R = any>(data: unknown, { timeout, signal }?: RequestOptions): Promise<R>;
    /** Ends a wait early, unless the server asked for it, and begins where Options.manual is set. */
    open(): void;
    /** Ends the connection, and everything that this client does, for good. */
    close(code?: number, reason?: string): void;
}
