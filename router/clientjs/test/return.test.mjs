// When a client comes back, and when it does not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../dist/index.js";
import { log, world } from "./fake.mjs";

test("the wait is random from nothing to a limit that doubles and is capped", async (t) => {
  const w = world(t);
  for (const random of [0, 0.5, 0.999]) {
    w.random = random;
    const c = connect("/ws/", { backoff: { min: 100, max: 1000 } });
    const states = log(c, "state");
    for (const limit of [100, 200, 400, 800, 1000, 1000]) {
      await w.settle();
      w.last.drop();
      const { state, delay, code } = states.at(-1);
      assert.deepEqual([state, delay, code], ["waiting", random * limit, 1006]);
      const before = w.sockets.length;
      await w.pass(delay - 1);
      if (delay > 1) assert.equal(w.sockets.length, before);
      await w.pass(1);
      assert.equal(w.sockets.length, before + 1);
    }
    c.close();
  }
});

test("after five good seconds the next wait is short again", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  const states = log(c, "state");
  for (let i = 0; i < 4; i++) {
    await w.settle();
    w.last.hello();
    await w.pass(4000);
    w.last.drop();
    await w.pass(3000);
  }
  assert.deepEqual(states.filter((s) => s.delay).map((s) => s.delay), [250, 500, 1000, 2000]);
  w.last.hello();
  await w.pass(5001);
  w.last.drop();
  assert.equal(states.at(-1).delay, 250);
  c.close();
});

test("the table of close codes", async (t) => {
  const w = world(t);
  for (const [code, state, from, to] of [
    [1000, "closed"],
    [1001, "waiting", 500, 5000],
    [1002, "waiting", 0, 500],
    [1006, "waiting", 0, 500],
    [1008, "waiting", 0, 500],
    [1009, "waiting", 0, 500],
    [1011, "waiting", 0, 500],
    [1012, "waiting", 500, 5000],
    [1013, "waiting", 5000, 15000],
    [3000, "waiting", 0, 500],
    [4000, "closed"],
    [4001, "closed"],
    [4003, "closed"],
    [4009, "closed"],
    [4099, "closed"],
    [4100, "waiting", 0, 500],
    [4101, "waiting", 0, 500],
    [4108, "waiting", 0, 500],
    [4129, "waiting", 5000, 15000],
    [4200, "waiting", 0, 500],
  ]) {
    for (const random of [0, 1]) {
      w.random = random;
      const c = connect("/ws/");
      const states = log(c, "state");
      await w.settle();
      w.last.hello();
      w.last.drop(code, "why");
      const got = states.at(-1);
      assert.deepEqual([code, got.state, got.code, got.reason], [code, state, code, "why"]);
      if (state === "waiting") assert.equal(got.delay, random ? to : from, `code ${code}`);
      else assert.equal(w.timers.size, 0, `code ${code} leaves timers`);
      c.close();
    }
  }
});

test("bye names the window, and a network that is back does not shorten it", async (t) => {
  const w = world(t, { random: 0.25 });
  const c = connect("/ws/");
  const states = log(c, "state");
  await w.settle();
  w.last.hello();
  w.last.say({ bye: { code: 1012, reconnect: [2000, 6000] } });
  assert.equal(c.state, "open", "it is the server that closes");
  w.last.drop(1012);
  assert.equal(states.at(-1).delay, 3000);
  await w.fire("online");
  c.open();
  assert.equal(c.state, "waiting");
  await w.pass(3000);
  assert.equal(w.sockets.length, 2);
  w.last.hello();
  w.last.drop();
  assert.equal(states.at(-1).delay, 0.25 * 1000, "a bye counts once");
  c.close();
});

test("a window that makes no sense is no reason to hammer, or to stay away", async (t) => {
  const w = world(t, { random: 1 });
  for (const [reconnect, want] of [[[1e12, 1e12], 300_000], [["x", {}], 0], [{}, 5000], [[-5, -1], 0], [undefined, 5000]]) {
    const c = connect("/ws/");
    const states = log(c, "state");
    await w.settle();
    w.last.hello();
    w.last.say({ bye: { code: 1012, reconnect } });
    w.last.drop(1012);
    assert.equal(states.at(-1).delay, want);
    c.close();
  }
});

test("online and a page that becomes visible end a wait", async (t) => {
  const w = world(t, { random: 1 });
  const c = connect("/ws/");
  await w.settle();
  w.last.drop();
  await w.fire("online");
  assert.equal(w.sockets.length, 2);
  w.last.drop();
  w.hidden = true;
  await w.fire("visibilitychange");
  assert.equal(w.sockets.length, 2, "it was hidden");
  w.hidden = false;
  await w.fire("visibilitychange");
  assert.equal(w.sockets.length, 3);
  await w.fire("online"); // an attempt from before may hang
  assert.equal(w.sockets.length, 4);
  assert.ok(w.sockets[2].closed);
  c.close();
});

test("an attempt that hangs is given up: opening, hello, or a callback", async (t) => {
  for (const stage of ["opening", "hello", "callback"]) {
    await t.test(stage, async (t) => {
      const w = world(t);
      const token = stage === "callback" ? () => new Promise(() => {}) : undefined;
      const c = connect("/ws/", { connectTimeout: 3000, token });
      const states = log(c, "state");
      await w.settle();
      if (stage === "hello") w.last.open();
      await w.pass(2999);
      assert.equal(c.state, "connecting");
      await w.pass(1);
      assert.deepEqual([states.at(-1).state, states.at(-1).reason], ["waiting", "no connection within 3000 ms"]);
      if (stage !== "callback") assert.ok(w.last.closed);
      c.close();
    });
  }
});

test("a server that says nothing is asked for a sign of life", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  await w.settle();
  const s = w.last;
  s.hello({ ping: 10 });
  s.sent.length = 0;
  await w.pass(6000);
  s.say({ data: 1 });
  await w.pass(6999);
  assert.deepEqual(s.frames, []);
  await w.pass(1);
  assert.deepEqual(s.frames, [{ ping: 1 }]);
  await w.pass(9999);
  s.say({ pong: 1 });
  await w.pass(1);
  assert.equal(c.state, "open");
  await w.pass(7000);
  assert.deepEqual(s.frames, [{ ping: 1 }, { ping: 1 }]);
  await w.pass(10_000); // no answer
  assert.ok(s.closed);
  assert.equal(w.sockets.length, 2, "it comes back at once");
  c.close();
});

test("a computer that slept, with and without tideway.v1", async (t) => {
  for (const protocol of ["tideway.v1", ""]) {
    for (const event of ["timer", "visibilitychange"]) {
      await t.test(`${protocol} ${event}`, async (t) => {
        const w = world(t);
        const c = connect("/ws/");
        await w.settle();
        protocol ? w.last.hello() : w.last.open("");
        await w.pass(5000);
        w.sleep(3_600_000);
        event === "timer" ? await w.pass(0) : await w.fire(event);
        assert.equal(w.sockets.length, 2, "it comes back at once");
        c.close();
      });
    }
  }
});

test("timers of a hidden page, once a minute, are no sign of sleep", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  await w.settle();
  const s = w.last;
  s.hello();
  for (let i = 0; i < 5; i++) {
    w.sleep(60_000);
    await w.pass(0);
    s.say({ pong: 1 });
    await w.settle();
  }
  assert.deepEqual([w.sockets.length, c.state], [1, "open"]);
  w.sleep(40_000); // and its user comes back to it: only a question, with less patience
  const before = s.sent.length;
  await w.fire("visibilitychange");
  assert.equal(s.sent.length, before + 1);
  await w.pass(5000);
  assert.equal(w.sockets.length, 2);
  c.close();
});

test("online while open: a question, or a new connection where nobody would answer", async (t) => {
  const w = world(t);
  const c = connect("/ws/");
  await w.settle();
  w.last.hello();
  await w.fire("online");
  assert.deepEqual(w.last.frames.slice(1), [{ ping: 1 }]);
  w.last.say({ pong: 1 });
  await w.pass(5000);
  assert.equal(w.sockets.length, 1);
  c.close();
  const plain = connect("/ws/", { protocols: [] });
  await w.settle();
  w.last.open("");
  await w.fire("online");
  assert.equal(w.sockets.length, 3);
  plain.close();
});

test("close() is final: no timer, no listener, no socket, no answer", async (t) => {
  const w = world(t);
  const stages = {
    "at once": () => {},
    connecting: () => w.settle(),
    open: async () => (await w.settle(), w.last.hello()),
    asked: async () => (await w.settle(), w.last.hello(), w.pass(26_000)),
    waiting: async () => (await w.settle(), w.last.drop()),
  };
  for (const [name, reach] of Object.entries(stages)) {
    const c = connect("/ws/", { token: () => ({ token: "x", expiresIn: 60 }) });
    const pending = c.request("hello?").catch((err) => err.code);
    await reach();
    const states = log(c, "state");
    c.close();
    c.close();
    c.open();
    await w.pass(3_600_000);
    assert.deepEqual([name, w.timers.size, w.listeners.size], [name, 0, 0]);
    assert.deepEqual(states, [{ state: "closed", code: 1000, reason: "" }]);
    assert.ok(["closed", "timeout"].includes(await pending));
    assert.throws(() => c.send(1), { code: "closed" });
    await assert.rejects(c.request(1), { code: "closed" });
    if (name !== "at once" && name !== "waiting") assert.deepEqual(w.last.closed, { code: 1000, reason: "" });
  }
});
