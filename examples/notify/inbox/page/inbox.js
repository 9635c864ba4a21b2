import { connect } from "/inbox/tideway/index.js";

const $ = (id) => document.getElementById(id);
const page = $("inbox").dataset;
const log = $("log");

// The page was rendered at a place in the user's group. The client goes on there,
// and, after each lost connection, behind the last message that it showed.
const client = connect("/inbox/ws/");
const inbox = client.group(page.group, { at: page.at });

inbox.on("notify.message", (m) => {
  const line = element("li", "", "unread");
  line.append(element("span", m.text ?? ""));
  if (m.sent) line.append(stamp(element("time"), m.sent));
  log.prepend(line);
  count();
});
// All but the newest few have been seen, in this window or in another.
inbox.on("notify.read", ({ left = 0 }) => {
  [...log.querySelectorAll("li")].slice(left).forEach((line) => line.classList.remove("unread"));
  count();
});
// What was missed is no longer kept: the server renders what there is.
inbox.on("gap", () => location.reload());

client.on("state", async ({ state, code }) => {
  const words = state === "open" ? "connected" : code === undefined && !client.session ? "connecting" : "reconnecting";
  $("state").dataset.state = $("state").textContent = words;
  if (state === "closed" || (state === "waiting" && await loggedOut())) location.reload(); // to the login form
});

// loggedOut asks, since a browser does not say why a socket was refused.
async function loggedOut() {
  try {
    const response = await fetch("/inbox/whoami");
    return response.ok && await response.text() !== page.user;
  } catch {
    return false; // the server is out of reach
  }
}

$("read").onclick = async () => {
  try {
    await client.request({ seen: inbox.at });
    problem();
  } catch (err) {
    problem(`Not marked as read: ${err.message}`);
  }
};

$("notify").onsubmit = async (event) => {
  event.preventDefault();
  try {
    const response = await fetch(`/inbox/notify/${encodeURIComponent($("to").value.trim())}`, { method: "POST", body: new URLSearchParams({ text: $("text").value }) });
    if (!response.ok) return problem(`Not sent: ${await response.text()}`);
    $("text").value = "";
    problem();
  } catch {
    problem("Not sent: the server is out of reach.");
  }
};

for (const button of $("tools").children) {
  button.onclick = () => {
    $("command").textContent = button.dataset.line;
    for (const b of $("tools").children) b.setAttribute("aria-pressed", String(b === button));
  };
}
$("copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText($("command").textContent);
    $("copy").textContent = "Copied";
    setTimeout(() => ($("copy").textContent = "Copy"), 1500);
  } catch {
    getSelection().selectAllChildren($("command")); // no permission: the user copies
  }
};

// count shows how many are unread.
function count() {
  const n = log.querySelectorAll(".unread").length;
  $("unread").textContent = n;
  $("read").disabled = n === 0;
  $("unread").hidden = n === 0;
  document.title = `${n ? `(${n}) ` : ""}${page.user} · Tideway inbox`;
}

function problem(text = "") {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// stamp shows a time as this browser's user writes it; another day with its date.
function stamp(node, text) {
  const time = new Date(text);
  const today = time.toDateString() === new Date().toDateString();
  node.dateTime = text;
  node.textContent = time.toLocaleString([], { ...(today ? {} : { day: "numeric", month: "short" }), hour: "2-digit", minute: "2-digit" });
  return node;
}

function element(tag, text = "", className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className;
  return node;
}

for (const time of log.querySelectorAll("time")) stamp(time, time.dateTime);
