/** `connecting` until the server has said hello, `open`, `waiting` for the next attempt, `closed` for good. */
export type State = "connecting" | "open" | "waiting" | "closed";

/** A change of state, and what led to it. */
export interface StateChange {
  state: State;
  /** The close code that ended the last connection: 1006 when it was lost. */
  code?: number;
  /** The reason beside the code. */
  reason?: string;
  /** While waiting: milliseconds until the next attempt. */
  delay?: number;
}

/** Where a message came from. */
export interface Meta {
  /** The group, when the message came through one. */
  group?: string;
  /** The message's position, when the group is durable: opaque. */
  at?: string;
}

/** The connection was joined to a group, by its consumer or by another process. */
export interface Joined {
  group: string;
  /** `live`: from now on. `resumed`: nothing is missing. `gap`: something is. */
  outcome: "live" | "resumed" | "gap";
  /** How many messages come before the first live one. */
  replayed?: number;
  /** Why there is a gap: `trimmed`, `reset` or `far`. */
  reason?: string;
}

/**
 * The connection is not in the group: somebody took it out, or nobody has joined it
 * again after a reconnect. `joined` comes first if it is joined once more.
 */
export interface Left {
  group: string;
}

/**
 * Messages were missed and will not come: fetch what you show anew. Reasons from
 * the server are `trimmed`, `reset`, `far`, `slow`, `link`; from this client
 * `away` (the group keeps no messages, and the connection was lost meanwhile) and
 * `buffer` (a `for await` loop was too slow).
 */
export interface Gap {
  group: string;
  reason: string;
  /** How many, where that is known. */
  dropped?: number;
}

/** A credential, and how long it holds. */
export interface Token {
  token: string;
  /** Seconds from now. The client renews in-band after four fifths of it. */
  expiresIn?: number;
}

type Awaitable<T> = T | Promise<T>;

/** Everything may be left out. Times are in milliseconds. */
export interface Options {
  /**
   * Subprotocols to offer. Default `["tideway.v1"]`. A browser gives up when the
   * server picks none of them: for a consumer that speaks plain frames pass `[]`.
   */
  protocols?: string[];
  /**
   * Called for each connection, and again before the credential expires. It never
   * goes into the URL. null means that there is none, and closes the client.
   * Default: cookies are all.
   */
  token?: () => Awaitable<string | Token | null>;
  /**
   * How the token goes out: as a subprotocol beside the others, `"protocol"`, which
   * is the default, or as the first `"frame"`, so that it is in no header: for servers
   * that wait for one. Until the token is found good the client is connecting.
   */
  tokenIn?: "protocol" | "frame";
  /** Called for each connection: a one-time ticket for the URL. null closes the client. */
  ticket?: () => Awaitable<string | null>;
  /** The wait before attempt n is random, from 0 to min(max, min * 2^n). Default 500 and 20000. */
  backoff?: { min?: number; max?: number };
  /** How long one attempt may take, callbacks and hello included. Default 15000. */
  connectTimeout?: number;
  /** How long the answer to a sign of life may take. Default 10000. */
  grace?: number;
  /** How many messages wait while there is no connection. Default 64; 0 refuses at once. */
  queue?: number;
  /** How many bytes may wait in the browser for a link that is slow. Default 1 MiB. */
  buffer?: number;
  /** How long request() waits. Default 10000. */
  timeout?: number;
  /** Whether to wait for open(). Default false. */
  manual?: boolean;
  /** The constructor of sockets. Default globalThis.WebSocket; under Node 20, that of the package ws. */
  WebSocket?: new (url: any, protocols?: any) => any;
}

/** Options of Client.group. */
export interface GroupOptions {
  /** A position from which to resume, as a page from the server carries it. */
  at?: string;
  /** How many messages a `for await` loop may lag behind. Default 1000. */
  buffer?: number;
}

/** Options of Client.request. */
export interface RequestOptions {
  /** Milliseconds. Default Options.timeout. */
  timeout?: number;
  /** Aborting rejects with the signal's reason. The server may handle the request all the same. */
  signal?: AbortSignal;
}

/** What the client itself tells, beside messages. */
export interface Events {
  state: StateChange;
  joined: Joined;
  left: Left;
  gap: Gap;
  error: Error;
}
