// Socket.IO as a server that `tideway bench --peer` measures:
//
//   npm ci
//   tideway bench broadcast --peer socketio='node server.mjs'
//
// With --publisher outside, or with the argument redis, it starts a Redis server,
// and uses its adapter. For the figures of idle, start node with --expose-gc.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTCPServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createAdapter } from '@socket.io/redis-adapter';
import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const drainTime = 10_000; // ms, as bench has it
let publish, connections = () => 0, granted = 0, wake = () => {};
const ending = [];

const now = () => performance.timeOrigin + performance.now(); // ms since 1970
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function start(site) {
  const opened = { path: '/socket.io/?EIO=4&transport=websocket&room=%d', hello: '40', replies: 2, pids: [] };
  let broker = site.broker;
  if ((site.shared || process.argv.includes('redis')) && !broker) {
    const redis = await startRedis();
    broker = redis.addr;
    opened.pids.push(redis.pid);
  }
  opened.broker = broker;
  if (!site.serve) {
    const client = await connect(broker);
    const emitter = new Emitter(client);
    publish = (room, text) => emitter.to(`room${room}`).emit('tick', { type: 'bench.tick', text });
    return opened;
  }
  const http = createServer();
  const io = new Server(http, {
    transports: ['websocket'],
    pingInterval: 3_600_000, // the load client answers none
    perMessageDeflate: site.deflate ? { threshold: 512, serverNoContextTakeover: true, clientNoContextTakeover: true } : false,
    maxHttpBufferSize: 4 << 20,
  });
  if (broker) io.adapter(createAdapter(await connect(broker), await connect(broker)));
  io.on('connection', (socket) => socket.join(`room${Number(socket.handshake.query.room)}`));
  publish = (room, text) => io.to(`room${room}`).emit('tick', { type: 'bench.tick', text });
  connections = () => io.engine.clientsCount;
  await new Promise((done) => http.listen(0, '127.0.0.1', done));
  opened.addr = `127.0.0.1:${http.address().port}`;
  return opened;
}

async function connect(addr) {
  const client = createClient({ url: `redis://${addr}` });
  await client.connect();
  return client;
}

async function startRedis() {
  const probe = createTCPServer();
  await new Promise((done) => probe.listen(0, '127.0.0.1', done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  const dir = mkdtempSync(join(tmpdir(), 'bench-redis-'));
  const redis = spawn('redis-server', ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', dir]);
  ending.push(() => { redis.kill('SIGKILL'); rmSync(dir, { recursive: true, force: true }); });
  for await (const line of createInterface({ input: redis.stdout })) {
    if (line.includes('Ready to accept connections')) break;
  }
  return { addr: `127.0.0.1:${port}`, pid: redis.pid };
}

// stream publishes as Go's half does: what is late goes out without a pause.
async function stream(s) {
  const begin = s.start / 1e6, end = begin + s.duration / 1e6;
  const padding = 'x'.repeat(Math.max(s.size - 25, 0));
  const result = { sent: 0, failed: 0, late: 0 };
  await sleep(begin - now());
  for (let i = 0; now() < end + drainTime; i++) {
    let due = begin + (i * 1000) / s.rate;
    if (s.rate) {
      if (due >= end) break;
      if (due > now()) await sleep(due - now());
    } else {
      while (i >= granted && now() < end) await new Promise((done) => { wake = done; setTimeout(done, 50); });
      due = now();
      if (due >= end) break;
    }
    const mark = BigInt(Math.floor(due)) * 1_000_000n + BigInt(Math.floor((due % 1) * 1e6));
    publish(i % s.groups, `@due=${mark};${padding}`);
    result.sent++;
    result.late = Math.max(0, Math.round((now() - due) * 1e6));
    if (i % 16 === 15) await new Promise(setImmediate); // sockets and grants have their turn
  }
  return result;
}

async function carryOut(order) {
  if (order.start) return { opened: await start(order.start) };
  if (order.stream) return { streamed: await stream(order.stream) };
  if (order.stat) {
    if (order.stat.collect && globalThis.gc) { globalThis.gc(); globalThis.gc(); }
    return { counts: { connections: connections(), goroutines: 0, heap: process.memoryUsage().heapUsed, stack: 0 } };
  }
  throw new Error('there is no such order');
}

let turn = Promise.resolve();
const orders = createInterface({ input: process.stdin });
orders.on('line', (line) => {
  const order = JSON.parse(line);
  if (order.grant) {
    granted = order.grant;
    wake();
    return;
  }
  if (order.stream) granted = 0;
  turn = turn.then(() => carryOut(order)).catch((e) => ({ err: String(e) })).then((answer) => process.stdout.write(JSON.stringify(answer) + '\n'));
});
orders.on('close', () => {
  for (const end of ending) end();
  process.exit(0);
});
