// The client and a real server, with real faults.
import assert from "node:assert/strict";
import { test } from "node:test";
import { build, count, open, Proxy, Server, until } from "./live.mjs";

const gaps = (c) => c.told.filter(([event]) => event === "gap").map(([, gap]) => gap);
const states = (c) => c.told.filter(([event]) => event === "state").map(([, s]) => s);
const outcomes = (c) => c.told.filter(([event]) => event === "joined").map(([, j]) => j.outcome);

test("with a real server", async (t) => {
  build(t);
  const server = await Server.start(t);

  await t.test("a server is killed and started again: no line is missing, none comes twice", async (t) => {
    const mine = await Server.start(t);
    const c = open(t, mine.url + "/ws/group/job.1");
    await until("it has joined", () => outcomes(c).length === 1);
    await mine.publish("job.1", 1, 50);
    await until("50 lines", () => c.lines.length === 50);
    await mine.kill();
    await until("it waits", () => c.state !== "open");
    await mine.up();
    await mine.publish("job.1", 51, 100);
    await until("100 lines", () => c.lines.length >= 100);
    assert.deepEqual(c.lines, count(1, 100));
    assert.deepEqual([gaps(c), outcomes(c)], [[], ["live", "resumed"]]);
  });

  await t.test("a server that is asked to end says when to come back", async (t) => {
    const mine = await Server.start(t);
    const c = open(t, mine.url + "/ws/group/job.1");
    await until("it has joined", () => outcomes(c).length === 1);
    await mine.publish("job.1", 1, 3);
    await mine.kill("SIGTERM");
    await until("it waits", () => c.state === "waiting");
    const { code, delay } = states(c).find((s) => s.state === "waiting");
    assert.equal(code, 1012);
    assert.ok(delay >= 500 && delay <= 8000, `the wait is ${delay} ms`);
    await mine.up();
    await mine.publish("job.1", 4, 6);
    await until("6 lines", () => c.lines.length >= 6);
    assert.deepEqual([c.lines, gaps(c)], [count(1, 6), []]);
  });

  await t.test("a line that is cut again and again", async (t) => {
    const proxy = await Proxy.start(t, server.port);
    const c = open(t, proxy.url + "/ws/group/job.cut");
    await until("it has joined", () => outcomes(c).length === 1);
    for (let n = 1; n <= 400; n += 10) {
      await server.publish("job.cut", n, n + 9);
      if (n % 80 === 1) proxy.cut();
    }
    await until("400 lines", () => c.lines.length >= 400);
    assert.deepEqual([c.lines, gaps(c)], [count(1, 400), []]);
    assert.ok(outcomes(c).slice(1).every((o) => o === "resumed"));
  });

  await t.test("a line that goes silent without an end", async (t) => {
    const mine = await Server.start(t, "-ping", "1s");
    const proxy = await Proxy.start(t, mine.port);
    const c = open(t, proxy.url + "/ws/group/job.1", { grace: 5000 });
    await until("it has joined", () => outcomes(c).length === 1);
    await mine.publish("job.1", 1, 5);
    await until("5 lines", () => c.lines.length === 5);
    await new Promise((resolve) => setTimeout(resolve, 5500));
    assert.deepEqual(states(c).map((s) => s.state), ["open"], "silence alone is no end: the server answers");
    proxy.silence();
    await mine.publish("job.1", 6, 10);
    await until("10 lines", () => c.lines.length >= 10);
    assert.deepEqual([c.lines, gaps(c)], [count(1, 10), []]);
    assert.equal(states(c).find((s) => s.state === "waiting").reason, "no sign of life");
  });

  await t.test("what is gone is a gap", async (t) => {
    const proxy = await Proxy.start(t, server.port);
    const c = open(t, proxy.url + "/ws/group/few.1");
    await until("it has joined", () => outcomes(c).length === 1);
    await server.publish("few.1", 1, 3);
    await until("3 lines", () => c.lines.length === 3);
    proxy.refuse = true;
    proxy.cut();
    await server.publish("few.1", 4, 100);
    proxy.refuse = false;
    await until("it says so", () => gaps(c).length === 1);
    assert.deepEqual(gaps(c), [{ group: "few.1", reason: "trimmed" }]);
    await server.publish("few.1", 101, 102);
    await until("what comes now", () => c.lines.at(-1) === 102);
  });

  await t.test("a group that keeps nothing: coming back is a gap", async (t) => {
    const proxy = await Proxy.start(t, server.port);
    const c = open(t, proxy.url + "/ws/group/chat");
    await until("it has joined", () => outcomes(c).length === 1);
    proxy.cut();
    await until("it is back", () => outcomes(c).length === 2);
    assert.deepEqual(gaps(c), [{ group: "chat", reason: "away" }]);
    await server.publish("chat", 1, 2);
    await until("2 lines", () => c.lines.length === 2);
  });

  await t.test("a position from another page goes on there; a forged one is a gap", async (t) => {
    const one = open(t, server.url + "/ws/group/job.page");
    await until("it has joined", () => outcomes(one).length === 1);
    await server.publish("job.page", 1, 10);
    const group = one.group("job.page");
    await until("10 lines", () => one.lines.length === 10);
    one.close();
    await server.publish("job.page", 11, 12);
    const two = open(t, server.url + "/ws/group/job.page");
    two.group("job.page", { at: group.at });
    await until("2 lines", () => two.lines.length === 2);
    assert.deepEqual([two.lines, outcomes(two)], [[11, 12], ["resumed"]]);
    const three = open(t, server.url + "/ws/group/job.page");
    three.group("job.page", { at: group.at.replace(/./g, "A") });
    await until("it says so", () => gaps(three).length === 1);
    assert.deepEqual(gaps(three), [{ group: "job.page", reason: "reset" }]);
  });

  await t.test("for await over a group, through a cut", async (t) => {
    const proxy = await Proxy.start(t, server.port);
    const c = open(t, proxy.url + "/ws/group/job.loop");
    const seen = [];
    const loop = (async () => {
      for await (const m of c.group("job.loop")) if (seen.push(m.n) === 20) break;
    })();
    await until("it has joined", () => outcomes(c).length === 1);
    await server.publish("job.loop", 1, 10);
    await until("10 lines", () => c.lines.length === 10);
    proxy.cut();
    await server.publish("job.loop", 11, 20);
    await loop;
    assert.deepEqual(seen, count(1, 20));
  });

  await t.test("requests: replies, refusals, timeouts, a lost connection", async (t) => {
    const proxy = await Proxy.start(t, server.port);
    const c = open(t, proxy.url + "/ws/group/chat");
    assert.deepEqual(await c.request({ echo: { a: ["ü", 1] } }), { a: ["ü", 1] }, "asked before the connection is there");
    await assert.rejects(c.request({ fail: "no_such_thing" }), { name: "ServerError", code: "no_such_thing" });
    await assert.rejects(c.request({ wait: 2000 }, { timeout: 100 }), { code: "timeout" });
    await assert.rejects(c.request({ wait: 2000 }, { signal: AbortSignal.timeout(100) }), { name: "TimeoutError" });
    const lost = assert.rejects(c.request({ wait: 5000 }), { code: "lost" });
    await new Promise((resolve) => setTimeout(resolve, 100));
    proxy.cut();
    await lost;
    c.send({ fail: "shown" });
    await until("the refusal of what asks for no reply", () => c.told.some(([event, err]) => event === "error" && err.code === "shown"));
    assert.equal(await c.request({ echo: "again" }), "again");
  });

  await t.test("close codes of a real server", async (t) => {
    for (const [code, state] of [[4003, "closed"], [1000, "closed"], [4108, "waiting"], [1011, "waiting"]]) {
      const c = open(t, server.url + "/ws/group/chat");
      await until("it is open", () => c.state === "open");
      c.request({ close: code }).catch(() => {});
      await until("it is told", () => states(c).some((s) => s.code === code));
      assert.deepEqual(states(c).find((s) => s.code === code).state, state);
      c.close();
    }
  });

  await t.test("a consumer without tideway.v1", async (t) => {
    const proxy = await Proxy.start(t, server.port);
    const c = open(t, proxy.url + "/ws/mirror", { protocols: [] });
    const got = [];
    c.on("message", (m) => got.push(m));
    c.send({ type: "thing", n: 1 });
    c.send("words");
    c.send(new Uint8Array([1, 2]));
    await until("3 messages", () => got.length === 3);
    assert.deepEqual(got, [{ type: "thing", n: 1 }, "words", new Uint8Array([1, 2]).buffer]);
    proxy.cut();
    await until("it has waited", () => states(c).some((s) => s.state === "waiting"));
    c.send("again");
    await until("it is back", () => got.length === 4);
    c.send("restart");
    await until("it waits", () => states(c).at(-1).code === 1012);
  });

  await t.test("binary messages beside tideway.v1", async (t) => {
    const c = open(t, server.url + "/ws/mirror");
    const got = [];
    c.on("message", (m) => got.push(m));
    c.send({ a: 1 });
    c.send("words");
    c.send(new Uint8Array([1, 2]));
    await until("3 messages", () => got.length === 3);
    assert.deepEqual(got, [{ a: 1 }, "words", new Uint8Array([1, 2]).buffer]);
  });

  await t.test("a token is shown, and renewed before it expires", async (t) => {
    let n = 0;
    const c = open(t, server.url + "/ws/private", { token: () => ({ token: "ada:5", expiresIn: ++n && 2 }) });
    await until("the server knows it", () => c.state === "open");
    await until("more renewals than the first token's time holds", () => n === 5);
    assert.deepEqual(states(c).map((s) => s.state), ["open"], "the connection outlives its first token");
    assert.equal(await c.request("who am I?"), "ada");
    assert.deepEqual(c.told.filter(([event]) => event === "error"), []);
  });

  await t.test("a token that is refused in-band is an error, and the connection stays", async (t) => {
    let n = 0;
    const c = open(t, server.url + "/ws/private", { token: () => ({ token: ++n > 1 ? "nonsense" : "ada:60", expiresIn: 0.5 }) });
    await until("it is refused", () => c.told.some(([event, err]) => event === "error" && err.code === "unauthorized"));
    assert.equal(c.state, "open");
  });

  await t.test("an expired token that was not renewed: back with a new one", async (t) => {
    let n = 0;
    const c = open(t, server.url + "/ws/private", { token: () => `bob${++n}:1` });
    const users = [];
    c.on("user", (m) => users.push(m.id));
    await until("it is back", () => users.length === 2);
    assert.deepEqual(users, ["bob1", "bob2"]);
    assert.equal(states(c).find((s) => s.state === "waiting").code, 4101);
  });

  await t.test("a token as the first frame: in at once, renewed, and back with it", async (t) => {
    const proxy = await Proxy.start(t, server.port);
    let n = 0;
    const c = open(t, proxy.url + "/login/private", { tokenIn: "frame", token: () => ({ token: "ada:5", expiresIn: ++n && 1 }) });
    assert.equal(await c.request("who am I? asked before the login"), "ada");
    await until("more renewals than the first token's time holds", () => n === 7);
    assert.deepEqual(states(c).map((s) => s.state), ["open"], "the connection outlives its first token");
    proxy.cut();
    await until("it is back", () => states(c).filter((s) => s.state === "open").length === 2);
    assert.equal(await c.request("who am I?"), "ada");
    assert.deepEqual(c.told.filter(([event]) => event === "error"), []);
  });

  await t.test("a group goes on behind a login by the first frame", async (t) => {
    const proxy = await Proxy.start(t, server.port);
    const c = open(t, proxy.url + "/login/group/job.login", { tokenIn: "frame", token: () => "ada:60" });
    await until("it is a member", () => c.told.some(([event]) => event === "joined"));
    await server.publish("job.login", 1, 10);
    await until("10 lines", () => c.lines.length === 10);
    proxy.cut();
    await server.publish("job.login", 11, 20);
    await until("20 lines", () => c.lines.length === 20);
    assert.deepEqual(c.lines, count(1, 20));
    assert.deepEqual(c.told.filter(([event]) => event === "gap"), []);
  });

  await t.test("a first frame whose token is refused, and one that cannot be checked", async (t) => {
    const c = open(t, server.url + "/login/private", { tokenIn: "frame", token: () => "nonsense" });
    await until("it is closed", () => c.state === "closed");
    assert.deepEqual(c.told.map(([event, e]) => [event, e.code]), [["error", "unauthorized"], ["state", 4001]]);

    const tokens = ["later", "ada:60"];
    const d = open(t, server.url + "/login/private", { tokenIn: "frame", token: () => tokens.shift() });
    d.send("kept until the login");
    await until("it waits", () => d.state === "waiting");
    const { code, delay } = states(d).at(-1);
    assert.equal(code, 1013);
    assert.ok(delay >= 5000 && delay <= 15000, "as long as an overloaded server wants");

    // A server that does not demand a login takes it as one over the open connection.
    const e = open(t, server.url + "/ws/mirror", { tokenIn: "frame", token: () => "ada:60" });
    const got = [];
    e.on("message", (m) => got.push(m));
    e.send({ n: 1 });
    await until("it is in", () => got.length === 1);
  });

  await t.test("another process adds the connection to groups, and takes it out", async (t) => {
    const proxy = await Proxy.start(t, server.port);
    const c = open(t, proxy.url + "/ws/guest");
    const names = [];
    c.on("name", (m) => names.push(m.channel));
    const order = [];
    for (const event of ["joined", "left", "gap"]) c.on(event, (e) => order.push([event, e.group, e.outcome ?? e.reason ?? ""].join(" ").trim()));
    c.on("line", (m) => order.push("line " + m.n));
    const change = (verb, group, channel) => server.post(`/members/${verb}/${group}?channel=${encodeURIComponent(channel)}`);
    await until("its name", () => names.length === 1);
    await change("add", "room", names[0]);
    await server.publish("room", 1, 1);
    await until("a line", () => order.length === 2);
    await change("discard", "room", names[0]);
    await server.publish("job.guest", 1, 2);
    await change("add", "job.guest", names[0]);
    await server.publish("job.guest", 3, 3);
    await until("another", () => c.lines.length === 2);
    assert.deepEqual(order, ["joined room live", "line 1", "left room", "joined job.guest live", "line 3"]);
    order.length = 0;
    proxy.cut();
    await server.publish("job.guest", 4, 5);
    await until("it is told that it is in no group", () => order.length === 1);
    await change("add", "job.guest", names[1]);
    await until("it goes on", () => c.lines.length === 4);
    assert.deepEqual(order, ["left job.guest", "joined job.guest resumed", "line 4", "line 5"]);
  });

  await t.test("a ticket for each connection", async (t) => {
    const proxy = await Proxy.start(t, server.port);
    let asked = 0;
    const c = open(t, proxy.url + "/ws/private", { ticket: () => (asked++, server.post("/ticket")) });
    const users = [];
    c.on("user", (m) => users.push(m.id));
    await until("the server knows it", () => users.length === 1);
    proxy.cut();
    await until("it is back", () => users.length === 2);
    assert.equal(asked, 2);
  });

  await t.test("a handshake that is refused is tried again, not for ever at once", async (t) => {
    const c = open(t, server.url + "/ws/private");
    await until("three attempts", () => states(c).filter((s) => s.state === "waiting").length === 3);
    assert.ok(states(c).every((s) => s.state !== "open"));
  });
});
