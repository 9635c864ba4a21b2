const $ = (id) => document.getElementById(id);
const shownFor = 6_000; // ms
let attempts = 0;

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}/ws/notify/`);
  socket.onopen = () => {
    attempts = 0;
    showState("connected");
  };
  socket.onmessage = (event) => {
    const m = JSON.parse(event.data);
    if (m.type === "notify.message") show(String(m.text ?? ""));
  };
  socket.onclose = async (event) => {
    showState("reconnecting");
    // 4001: logged out; 4101: the session has expired. The page asks for the name.
    if (event.code === 4001 || event.code === 4101 || await loggedOut()) return location.reload();
    const limit = Math.min(30_000, 1_000 * 2 ** attempts++);
    setTimeout(connect, 500 + Math.random() * limit);
  };
}

// loggedOut asks, since a browser does not say why a socket was refused.
async function loggedOut() {
  try {
    const response = await fetch("/whoami");
    return response.ok && await response.text() !== $("user").textContent;
  } catch {
    return false; // the server is out of reach
  }
}

function showState(state) {
  $("state").dataset.state = state;
  $("state").textContent = state;
}

// show puts a toast on top for a while, and the text into the list for good.
function show(text) {
  const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const line = document.createElement("li");
  line.append(element("time", time), element("span", text));
  $("log").prepend(line);

  const toast = element("div");
  toast.className = "toast";
  const close = element("button", "×");
  close.type = "button";
  close.setAttribute("aria-label", "Dismiss");
  close.onclick = () => toast.remove();
  toast.append(element("p", text), close);
  $("toasts").append(toast);
  setTimeout(() => toast.remove(), shownFor);
}

function element(tag, text = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

$("notify").onsubmit = async (event) => {
  event.preventDefault();
  try {
    const response = await fetch(event.target.action, { method: "POST", body: new URLSearchParams({ text: $("text").value }) });
    if (!response.ok) return show(`Not sent: ${await response.text()}`);
    $("text").value = "";
  } catch {
    show("Not sent: the server is out of reach.");
  }
};

connect();
