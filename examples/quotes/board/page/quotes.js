import { connect } from "./tideway/index.js";

const shown = 30_000; // milliseconds on the chart
const drawEvery = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 100;

const $ = (id) => document.getElementById(id);
const symbols = new Map(); // by name: { points, n, first, price, row }
let selected = "";
let client = null;
let sent = 0, came = 0, skipped = 0; // sent and came since the last count
let offset = Infinity; // the server's clock and the way here, at the least

// Prices come as often as the connection allows; the page is drawn at its own pace.
function take(q) {
  let s = symbols.get(q.symbol);
  if (!s) symbols.set(q.symbol, (s = { points: [], n: q.n - 1, first: q.price, row: addRow(q.symbol) }));
  if (q.n <= s.n) return; // an older one never comes after a newer one
  sent += q.n - s.n;
  skipped += q.n - s.n - 1;
  came++;
  s.n = q.n;
  s.price = q.price;
  s.at = q.at;
  offset = Math.min(offset, Date.now() - q.at);
  const last = s.points.at(-1);
  if (last && q.at - last.at < 50) last.price = q.price; // no chart shows more
  else s.points.push({ at: q.at, price: q.price });
  while (s.points.length > 2 && s.points[1].at < q.at - shown) s.points.shift();
}

function open(slow) {
  client?.close();
  for (const s of symbols.values()) s.n = Infinity; // what is missed between two connections is not skipped
  const mine = (client = connect(slow ? "/ws/quotes/slow/" : "/ws/quotes/"));
  const fresh = new Set();
  client.on("state", ({ state }) => {
    if (mine !== client) return;
    $("state").dataset.state = state;
    $("state").textContent = state === "open" ? (slow ? "connected, slowly" : "connected") : state;
    if (state !== "open") fresh.clear();
  });
  client.on("quotes.quote", (q) => {
    if (mine !== client) return;
    const s = symbols.get(q.symbol);
    if (s && !fresh.has(q.symbol)) s.n = q.n - 1;
    fresh.add(q.symbol);
    take(q);
  });
}

function addRow(name) {
  const button = document.createElement("button");
  button.type = "button";
  const parts = { name: "span", spark: "canvas", price: "span", change: "span" };
  for (const [key, tag] of Object.entries(parts)) button.append((parts[key] = document.createElement(tag)));
  parts.name.textContent = name;
  parts.spark.setAttribute("aria-hidden", "true");
  button.addEventListener("click", () => select(name));
  const item = document.createElement("li");
  item.append(button);
  const after = [...$("symbols").children].find((li) => li.textContent > name);
  $("symbols").insertBefore(item, after ?? null);
  if (!selected) queueMicrotask(() => select(name));
  return { button, ...parts };
}

function select(name) {
  selected = name;
  for (const [n, s] of symbols) s.row.button.setAttribute("aria-pressed", String(n === name));
  $("symbol").textContent = name;
}

function tell(element, s) {
  const percent = (100 * (s.price - s.first)) / s.first;
  element.textContent = `${percent < 0 ? "−" : "+"}${Math.abs(percent).toFixed(2)} %`;
  element.className = `change ${percent < 0 ? "down" : "up"}`;
}

// fit makes a canvas as large as it is shown, and returns what to draw with.
function fit(canvas) {
  const scale = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const g = canvas.getContext("2d");
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, width, height);
  return { g, width, height };
}

// line draws points into a box and returns where the last one is.
function line(g, points, now, box, range) {
  const x = (p) => box.left + box.width * (1 - (now - p.at) / shown);
  const y = (p) => box.top + box.height * (1 - (p.price - range.low) / (range.high - range.low || 1));
  g.beginPath();
  for (const p of points) g.lineTo(Math.max(box.left, x(p)), y(p));
  const last = points.at(-1);
  return { x: x(last), y: y(last), start: Math.max(box.left, x(points[0])) };
}

function rangeOf(points) {
  let low = Infinity, high = -Infinity;
  for (const p of points) [low, high] = [Math.min(low, p.price), Math.max(high, p.price)];
  const air = Math.max((high - low) * 0.12, high * 0.0005);
  return { low: low - air, high: high + air };
}

const colors = getComputedStyle(document.documentElement); // it follows light and dark
const color = (name) => colors.getPropertyValue(name).trim();

function drawChart(s, now) {
  const { g, width, height } = fit($("chart"));
  const range = rangeOf(s.points);
  const box = { left: 0, top: 8, width: width - 64, height: height - 32 };
  g.font = '12px system-ui, "Noto Sans", "DejaVu Sans", sans-serif';
  g.textBaseline = "middle";
  for (let i = 0; i <= 4; i++) {
    const y = box.top + (box.height * i) / 4;
    g.strokeStyle = color("--line");
    g.lineWidth = 1;
    g.beginPath();
    g.moveTo(0, Math.round(y) + 0.5);
    g.lineTo(box.width, Math.round(y) + 0.5);
    g.stroke();
    g.fillStyle = color("--soft");
    g.fillText((range.high - ((range.high - range.low) * i) / 4).toFixed(2), box.width + 10, y);
  }
  for (const seconds of [30, 20, 10]) {
    g.textAlign = seconds === 30 ? "left" : "center";
    g.fillText(`−${seconds} s`, box.width * (1 - seconds / 30), height - 8);
  }
  g.textAlign = "right";
  g.fillText("now", box.width, height - 8);
  g.textAlign = "left";
  const end = line(g, s.points, now, box, range);
  g.strokeStyle = color("--accent");
  g.lineWidth = 2;
  g.lineJoin = "round";
  g.stroke();
  g.lineTo(end.x, box.top + box.height);
  g.lineTo(end.start, box.top + box.height);
  const shade = g.createLinearGradient(0, box.top, 0, box.top + box.height);
  shade.addColorStop(0, color("--accent") + "40");
  shade.addColorStop(1, color("--accent") + "00");
  g.fillStyle = shade;
  g.fill();
  g.beginPath();
  g.arc(end.x, end.y, 4, 0, 7);
  g.fillStyle = color("--accent");
  g.fill();
}

function draw() {
  const now = Date.now() - offset;
  for (const s of symbols.values()) {
    s.row.price.textContent = s.price.toFixed(2);
    tell(s.row.change, s);
    const { g, width, height } = fit(s.row.spark);
    line(g, s.points, now, { left: 0, top: 2, width, height: height - 4 }, rangeOf(s.points));
    g.strokeStyle = color(s.price < s.first ? "--down" : "--up");
    g.lineWidth = 1.25;
    g.stroke();
  }
  const s = symbols.get(selected);
  if (!s) return;
  $("price").textContent = s.price.toFixed(2);
  tell($("change"), s);
  drawChart(s, now);
}

function count() {
  $("sent").textContent = sent.toLocaleString("en");
  $("came").textContent = came.toLocaleString("en");
  $("skipped").textContent = skipped.toLocaleString("en");
  [sent, came] = [0, 0];
  const ages = [...symbols.values()].map((s) => Date.now() - offset - s.at);
  if (ages.length) $("age").textContent = Math.round(ages.reduce((a, b) => a + b) / ages.length).toLocaleString("en");
  const s = symbols.get(selected);
  if (s) $("chart").setAttribute("aria-label", `The price of ${selected} over the last 30 seconds, now ${s.price.toFixed(2)}`);
}

$("slow").addEventListener("click", () => {
  const slow = $("slow").getAttribute("aria-checked") !== "true";
  $("slow").setAttribute("aria-checked", String(slow));
  open(slow);
});

setInterval(() => requestAnimationFrame(draw), drawEvery);
setInterval(count, 1000);
open(false);
