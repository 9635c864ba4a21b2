// What is sent and what is told.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, ServerError, TidewayError } from "../dist/index.js";
import { log, world } from "./fake.mjs";

test("addresses, subprotocols and credentials of each connection", async (t) => {
  const w = world(t);
  let n = 0;
  for (const [url, options, want, protocols] of [
    ["/ws/", {}, "wss://example.com/ws/", ["tideway.v1"]],
    ["../ws?a=b", {}, "wss://example.com/ws?a=b", ["tideway.v1"]],
    ["http://localhost:8000/ws/", { protocols: [] }, "ws://localhost:8000/ws/", []],
    ["ws://localhost/", { protocols: ["chat.v2"] }, "ws://localhost/", ["chat.v2"]],
    ["/ws/", { token: async () => `tøken?${++n}` }, "wss://example.com/ws/", ["tideway.v1", "tideway.bearer.dMO4a2VuPzE"]],
    ["/ws/?x=1", { ticket: () => "a b&" }, "wss://example.com/ws/?x=1&ticket=a+b%26", ["tideway.v1"]],
  ]) {
    const c = connect(url, options);
    await w.settle();
    assert.equal(w.last.url, want);
    assert.deepEqual(w.last.protocols, protocols);
    w.last.drop();
    await w.pass(500);
    if (options.token) assert.deepEqual(w.last.protocols, ["tideway.v1", "tideway.bearer.dMO4a2VuPzI"], "called anew");
    c.close();
  }
  assert.throws(() => connect("http://["), TypeError);
  assert.throws(() => connect("/ws/", { protocols: [], token: () => "x" }), TypeError);
  assert.equal(w.listeners.size, 0);
});

test("a credential that cannot be had is tried again; none ends the client", async (t) => {
  const w = world(t);
  for (const name of ["token", "ticket"]) {
    const answers = [() => { throw new Error("down"); }, () => Promise.reject(new Error("down")), () => null];
    const c = connect("/ws/", { [name]: () => answers.shift()() });
    const errors = log(c, "error"), states = log(c, "state");
    await w.pass(60_000);
    assert.deepEqual(errors.map((e) => [e.code, e.cause.message]), [["credentials", "down"], ["credentials", "down"]]);
    assert.deepEqual(states.at(-1), { state: "closed", code: 4001, reason: "no credentials" });
  }
  assert.equal(w.sockets.length, 0);
});

test("a token is renewed in-band before it expires", async (t) => {
  const w = world(t);
  let n = 0;
  const c = connect("/ws/", { token: () => (++n === 3 ? Promise.reject(new Error("down")) : { token: "t" + n, expiresIn: 100 }) });
  const errors = log(c, "error");
  await w.settle();
  const s = w.last;
  s.hello();
  for (let i = 0; i < 16; i++) {
    await w.pass(5000);
    s.say({ pong: 1 });
  }
  assert.deepEqual(s.frames.filter((f) => f.auth), [{ auth: "t2" }]);
  for (let i = 0; i < 16; i++) {
    await w.pass(5000);
    s.say({ pong: 1 });
  }
  assert.deepEqual(errors.map((e) => e.code), ["credentials"]);
  s.drop(4101);
  await w.pass(500);
  assert.equal(w.last.protocols[1], "tideway.bearer.dDQ", "4101: back with a new one");
  c.close();
});

test("a token that goes out as the first frame", async (t) => {
  const w = world(t);
  let n = 0;
  const c = connect("/ws/", { tokenIn: "frame", token: () => ({ token: "t" + ++n, expiresIn: 100 }) });
  const states = log(c, "state"), errors = log(c, "error");
  c.send("waits");
  await w.settle();
  const s = w.last;
  assert.deepEqual(s.protocols, ["tideway.v1"], "it is in no header");
  s.hello();
  const { id } = s.frames[0];
  assert.deepEqual(s.frames, [{ auth: "t1", id }, { resume: {} }], "hello is no login");
  assert.equal(c.state, "connecting");
  s.say({ reply: id, data: null });
  assert.deepEqual(s.frames.slice(2), [{ data: "waits" }]);
  for (let i = 0; i < 16; i++) {
    await w.pass(5000);
    s.say({ pong: 1 });
  }
  assert.deepEqual(s.frames.filter((f) => f.auth).slice(1), [{ auth: "t2" }], "renewed as any other");

  // Silence ends the attempt, and so does the word that it cannot be checked now.
  c.send("waits on");
  s.drop();
  c.send("waits on");
  await w.pass(500);
  w.last.hello();
  await w.pass(15_000);
  assert.equal(states.at(-1).reason, "no connection within 15000 ms");
  await w.pass(1000);
  w.last.hello();
  w.last.say({ reply: w.last.frames[0].id, error: { code: "unavailable", message: "busy" } });
  const { state, code, delay } = states.at(-1);
  assert.deepEqual([state, code, delay], ["waiting", 1013, 10_000]);
  assert.equal(w.last.frames.length, 2, "nothing else went out");
  await w.pass(10_000);
  w.last.open("other.v1");
  assert.equal(errors.at(-1).code, "plain");
  w.last.drop();
  await w.pass(3_000);
  w.last.hello();
  w.last.say({ reply: w.last.frames[0].id, error: { code: "unauthorized", message: "who?" } });
  assert.deepEqual(states.at(-1), { state: "closed", code: 4001, reason: "who?" });
  assert.deepEqual(errors.map((e) => e.code), ["unavailable", "plain", "unauthorized"]);
});

test("who closes the client on an error is heard", async (t) => {
  const w = world(t);
  const c = connect("/ws/", { token: () => Promise.reject(new Error("down")) });
  c.on("error", () => c.close());
  await w.pass(60_000);
  assert.equal(c.state, "closed");
  assert.equal(w.timers.size, 0);
});

test("a group that is left is told, and what is to be listed after a reconnect", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  const left = log(c, "left"), mine = log(c.group("job"), "left"), gaps = log(c, "gap"), typed = log(c, "message");
  await w.settle();
  let s = w.last;
  s.hello();
  for (const [group, at] of [["job", "p1"], ["room"], ["hall"]]) s.say({ joined: group, outcome: "live", at });
  s.say({ left: "job" });
  s.say({ left: "room" }); // deliberately: no more is to be heard of it
  s.say({ data: { type: "left", n: 1 } });
  assert.deepEqual([left, mine, typed], [[{ group: "job" }, { group: "room" }], [{ group: "job" }], [{ type: "left", n: 1 }]]);
  s.drop();
  await w.pass(20_000);
  s = w.last;
  s.hello();
  assert.deepEqual(s.frames[0].resume, { hall: "", job: "p1" });
  s.say({ left: "hall" });
  s.drop();
  await w.pass(20_000);
  s = w.last;
  s.hello();
  assert.deepEqual(s.frames[0].resume, { hall: "", job: "p1" }, "it may be joined yet");
  s.say({ joined: "hall", outcome: "live" });
  assert.deepEqual(gaps, [{ group: "hall", reason: "away" }]);
  c.close();
});

test("what is sent while away waits, in order, and only so much of it", async (t) => {
  const w = world(t);
  const c = connect("/ws/", { queue: 3 });
  const thing = { a: 1 };
  c.send(thing);
  thing.a = 2;
  c.send("text");
  const reply = c.request([3]);
  c.on("state", ({ state }) => state === "open" && c.send("last"));
  assert.throws(() => c.send(4), (err) => err instanceof TidewayError && err.code === "full");
  await assert.rejects(c.request(5), { code: "full" });
  await w.settle();
  w.last.open();
  assert.deepEqual(w.last.frames, [{ resume: {} }], "nothing else before hello");
  w.last.say({ hello: { session: "abc", ping: 25, version: 1 } });
  assert.equal(c.session, "abc");
  const [, , , { id }] = w.last.frames;
  assert.deepEqual(w.last.frames.slice(1), [{ data: { a: 1 } }, { data: "text" }, { id, data: [3] }, { data: "last" }]);
  w.last.say({ reply: id, data: "yes" });
  assert.equal(await reply, "yes");
  w.last.drop();
  await w.pass(20_000);
  w.last.hello();
  assert.deepEqual(w.last.frames, [{ resume: {}, session: "abc" }, { data: "last" }], "nothing is sent twice");
  w.last.bufferedAmount = 2 << 20;
  assert.throws(() => c.send(1), { code: "full" });
  w.last.closing();
  c.send("a socket that is closing takes nothing");
  assert.equal(w.last.sent.length, 2);
  w.last.readyState = 1;
  assert.throws(() => c.send(new Uint8Array(3)), { code: "full" });
  w.last.bufferedAmount = 0;
  c.send(new Uint8Array(3));
  assert.deepEqual(w.last.sent.at(-1), new Uint8Array(3));
  await assert.rejects(c.request(new Uint8Array(3)), { code: "plain" });
  c.close();
});

test("a request ends in one way", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  await w.settle();
  const s = w.last;
  s.hello();
  const id = () => s.frames.at(-1).id;
  const ends = async (promise) => promise.then((v) => v, (err) => [err.name, err.code ?? err]);

  let p = c.request(1);
  s.say({ reply: id(), data: { fine: true } });
  s.say({ reply: id(), data: "again" });
  assert.deepEqual(await p, { fine: true });

  p = c.request(1);
  s.say({ reply: id(), error: { code: "no_such_thing", message: "there is none" } });
  await assert.rejects(p, (err) => err instanceof ServerError && err.code === "no_such_thing" && err.message === "tideway: there is none");

  p = ends(c.request(1, { timeout: 700 }));
  await w.pass(700);
  assert.deepEqual(await p, ["TidewayError", "timeout"]);
  s.say({ reply: id(), data: "too late" });

  const abort = new AbortController();
  p = ends(c.request(1, { signal: abort.signal }));
  abort.abort("enough");
  assert.deepEqual(await p, [undefined, "enough"]);
  assert.deepEqual(await ends(c.request(1, { signal: abort.signal })), [undefined, "enough"]);

  p = ends(c.request(1));
  s.drop();
  assert.deepEqual(await p, ["TidewayError", "lost"]);

  p = ends(c.request("waits", { timeout: 100 })); // in the queue
  w.random = 1;
  await w.pass(100);
  assert.deepEqual(await p, ["TidewayError", "timeout"]);
  await w.pass(20_000);
  w.last.hello();
  assert.equal(w.last.frames.length, 1, "what timed out is not sent any more");
  assert.deepEqual([...w.timers.values()].length, 1, "the heartbeat's timer alone");
  c.close();
});

test("groups are resumed from their newest positions, and nothing is told twice", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  const told = log(c, "tick"), gaps = log(c, "gap");
  const job = c.group("job.1");
  const mine = log(job, "tick");
  c.group("job.9", { at: "p9" });
  await w.settle();
  const one = w.last;
  one.hello();
  assert.deepEqual(one.frames, [{ resume: { "job.9": "p9" } }], "resume is the first frame, before hello");
  assert.deepEqual([c.session], ["s1"]);
  one.say({ joined: "job.1", outcome: "live" });
  one.say({ joined: "job.2", outcome: "live", at: "q0" });
  one.say({ joined: "chat", outcome: "live" });
  one.say({ group: "job.1", at: "p1", data: { type: "tick", n: 1 } });
  one.say({ group: "job.1", at: "p2", data: { type: "tick", n: 2 } });
  one.say({ group: "job.1", at: "p2", data: { type: "tick", n: 2 } });
  one.say({ group: "chat", data: { type: "tick", n: 100 } });
  assert.equal(job.at, "p2");
  const stale = one.onmessage;
  one.drop();
  stale({ data: JSON.stringify({ group: "job.1", at: "p3", data: { type: "tick", n: 3 } }) });
  assert.equal(one.onmessage, null);
  told.length = mine.length = 0;
  await w.pass(20_000);
  const two = w.last;
  two.open();
  assert.deepEqual(two.frames, [{ resume: { "job.9": "p9", "job.2": "q0", "job.1": "p2", chat: "" }, session: "s1" }]);
  two.say({ hello: { session: "s2", ping: 25, version: 1 } });
  two.say({ joined: "job.1", outcome: "resumed", replayed: 1 });
  two.say({ group: "job.1", at: "p4", data: { type: "tick", n: 4 } });
  assert.deepEqual(mine, [{ type: "tick", n: 4 }]);
  assert.deepEqual(gaps, []);
  two.say({ joined: "job.2", outcome: "gap", reason: "trimmed" });
  two.say({ joined: "chat", outcome: "live" });
  two.say({ joined: "new", outcome: "live" });
  two.say({ gap: { group: "job.1", reason: "slow" } });
  assert.deepEqual(gaps, [{ group: "job.2", reason: "trimmed" }, { group: "chat", reason: "away" }, { group: "job.1", reason: "slow" }]);
  c.close();
});

test("not more positions are kept than a connection may join groups", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  await w.settle();
  w.last.hello();
  for (let i = 0; i < 300; i++) w.last.say({ group: "g" + i, at: "p", data: 1 });
  w.last.drop();
  await w.pass(500);
  w.last.hello();
  const names = Object.keys(w.last.frames[0].resume);
  assert.deepEqual([names.length, names[0], names.at(-1)], [128, "g172", "g299"]);
  c.close();
});

test("events reach their handlers, and reserved names stay the client's own", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  const all = [], order = [];
  c.on("message", (m, meta) => all.push([m, meta]));
  const errors = log(c, "error"), states = log(c, "state"), typed = log(c, "chat.message");
  const off = c.on("chat.message", () => order.push("gone"));
  const twice = () => order.push("twice");
  c.on("chat.message", twice);
  const offTwice = c.on("chat.message", twice);
  await w.settle();
  const s = w.last;
  s.hello();
  off();
  s.say({ data: { type: "chat.message", text: "hi" } });
  offTwice();
  s.say({ group: "g", data: { type: "chat.message", text: "all" } });
  states.length = 0;
  s.say({ data: { type: "state" } });
  s.say({ data: { type: "error" } });
  s.say({ data: null });
  s.say({ error: { code: "rate_limited", message: "slower" } });
  s.say({ something: "new" });
  s.onmessage({ data: new ArrayBuffer(2) });
  s.say("no json");
  for (const odd of ["null", "7", '"text"', "[]", "{}"]) s.say(odd);
  assert.deepEqual(typed.map((m) => m.text), ["hi", "all"]);
  assert.deepEqual(order, ["twice", "twice", "twice"]);
  assert.deepEqual(all[1], [{ type: "chat.message", text: "all" }, { group: "g", at: undefined }]);
  assert.deepEqual(all[5], [new ArrayBuffer(2), {}]);
  assert.equal(all.length, 6);
  assert.deepEqual(states, []);
  assert.deepEqual(errors.map((e) => [e.name, e.code]), [["ServerError", "rate_limited"], ["TidewayError", "protocol"]]);
  c.close();
});

test("without tideway.v1 frames are what the consumer says, and requests are refused", async (t) => {
  const w = world(t);
  const c = connect("/ws/", { protocols: [] });
  const all = log(c, "message"), typed = log(c, "hello"), errors = log(c, "error");
  c.send({ a: 1 });
  c.send("as it is");
  c.send(new Uint8Array([1]));
  const early = c.request(1).catch((err) => err.code);
  await w.settle();
  w.last.open("");
  assert.equal(c.state, "open");
  assert.deepEqual(w.last.sent, ['{"a":1}', "as it is", new Uint8Array([1])]);
  assert.equal(await early, "plain");
  await assert.rejects(c.request(1), { code: "plain" });
  w.last.say({ type: "hello", group: "g", at: "p", data: 1 });
  w.last.say("not json");
  assert.deepEqual(all, [{ type: "hello", group: "g", at: "p", data: 1 }, "not json"]);
  assert.equal(typed.length, 1);
  assert.deepEqual(errors, []);
  await w.pass(600_000);
  assert.equal(w.sockets.length, 1, "silence is no sign of death here");
  assert.equal(w.last.sent.length, 3);
  c.close();
});

test("for await: what was missed is told before what comes after it", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  const job = c.group("job", { buffer: 3 });
  const seen = [];
  job.on("gap", (gap) => seen.push(gap));
  const clients = log(c, "gap");
  await w.settle();
  w.last.hello();
  const say = (n) => w.last.say({ group: "job", data: n });
  const loop = (async () => {
    for await (const m of job) seen.push(m);
    seen.push("end");
  })();
  for (let i = 0; i < 4; i++) {
    say(i);
    await w.settle();
  }
  for (let i = 4; i < 10; i++) say(i); // one goes to the waiting loop, three wait, two are lost
  await w.settle();
  assert.deepEqual(seen, [0, 1, 2, 3, 4, { group: "job", reason: "buffer", dropped: 2 }, 7, 8, 9]);
  assert.equal(clients.length, 1);
  for (let i = 20; i < 23; i++) say(i);
  c.close();
  await loop;
  assert.deepEqual(seen.slice(9), [20, 21, 22, "end"]);
  for await (const m of job) assert.fail(m);
  for await (const m of c.group("other")) assert.fail(m);
});

test("for await: leaving a loop, and a server that closes for good", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  const job = c.group("job");
  await w.settle();
  w.last.hello();
  const seen = [];
  const short = (async () => {
    for await (const m of job) {
      seen.push(m);
      if (m === 2) break;
    }
  })();
  const long = (async () => {
    for await (const m of job) seen.push("long " + m);
  })();
  for (const n of [1, 2, 3]) {
    w.last.say({ group: "job", data: n });
    await w.settle();
  }
  await short;
  assert.deepEqual(seen, [1, "long 1", 2, "long 2", "long 3"]);
  w.last.drop(4003, "go");
  await assert.rejects(long, { code: "closed", message: "tideway: closed with 4003 go" });
});

test("a group that is forgotten: its loops end, and it is not resumed", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  const job = c.group("job");
  const loop = (async () => {
    for await (const m of job) assert.equal(m, 1);
  })();
  const told = log(job, "message");
  await w.settle();
  w.last.hello();
  w.last.say({ group: "job", at: "p1", data: 1 });
  c.forget("job");
  c.forget("nothing");
  await loop;
  w.last.drop();
  await w.pass(500);
  w.last.hello();
  assert.deepEqual(w.last.frames[0].resume, {});
  w.last.say({ group: "job", at: "p2", data: 2 });
  assert.deepEqual(told, [1]);
  assert.notEqual(c.group("job"), job);
  assert.equal(c.group("job").at, "p2");
  c.close();
});

test("open() begins a client that was made to wait", async (t) => {
  const w = world(t);
  const c = connect("/ws/", { manual: true });
  c.send("early");
  await w.pass(60_000);
  assert.deepEqual([w.sockets.length, c.state], [0, "waiting"]);
  c.open();
  c.open();
  await w.settle();
  assert.equal(w.sockets.length, 1);
  c.close();
});
