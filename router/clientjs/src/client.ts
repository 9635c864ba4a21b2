import { Emitter } from "./emitter.js";
import { ServerError, TidewayError } from "./errors.js";
import { Group } from "./group.js";
import type { Events, Gap, GroupOptions, Joined, Meta, Options, RequestOptions, State, Token } from "./options.js";

const v1 = "tideway.v1";
const reserved = ["state", "joined", "left", "gap", "error", "message"];
const maxGroups = 128; // as many as a server lets one connection join
const maxDelay = 300_000;

// Close codes after which the server wants to be left alone for a while, as
// [from, to] in ms. A bye before the close has a better word.
const rest: Record<number, [number, number]> = {
  1001: [500, 5_000],
  1012: [500, 5_000],
  1013: [5_000, 15_000],
  4129: [5_000, 15_000],
};

interface Outgoing {
  id?: number;
  plain: any; // what goes out without tideway.v1
  json?: string; // nothing for binary, which goes out as it is
}

interface Pending {
  resolve(data: any): void;
  reject(err: unknown): void;
}

/** A connection to one consumer that comes back by itself. Made by connect(). */
export class Client<M extends object = Record<string, any>> {
  #events = new Emitter();
  #groups = new Map<string, Group<any>>();
  #joined = new Map<string, string | undefined>(); // group to position, the newest last
  #requests = new Map<number, Pending>();
  #queue: Outgoing[] = [];
  #url: URL;
  #options: Options;

  #state: State = "waiting";
  #socket: any;
  #v1 = false; // whether the socket speaks it
  #turn = 0; // counts attempts, so that what an older one awaited does nothing
  #failures = 0;
  #since = 0; // when the connection opened; 0 before
  #heard = 0; // when the last sign of life came
  #doubt = false; // whether we asked for one since
  #ping = 17_500; // a little less than after what silence servers ping
  #bye?: [number, number];
  #asked = false; // whether the wait is one that the server asked for
  #lastID = 0;
  #timer?: ReturnType<typeof setTimeout>; // of the attempt, the wait, or the heartbeat
  #renewal?: ReturnType<typeof setTimeout>;
  #again?: Set<string>; // groups of the connection before, until they are joined again
  #login = 0; // the id of a token that went out as a frame, until the reply

  /** By which servers know this client, over reconnects: opaque. */
  session?: string;

  constructor(url: string | URL, options: Options = {}) {
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#options = options;
    // A browser that offers the token alone gives up, since no server answers with it.
    if (options.token && options.protocols?.length === 0) throw new TypeError("tideway: a token goes out beside a subprotocol: use a ticket");
    globalThis.addEventListener?.("online", this.#online);
    globalThis.document?.addEventListener("visibilitychange", this.#visible);
    if (!options.manual) this.#connect();
  }

  get state(): State {
    return this.#state;
  }

  /**
   * Calls handler for an event of the client, for each message (`message`), or for
   * each message whose `type` has that name. Returns what takes it away again.
   */
  on<E extends keyof Events>(event: E, handler: (event: Events[E]) => void): () => void;
  on(event: "message", handler: (message: M[keyof M], meta: Meta) => void): () => void;
  on<K extends keyof M & string>(type: K, handler: (message: M[K], meta: Meta) => void): () => void;
  on(name: string, handler: (...args: any[]) => void): () => void {
    return this.#events.on(name, handler);
  }

  /** The messages of one group. The server's consumer decides what this connection joins. */
  group<G extends object = M>(name: string, options: GroupOptions = {}): Group<G> {
    let g = this.#groups.get(name);
    if (!g) {
      g = new Group<G>(name, options, (gap) => this.#gap(gap));
      this.#groups.set(name, g);
      if (this.#joined.get(name)) g.at = this.#joined.get(name);
      else if (options.at) this.#joined.set(name, options.at);
      if (this.#state === "closed") g.end();
    }
    return g;
  }

  /** Lets go of a group that the page is done with: its handlers, loops and position. */
  forget(name: string): void {
    this.#groups.get(name)?.end();
    this.#groups.delete(name);
    this.#joined.delete(name);
  }

  /**
   * Sends data to the consumer's Receive, at most once. Without a connection it
   * waits for the next one. Throws a TidewayError (`full`, `closed`, `plain`).
   */
  send(data: unknown): void {
    this.#submit(data);
  }

  /**
   * Sends data as a request and resolves to the reply. Rejects with a ServerError,
   * or a TidewayError (`timeout`, `lost`, `full`, `closed`, `plain`), or the
   * reason of the signal. A request is never sent twice.
   */
  request<R = any>(data: unknown, { timeout = this.#options.timeout ?? 10_000, signal }: RequestOptions = {}): Promise<R> {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastID;
      const settle = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        this.#requests.delete(id);
        this.#queue = this.#queue.filter((m) => m.id !== id);
      };
      const fail = (err: unknown) => {
        settle();
        reject(err);
      };
      const abort = () => fail(signal!.reason);
      const timer = setTimeout(() => fail(new TidewayError("timeout", `no reply within ${timeout} ms`)), timeout);
      signal?.addEventListener("abort", abort);
      this.#requests.set(id, {
        resolve(data) {
          settle();
          resolve(data);
        },
        reject: fail,
      });
      if (signal?.aborted) return abort();
      try {
        this.#submit(data, id);
      } catch (err) {
        fail(err);
      }
    });
  }

  /** Ends a wait early, unless the server asked for it, and begins where Options.manual is set. */
  open(): void {
    if (this.#state === "waiting") this.#now();
  }

  /** Ends the connection, and everything that this client does, for good. */
  close(code = 1000, reason = ""): void {
    this.#end(code, reason);
  }

  #submit(data: any, id?: number): void {
    if (this.#state === "closed") throw new TidewayError("closed", "the client is closed");
    const raw = data instanceof ArrayBuffer || ArrayBuffer.isView(data) || data instanceof Blob;
    const json = raw ? undefined : JSON.stringify(data ?? null);
    const message = { id, plain: raw || typeof data == "string" ? data : json, json };
    if (this.#state === "open" && this.#socket.readyState === 1) { // one that is closing sends nothing
      if (this.#socket.bufferedAmount > (this.#options.buffer ?? 1 << 20)) throw new TidewayError("full", "the link is too slow for what is sent");
      return this.#write(message);
    }
    const limit = this.#options.queue ?? 64;
    if (this.#queue.length >= limit) throw new TidewayError("full", `${limit} messages wait for a connection`);
    this.#queue.push(message);
  }

  #write({ id, plain, json }: Outgoing): void {
    const wrap = this.#v1 && json;
    if (id && !wrap) throw new TidewayError("plain", "a request is JSON, and needs tideway.v1");
    this.#socket.send(wrap ? `{${id ? `"id":${id},` : ""}"data":${json}}` : plain);
  }

  #frame(frame: object): void {
    this.#socket.send(JSON.stringify(frame));
  }

  // Connecting

  async #connect(): Promise<void> {
    const o = this.#options;
    const turn = ++this.#turn;
    const limit = o.connectTimeout ?? 15_000;
    this.#after(limit, () => this.#lost(1006, `no connection within ${limit} ms`));
    this.#to("connecting");
    try {
      const url = new URL(this.#url);
      const protocols = [...(o.protocols ?? [v1])];
      const [token, ticket] = await Promise.all([this.#token(), ask(o.ticket)]);
      if (turn !== this.#turn) return;
      if (token === null || ticket === null) return this.#end(4001, "no credentials");
      const first = o.tokenIn === "frame" && token;
      if (token && !first) protocols.push("tideway.bearer." + base64url(token.token));
      if (ticket) url.searchParams.set("ticket", ticket);
      const socket = (this.#socket = new (o.WebSocket ?? WebSocket)(url.href, protocols));
      socket.binaryType = "arraybuffer";
      socket.onopen = () => {
        this.#v1 = socket.protocol === v1;
        if (token) this.#renewAfter(token);
        if (this.#v1) {
          if (first) this.#frame({ auth: first.token, id: (this.#login = ++this.#lastID) });
          return this.#resume();
        }
        if (first) this.#events.emit("error", new TidewayError("plain", "a token in a frame needs tideway.v1"));
        this.#opened();
      };
      socket.onmessage = (e: { data: any }) => this.#receive(e.data);
      socket.onclose = (e: { code: number; reason: string }) => this.#lost(e.code, e.reason);
      socket.onerror = () => {}; // close follows, and says no less
    } catch (err) {
      if (turn !== this.#turn) return;
      this.#events.emit("error", err);
      this.#lost(1006, "");
    }
  }

  async #token(): Promise<Token | null | undefined> {
    const token = await ask(this.#options.token);
    return typeof token == "string" ? { token } : token;
  }

  #renewAfter({ expiresIn }: Token): void {
    clearTimeout(this.#renewal);
    if (expiresIn) this.#renewal = setTimeout(this.#renew, Math.min(expiresIn * 800, 2 ** 31 - 1));
  }

  #renew = async (): Promise<void> => {
    const turn = this.#turn;
    try {
      const token = await this.#token();
      if (turn !== this.#turn || !this.#v1) return;
      if (!token) return this.#end(4001, "no credentials");
      this.#frame({ auth: token.token });
      this.#renewAfter(token);
    } catch (err) {
      // When the old one expires, the server says so, and a new connection asks again.
      this.#events.emit("error", err);
    }
  };

  // Also without groups: what the consumer joins waits for this frame. The session
  // is the first one, by which servers know what this client sent.
  #resume(): void {
    this.#again = new Set(this.#joined.keys());
    this.#frame({ resume: Object.fromEntries([...this.#joined].map(([group, at]) => [group, at ?? ""])), session: this.session });
  }

  #opened(): void {
    this.#login = 0;
    this.#since = Date.now();
    this.#beat();
    for (const m of this.#queue.splice(0)) {
      try {
        this.#write(m);
      } catch (err) {
        m.id ? this.#requests.get(m.id)?.reject(err) : this.#events.emit("error", err);
      }
    }
    this.#to("open"); // whose handlers may send: that comes behind what waited
  }

  // Receiving

  #receive(text: any): void {
    this.#heard = Date.now();
    this.#doubt = false;
    let f: any = text;
    const v1 = this.#v1 && typeof text == "string"; // binary is what it is
    try {
      if (typeof text == "string") f = JSON.parse(text);
    } catch {
      if (v1) return this.#events.emit("error", new TidewayError("protocol", "the server sent what is no JSON"));
    }
    if (!v1) return this.#deliver(f, {});
    f = Object(f);
    if (f.group !== undefined) this.#fromGroup(f);
    else if ("data" in f && !("reply" in f)) this.#deliver(f.data, {});
    else if (f.reply) {
      if (f.reply === this.#login) return f.error ? this.#refused(f.error) : this.#opened();
      const request = this.#requests.get(f.reply);
      f.error ? request?.reject(new ServerError(f.error)) : request?.resolve(f.data);
    } else if (f.joined) this.#joins({ ...f, group: f.joined });
    else if (f.left) this.#leaves(f.left);
    else if (f.gap) this.#gap(f.gap);
    else if (f.error) this.#events.emit("error", new ServerError(f.error));
    else if (f.bye) this.#bye = Array.isArray(f.bye.reconnect) ? f.bye.reconnect : undefined;
    else if (f.hello) this.#hello(f.hello);
  }

  #hello(hello: { session?: string; ping?: number }): void {
    this.session ??= hello.session;
    this.#ping = (hello.ping || 25) * 700;
    if (!this.#login) this.#opened();
  }

  // A token that does not hold is none; one that cannot be checked now may later.
  #refused(error: { code?: string; message?: string }): void {
    this.#events.emit("error", new ServerError(error));
    error.code === "unauthorized" ? this.#end(4001, error.message!) : this.#lost(1013, "no login now");
  }

  #fromGroup({ group, at, data }: { group: string; at?: string; data: any }): void {
    if (at && at === this.#joined.get(group)) return; // what we have
    this.#remember(group, at);
    this.#deliver(data, { group, at });
  }

  #joins(joined: Joined & { at?: string }): void {
    const { group, outcome, reason = "unknown", at } = joined;
    const before = this.#again?.delete(group);
    this.#remember(group, at);
    this.#tell("joined", joined);
    if (outcome === "gap") this.#gap({ group, reason });
    else if (outcome === "live" && before) this.#gap({ group, reason: "away" });
  }

  // A position is kept for who joins again. Without one, a group is remembered only
  // until it is left while this connection lasts.
  #leaves(group: string): void {
    if (!this.#again?.has(group) && !this.#joined.get(group)) this.#joined.delete(group);
    this.#tell("left", { group });
  }

  // The map is in order of use, so that what is forgotten is what is oldest.
  #remember(group: string, at = this.#joined.get(group)): void {
    this.#joined.delete(group);
    this.#joined.set(group, at);
    const g = this.#groups.get(group);
    if (g) g.at = at;
    for (const oldest of this.#joined.keys()) {
      if (this.#joined.size <= maxGroups) break;
      this.#joined.delete(oldest);
    }
  }

  #deliver(data: any, meta: Meta): void {
    const group = this.#groups.get(meta.group!);
    const names = ["message"];
    if (typeof data?.type == "string" && !reserved.includes(data.type)) names.push(data.type);
    for (const name of names) {
      group?.tell(name, data, meta);
      this.#events.emit(name, data, meta);
    }
    group?.take(data);
  }

  #gap(gap: Gap): void {
    this.#tell("gap", gap);
  }

  #tell(name: string, event: { group: string }): void {
    this.#groups.get(event.group)?.tell(name, event);
    this.#events.emit(name, event);
  }

  // Signs of life. A page cannot see the server's pings, so it asks after a
  // silence; without tideway.v1 nobody would answer.

  #beat(): void {
    this.#heard = Date.now();
    this.#after(this.#ping, this.#tick);
  }

  #tick = (): void => {
    const silent = Date.now() - this.#heard;
    if (this.#overdue()) this.#return("asleep");
    else if (!this.#v1) this.#beat();
    else if (silent < this.#ping) this.#after(this.#ping - silent, this.#tick);
    else this.#probe(this.#grace);
  };

  #probe(grace: number): void {
    this.#doubt = true;
    this.#frame({ ping: 1 });
    this.#after(grace, () => (this.#doubt ? this.#return("no sign of life") : this.#tick()));
  }

  get #grace(): number {
    return this.#options.grace ?? 10_000;
  }

  // Browsers run the timers of a hidden page once a minute: only what is later yet
  // is a sign of a computer that slept.
  #overdue(): boolean {
    return Date.now() - this.#heard > this.#ping + 60_000 + this.#grace;
  }

  #online = (): void => {
    if (this.#state !== "open") this.#now();
    else if (this.#v1) this.#probe(this.#grace / 2);
    else this.#return("another network");
  };

  #visible = (): void => {
    if (document.hidden) return;
    if (this.#state === "open") {
      if (this.#overdue()) this.#return("asleep");
      else if (this.#v1 && Date.now() - this.#heard > this.#grace) this.#probe(this.#grace / 2);
    }
    this.open();
  };

  // return gives up a connection that is open, and makes another one at once.
  #return(reason: string): void {
    this.#lost(1006, reason);
    this.open();
  }

  // now does not wait any longer, unless the server asked for it.
  #now(): void {
    if (this.#state === "closed" || this.#asked) return;
    this.#drop();
    this.#connect();
  }

  // Ending

  // lost settles what comes after a connection, or the attempt at one.
  #lost(code: number, reason: string): void {
    if (this.#state === "closed") return; // by who heard of an error
    this.#drop();
    if (code === 1000 || (code >= 4000 && code < 4100)) return this.#end(code, reason);
    for (const id of [...this.#requests.keys()]) {
      if (!this.#queue.some((m) => m.id === id)) this.#requests.get(id)!.reject(new TidewayError("lost", "the connection ended before the reply"));
    }
    if (this.#since && Date.now() - this.#since > 5_000) this.#failures = 0;
    this.#since = 0;
    const { min = 500, max = 20_000 } = this.#options.backoff ?? {};
    const asked = this.#bye ?? rest[code];
    let delay = Math.random() * Math.min(max, min * 2 ** this.#failures++);
    if (asked) {
      const [from, to] = asked;
      const wait = from + Math.random() * (to - from);
      delay = this.#bye ? wait : Math.max(delay, wait);
    }
    delay = Math.max(0, Math.min(+delay || 0, maxDelay));
    this.#asked = !!asked;
    this.#bye = undefined;
    this.#after(delay, () => {
      this.#asked = false;
      this.#connect();
    });
    this.#to("waiting", { code, reason, delay });
  }

  // drop lets go of the socket: nothing that it still holds is heard.
  #drop(code?: number, reason?: string): void {
    this.#turn++;
    clearTimeout(this.#timer);
    clearTimeout(this.#renewal);
    const s = this.#socket;
    if (!s) return;
    this.#socket = undefined;
    this.#v1 = false;
    this.#login = 0;
    s.onopen = s.onmessage = s.onclose = null;
    try {
      s.close(code, reason);
    } catch {
      s.close(); // a code that only servers may send
    }
  }

  #end(code: number, reason: string): void {
    if (this.#state === "closed") return;
    const own = code === 1000;
    this.#drop(code, reason);
    globalThis.removeEventListener?.("online", this.#online);
    globalThis.document?.removeEventListener("visibilitychange", this.#visible);
    this.#queue = [];
    const err = new TidewayError("closed", `closed with ${code} ${reason}`);
    for (const r of [...this.#requests.values()]) r.reject(err);
    this.#to("closed", { code, reason });
    for (const g of this.#groups.values()) g.end(own ? undefined : err);
  }

  #after(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  #to(state: State, detail: object = {}): void {
    this.#state = state;
    this.#events.emit("state", { state, ...detail });
  }
}

// ask calls for a credential. What it throws becomes an error that says so.
async function ask<T>(callback?: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await callback?.();
  } catch (cause) {
    throw new TidewayError("credentials", "the callback for a credential failed", { cause });
  }
}

// A token may hold any characters, and btoa takes Latin-1 only.
function base64url(text: string): string {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
}
