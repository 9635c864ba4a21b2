// A real server, and a proxy before it, for the tests of real faults.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";
import { connect } from "../dist/index.js";

const here = fileURLToPath(new URL(".", import.meta.url));
let program;

/** build makes the server's program, once. */
export function build(t) {
  const dir = mkdtempSync(join(tmpdir(), "tideway-server-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  program = join(dir, "server");
  execFileSync("go", ["build", "-o", program, "./server"], { cwd: here, stdio: "inherit" });
}

/** Server is a process that can be killed, and started again at the same address on the same store. */
export class Server {
  #process;

  static async start(t, ...args) {
    const s = new Server();
    const store = mkdtempSync(join(tmpdir(), "tideway-store-"));
    s.args = ["-store", store, ...args];
    s.port = await freePort();
    t.after(async () => {
      await s.kill();
      rmSync(store, { recursive: true, force: true });
    });
    await s.up();
    return s;
  }

  async up() {
    let log = "";
    const p = (this.#process = spawn(program, ["-addr", "127.0.0.1:" + this.port, ...this.args], { stdio: ["ignore", "pipe", "pipe"] }));
    p.stderr.on("data", (d) => (log += d));
    await new Promise((resolve, reject) => {
      p.stdout.once("data", resolve);
      p.once("exit", (code) => reject(new Error(`the server ended with ${code}:\n${log}`)));
    });
  }

  get url() {
    return "ws://127.0.0.1:" + this.port;
  }

  async kill(signal = "SIGKILL") {
    const p = this.#process;
    if (p.exitCode !== null || p.signalCode !== null) return;
    const exit = once(p, "exit");
    p.kill(signal);
    await exit;
  }

  async post(path) {
    const r = await fetch(`http://127.0.0.1:${this.port}${path}`, { method: "POST" });
    if (!r.ok) throw new Error(`${path}: ${r.status} ${await r.text()}`);
    return r.text();
  }

  publish(group, from, to) {
    return this.post(`/publish/${group}?from=${from}&to=${to}`);
  }
}

async function freePort() {
  const s = net.createServer().listen(0, "127.0.0.1");
  await once(s, "listening");
  const { port } = s.address();
  s.close();
  await once(s, "close");
  return port;
}

/** Proxy passes TCP on, until it cuts, or goes silent: then it passes nothing, and closes nothing. */
export class Proxy {
  #links = new Set();
  refuse = false; // whoever comes is sent away

  static async start(t, port) {
    const p = new Proxy();
    const server = net.createServer((from) => {
      if (p.refuse) return from.destroy();
      const to = net.connect(port, "127.0.0.1");
      const link = { from, to };
      p.#links.add(link);
      from.pipe(to).pipe(from);
      for (const s of [from, to]) {
        s.on("error", () => {});
        s.on("close", () => {
          p.#links.delete(link);
          from.destroy();
          to.destroy();
        });
      }
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    p.url = "ws://127.0.0.1:" + server.address().port;
    t.after(() => {
      p.cut();
      server.close();
    });
    return p;
  }

  cut() {
    for (const { from, to } of this.#links) {
      from.destroy();
      to.destroy();
    }
  }

  silence() {
    for (const { from, to } of this.#links) {
      from.unpipe(to);
      to.unpipe(from);
      from.resume();
      to.resume();
    }
  }
}

/** open makes a client that ends with the test, and collects what it tells. */
export function open(t, url, options) {
  const c = connect(url, { WebSocket, backoff: { min: 50, max: 500 }, ...options });
  t.after(() => c.close());
  c.told = [];
  for (const event of ["state", "joined", "left", "gap", "error"]) c.on(event, (e) => c.told.push([event, e]));
  c.lines = [];
  c.on("line", (m) => c.lines.push(m.n));
  return c;
}

/** until waits for a condition, 20 s at most. */
export async function until(what, condition) {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error("not within 20 s: " + what);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export const count = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
