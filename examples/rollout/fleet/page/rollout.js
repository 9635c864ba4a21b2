// The page of the rollout example. What it shows is made of the events of the
// rollout's job alone, so it does not matter when they come, or how often the
// connection is lost in between: the client goes on behind the last one.
import { connect } from "/rollout/tideway/index.js";

const $ = (id) => document.getElementById(id);
const shown = $("rollout");
const id = shown?.dataset.id;
const client = connect(new URL("/rollout/ws/" + (id ? id + "/" : ""), location.href.replace(/^http/, "ws")).href);

// The connection.

let tries = 0;
let due = 0;

client.on("state", ({ state, delay }) => {
  if (state === "open") tries = 0;
  if (state === "waiting" && ++tries > 1) stillLoggedIn();
  due = state === "waiting" ? Date.now() + delay : 0;
  showState(state);
});
addEventListener("online", () => showState(client.state));
addEventListener("offline", () => showState(client.state));
$("again").addEventListener("click", () => client.open());

function showState(state) {
  const line = $("state");
  const seconds = Math.ceil((due - Date.now()) / 1000);
  const offline = !navigator.onLine && state !== "open";
  const words = {
    connecting: ["connecting", tries ? "reconnecting" : "connecting"],
    open: ["connected", "live"],
    waiting: ["reconnecting", offline ? "offline" : seconds > 0 ? `back in ${seconds} s` : "reconnecting"],
    closed: ["closed", "logged out"],
  };
  const [name, text] = words[state] ?? words.connecting;
  if (line.dataset.state !== name) line.dataset.state = name;
  if (line.textContent !== text) line.textContent = text;
  $("again").hidden = state !== "waiting";
  if (state === "closed") location.reload(); // to the login
}
setInterval(() => due && showState(client.state), 1000);

// A browser does not say why a socket was refused.
async function stillLoggedIn() {
  try {
    const answer = await fetch("/rollout/whoami");
    if (answer.ok && (await answer.text()) === "") location.reload();
  } catch {
    // the server is away, and the client tries on
  }
}

// Times.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

function ago(date) {
  const minutes = Math.floor((Date.now() - date) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 12 * 60) return `${Math.floor(minutes / 60)} h ago`;
  return day.format(date);
}

function showTimes() {
  for (const t of document.querySelectorAll("time[datetime]")) {
    const date = new Date(t.dateTime);
    const text = "clock" in t.dataset ? clock.format(date) : ago(date);
    if (t.textContent !== text) t.textContent = text;
    t.title = date.toLocaleString();
  }
}
showTimes();
setInterval(showTimes, 20_000);

function took(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  return s < 60 ? `${s} s` : `${Math.floor(s / 60)} min ${s % 60} s`;
}

// The history: who starts a rollout anywhere, and how it ends.

const ended = ["succeeded", "failed", "cancelled", "dead"];
const plural = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

client.on("job.index", (m) => {
  if (m.kind !== "rollout") return;
  let item = document.querySelector(`#history li[data-id="${CSS.escape(m.id)}"]`);
  if (item && ended.includes(item.querySelector(".dot").dataset.state)) return;
  if (!item) {
    item = historyItem(m);
    const later = [...document.querySelectorAll("#history li")].find((li) => li.querySelector("time").dateTime < m.submitted);
    $("history").insertBefore(item, later ?? null);
    $("no-history").hidden = true;
    showTimes();
  }
  mark(item, m.state);
});

function mark(item, state) {
  item.querySelector(".dot").dataset.state = state;
  item.querySelector(".verdict-word").textContent = state;
}

function historyItem(m) {
  const item = element("li", { id: m.id });
  const link = element("a");
  link.href = `/rollout/r/${m.id}/`;
  if (m.id === id) link.setAttribute("aria-current", "page");
  const time = element("time");
  time.dateTime = m.submitted;
  const meta = element("span", {}, "meta");
  meta.append(`${plural(m.targets ?? 0, "server")} · ${m.by} · `, time, m.retry_of ? " · retry" : "");
  link.append(element("span", {}, "dot"), " ", element("span", {}, "what", m.title), " ", element("span", {}, "verdict-word"), " ", meta);
  item.append(link);
  return item;
}

function element(name, data = {}, className = "", text = "") {
  const e = document.createElement(name);
  Object.assign(e.dataset, data);
  if (className) e.className = className;
  if (text) e.textContent = text;
  return e;
}

// One rollout.

if (shown) watch();
if ($("start")) picker();

function watch() {
  const rollout = { state: "queued", attempt: 0, done: 0, events: 0 };
  const targets = new Map();
  for (const button of document.querySelectorAll("#servers button")) {
    targets.set(button.dataset.target, {
      button, state: "waiting", done: 0, total: 0, last: "", error: "", changed: true,
      bar: button.querySelector("progress"), word: button.querySelector(".word"), line: button.querySelector(".last"),
    });
    button.addEventListener("click", () => filter(filtered === button.dataset.target ? "" : button.dataset.target));
  }

  // The verdict that the server has written stays until the past is here.
  let expected = Infinity;
  let waiting;
  const group = client.group("job." + id);
  group.on("joined", ({ replayed = 0 }) => {
    expected = rollout.events + replayed;
    later();
  });
  group.on("gap", () => location.reload()); // what is missing is kept: begin anew
  group.on("message", (e, { at }) => {
    rollout.events++;
    apply(e, at);
    later();
  });

  function later() {
    waiting ??= setTimeout(() => {
      waiting = undefined;
      render();
    }, rollout.events < expected ? 250 : 30);
  }

  const lines = []; // that are not in the page yet

  function apply(e, at) {
    const t = targets.get(e.target);
    switch (e.event) {
      case "queued":
        rollout.state = "queued";
        return;
      case "started":
        rollout.state = "running";
        rollout.attempt = e.attempt;
        rollout.started ??= Date.parse(e.at);
        write(e, at, e.attempt === 1 ? `${e.worker} begins` : `${e.worker} goes on: attempt ${e.attempt}`);
        return;
      case "log":
        if (t) change(t, { last: e.text });
        write(e, at, e.text);
        return;
      case "progress":
        if (t) change(t, { done: e.done ?? 0, total: e.total });
        return;
      case "target":
        if (!t) return;
        change(t, { state: e.state, error: e.error ?? "" });
        if (e.state === "running") write(e, at, "begins");
        else write(e, at, e.state === "succeeded" ? "updated" : `failed: ${e.error}`);
        return;
      case "retrying":
      case "released":
      case "requeued":
        rollout.state = rollout.state === "cancelling" ? "cancelling" : "queued";
        write(e, at, e.error ? `interrupted: ${e.error}` : "handed back; another worker goes on");
        return;
      case "cancelling":
        rollout.state = "cancelling";
        write(e, at, `${e.by} cancels`);
        return;
      case "ended":
        if (ended.includes(rollout.state)) return;
        end(e);
        write(e, at, { succeeded: "done", failed: "failed", cancelled: `cancelled by ${e.by}`, dead: "given up" }[e.state]);
        return;
      case "retried":
        rollout.next = e.next;
        write(e, at, `${e.by} retries what failed`);
    }
  }

  function change(t, what) {
    Object.assign(t, what, { changed: true });
  }

  function end(e) {
    rollout.state = e.state;
    rollout.error = e.error;
    rollout.by = e.by;
    rollout.ended = Date.parse(e.at);
    for (const t of targets.values()) {
      if (t.state === "running") change(t, { state: "skipped", error: "stopped half-way" });
      else if (t.state === "waiting") change(t, { state: "skipped", error: "not begun" });
    }
  }

  function write(e, at, text) {
    const li = element("li", { at, event: e.event });
    if (e.target) li.dataset.target = e.target;
    if (e.state) li.dataset.state = e.state;
    li.append(element("time", {}, "", clock.format(new Date(e.at))), " ", element("b", {}, "", e.target ?? "rollout"), " ", element("span", {}, "", text));
    li.hidden = filtered !== "" && filtered !== e.target;
    lines.push(li);
  }

  // What the page shows.

  const log = $("log");
  const scroll = $("scroll");
  const finished = document.title;
  let filtered = "";
  let sticks = true;

  const words = { waiting: "to come", skipped: "", succeeded: "updated", failed: "failed" };
  const badges = { queued: "waiting", running: "running", cancelling: "cancelling", succeeded: "done", failed: "failed", cancelled: "cancelled", dead: "given up" };

  function render() {
    if (lines.length) {
      $("no-lines").hidden = true;
      log.append(...lines.splice(0));
      showCount();
      if (sticks) scroll.scrollTop = scroll.scrollHeight;
      else $("newest").hidden = false;
    }
    const count = { succeeded: 0, failed: 0, running: 0, waiting: 0, skipped: 0 };
    for (const t of targets.values()) {
      count[t.state]++;
      if (t.changed) renderTarget(t);
    }
    for (const li of document.querySelectorAll("#counts [data-state]")) {
      const n = count[li.dataset.state] + (li.dataset.state === "waiting" ? count.skipped : 0);
      li.querySelector("b").textContent = n;
      li.classList.toggle("none", n === 0);
      if (li.dataset.state === "waiting" && rollout.ended) li.lastChild.textContent = " not updated";
    }
    let begun = 0; // of those that are not through
    for (const t of targets.values()) if (t.state === "running" || t.state === "skipped") begun += t.total ? t.done / t.total : 0;
    const parts = { succeeded: count.succeeded, failed: count.failed, running: begun };
    for (const i of $("stack").children) i.style.width = `${(100 * parts[i.dataset.state]) / targets.size}%`;
    const sum = count.succeeded + count.failed + begun;
    $("total").max = targets.size;
    $("total").value = sum;
    $("percent").textContent = `${Math.floor((100 * sum) / targets.size)} %`;
    if (rollout.events >= expected) renderState(count);
  }

  function renderTarget(t) {
    t.changed = false;
    t.button.dataset.state = t.state;
    t.bar.max = t.total || 1;
    t.bar.value = t.state === "succeeded" ? t.bar.max : t.done;
    t.word.textContent = t.state === "running" ? (t.total ? `${t.done}/${t.total}` : "begins") : words[t.state];
    const text = t.error || (t.state === "succeeded" ? t.last.replace(/^\w+: /, "") : t.last);
    t.line.textContent = text;
    t.line.title = text;
  }

  function renderState(count) {
    const { state } = rollout;
    if (shown.dataset.state !== state || !$("badge").dataset.ready) {
      shown.dataset.state = $("badge").dataset.state = $("verdict").dataset.state = state;
      $("badge").dataset.ready = "yes";
      $("badge").textContent = badges[state];
      const item = document.querySelector(`#history li[data-id="${CSS.escape(id)}"]`);
      if (item) mark(item, state);
    }
    const verdict = sentence(count);
    if ($("verdict").textContent !== verdict) $("verdict").textContent = verdict;
    document.title = ended.includes(state) ? `${badges[state]} · ${finished}` : `${$("percent").textContent} · ${finished}`;
    $("no-lines").textContent = state === "queued" ? "It waits for a worker." : "";
    showElapsed();
    const over = ended.includes(state);
    if ($("cancel")) {
      $("cancel").hidden = over || state === "cancelling";
      $("retry").hidden = !over || state === "succeeded" || !!rollout.next;
      $("retry").querySelector("button").textContent = `Retry ${plural(targets.size - count.succeeded, "server")}`;
    }
    $("next").hidden = !rollout.next;
    if (rollout.next) $("next").href = `/rollout/r/${rollout.next}/`;
  }

  function sentence(count) {
    const time = took(rollout.ended - (rollout.started ?? rollout.ended));
    const of = `${count.succeeded} of ${plural(targets.size, "server")} updated`;
    const left = count.skipped ? `, ${count.skipped} left as ${count.skipped === 1 ? "it was" : "they were"}` : "";
    switch (rollout.state) {
      case "succeeded":
        return `Done: ${plural(count.succeeded, "server")} updated in ${time}.`;
      case "failed":
        return `Failed: ${of}, ${count.failed} failed${left}.`;
      case "cancelled":
        return `Cancelled by ${rollout.by}: ${of}${count.failed ? `, ${count.failed} failed` : ""}${left}.`;
      case "dead":
        return `Given up: ${of}${left}. ${rollout.error}`;
    }
    return "";
  }

  function showElapsed() {
    const from = rollout.started;
    $("elapsed").textContent = from ? took((rollout.ended ?? Date.now()) - from) : "";
  }
  setInterval(() => rollout.ended || showElapsed(), 1000);

  function filter(name) {
    filtered = name;
    for (const t of targets.values()) t.button.setAttribute("aria-pressed", String(t.button.dataset.target === name));
    for (const li of log.children) li.hidden = name !== "" && li.dataset.target !== name;
    $("log-name").textContent = name || "All lines";
    $("all").hidden = name === "";
    showCount();
    toEnd();
    if (name && matchMedia("(max-width: 699px)").matches) document.querySelector(".lines").scrollIntoView();
  }

  function showCount() {
    let n = log.children.length;
    if (filtered) n = [...log.children].filter((li) => !li.hidden).length;
    $("log-count").textContent = n ? plural(n, "line") : "";
  }

  function toEnd() {
    sticks = true;
    $("newest").hidden = true;
    scroll.scrollTop = scroll.scrollHeight;
  }

  scroll.addEventListener("scroll", () => {
    sticks = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 24;
    if (sticks) $("newest").hidden = true;
  });
  $("newest").addEventListener("click", toEnd);
  $("all").addEventListener("click", () => filter(""));

  // What is pressed shows on the page by the events that it leads to.
  $("cancel")?.addEventListener("submit", async (e) => {
    e.preventDefault();
    const button = e.target.querySelector("button");
    button.disabled = true;
    try {
      const answer = await fetch(e.target.action, { method: "POST" });
      if (!answer.ok) throw new Error(answer.status);
    } catch {
      e.target.submit(); // which shows what is wrong
    }
    button.disabled = false;
  });
}

// The form.

function picker() {
  const boxes = [...document.querySelectorAll("#start [name=server]")];
  const regions = [...document.querySelectorAll("#start .region")];
  const show = () => {
    const n = boxes.filter((b) => b.checked).length;
    $("picked").textContent = plural(n, "server");
    $("go").disabled = n === 0;
    for (const r of regions) {
      const own = boxes.filter((b) => r.contains(b));
      const on = own.filter((b) => b.checked).length;
      const whole = r.querySelector(".whole");
      whole.checked = on === own.length;
      whole.indeterminate = on > 0 && on < own.length;
    }
  };
  const set = (which, on) => {
    for (const b of which) b.checked = on;
    show();
  };
  for (const r of regions) {
    r.querySelector(".whole").addEventListener("change", (e) => set(boxes.filter((b) => r.contains(b)), e.target.checked));
  }
  for (const b of boxes) b.addEventListener("change", show);
  $("everything").addEventListener("click", () => set(boxes, true));
  $("nothing").addEventListener("click", () => set(boxes, false));
  addEventListener("pageshow", show);
  show();
}
