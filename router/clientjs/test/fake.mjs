// A clock and a WebSocket that tests drive by hand, for timing alone: what servers
// do is tried on a real one. Import this before the client is used.

/** world replaces timers, Date.now, Math.random, window events and WebSocket until t ends. */
export function world(t, { random = 0.5 } = {}) {
  const real = {};
  const replace = (name, value) => {
    real[name] = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  };
  const w = { now: 1e12, timers: new Map(), sockets: [], random, listeners: new Map(), hidden: false };
  let id = 0;
  replace("setTimeout", (run, ms = 0) => (w.timers.set(++id, { at: w.now + ms, run }), id));
  replace("clearTimeout", (n) => w.timers.delete(n));
  const target = {
    addEventListener: (name, f) => w.listeners.set(f, name),
    removeEventListener: (name, f) => w.listeners.delete(f),
  };
  replace("addEventListener", target.addEventListener);
  replace("removeEventListener", target.removeEventListener);
  replace("document", { ...target, get hidden() { return w.hidden; } });
  replace("location", { href: "https://example.com/page/" });
  const dateNow = Date.now, mathRandom = Math.random;
  Date.now = () => w.now;
  Math.random = () => w.random;
  replace("WebSocket", class {
    sent = [];
    bufferedAmount = 0;
    protocol = "";
    constructor(url, protocols) {
      Object.assign(this, { url, protocols });
      w.sockets.push(this);
    }
    send(data) { this.sent.push(data); }
    close(code, reason) { this.closed = { code, reason }; }

    // What the other side does.
    open(protocol = "tideway.v1") {
      this.protocol = protocol;
      this.readyState = 1;
      this.onopen?.();
    }
    hello(more) {
      this.open();
      this.say({ hello: { session: "s1", ping: 25, version: 1, ...more } });
    }
    say(frame) { this.onmessage?.({ data: typeof frame == "string" ? frame : JSON.stringify(frame) }); }
    closing() { this.readyState = 2; }
    drop(code = 1006, reason = "") { this.onclose?.({ code, reason }); }
    get frames() { return this.sent.map((s) => JSON.parse(s)); }
  });
  t.after(() => {
    Date.now = dateNow;
    Math.random = mathRandom;
    for (const [name, d] of Object.entries(real)) {
      if (d) Object.defineProperty(globalThis, name, d);
      else delete globalThis[name];
    }
  });

  /** settle lets promises go on: none of the client's chains is longer. */
  w.settle = async () => {
    for (let i = 0; i < 20; i++) await null;
  };
  /** pass lets ms go by, timer by timer. */
  w.pass = async (ms) => {
    const end = w.now + ms;
    for (;;) {
      await w.settle();
      const next = [...w.timers].filter(([, x]) => x.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!next) break;
      w.timers.delete(next[0]);
      w.now = Math.max(w.now, next[1].at);
      next[1].run();
    }
    w.now = end;
    await w.settle();
  };
  /** sleep is what a computer does: time goes by, and nothing runs until it wakes. */
  w.sleep = (ms) => void (w.now += ms);
  w.fire = async (event) => {
    for (const [f, name] of [...w.listeners]) if (name === event) f();
    await w.settle();
  };
  /** last is the newest socket. */
  Object.defineProperty(w, "last", { get: () => w.sockets.at(-1) });
  return w;
}

/** log collects what an emitter tells under some names. */
export function log(emitter, ...names) {
  const all = [];
  for (const name of names) emitter.on(name, (event) => all.push(names.length > 1 ? [name, event] : event));
  return all;
}
