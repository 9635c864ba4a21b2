import { connect } from "./connection.js";

const $ = (id) => document.getElementById(id);
const log = $("log"), scroller = $("scroll"), text = $("text"), nameInput = $("name"), roomInput = $("room");

const maxShown = 500; // messages
const groupWithin = 3 * 60_000; // ms in which messages of one user stand together
const address = new URLSearchParams(location.search);
const rooms = new Set(["lobby", "harbour", "workshop"]);

let me = address.get("name")?.trim().slice(0, 40) || sessionStorage.getItem("name") || newcomer();
let room = "", connection, joinedBefore, lastUser, lastTime, unread = 0;

function join(name) {
  const problem = roomProblem(name);
  $("room-problem").textContent = problem;
  $("room-problem").hidden = !problem;
  roomInput.setAttribute("aria-invalid", String(Boolean(problem)));
  if (problem || name === room && $("state").dataset.state !== "closed") return;

  connection?.leave();
  room = name;
  joinedBefore = false;
  rooms.add(room);
  log.replaceChildren();
  lastUser = undefined;
  roomInput.value = room;
  $("title").textContent = room;
  showRooms();
  showCommand();
  showEmpty();
  showUnread(0);
  history.replaceState(null, "", `?${new URLSearchParams({ room })}`);

  let refusedOnce = false;
  connection = connect(`/ws/chat/${encodeURIComponent(room)}/`, {
    connecting() {
      showState(joinedBefore ? "reconnecting" : "connecting");
    },
    open() {
      showState("connected");
      if (joinedBefore || refusedOnce) notice(joinedBefore ? "Connected again. What was said meanwhile is not shown." : "Connected.");
      joinedBefore = true;
    },
    message(m) {
      if (m.type === "chat.message") show(m);
      if (m.type === "chat.refusal") notice(`Not sent: ${m.text}.`, "problem");
    },
    closed(wait, reason) {
      const lost = $("state").dataset.state === "connected";
      showState(wait === null ? "closed" : "reconnecting");
      if (wait === null) {
        notice(`The server has closed the connection${reason ? `: ${reason}` : ""}.`, "problem");
      } else if (lost) {
        notice(reason ? `Disconnected: ${reason}.` : "Connection lost. Trying to get it back.");
      } else if (!joinedBefore && !refusedOnce) {
        refusedOnce = true;
        notice(`The server does not let us into #${name}, or is out of reach. Trying again.`, "problem");
      }
    },
  });
}

// start joins the room of the page's address; when there can be none of that
// name the visitor is told, and is in the lobby.
function start(name) {
  const problem = roomProblem(name);
  join(problem ? "lobby" : name);
  if (problem) notice(`There is no room “${name.slice(0, 40)}”. ${problem}`, "problem");
}

// roomProblem says what the server would refuse, which a browser cannot read
// from a refused socket.
function roomProblem(name) {
  if (name === "") return "Give the room a name.";
  if (name.length > 94) return "A room's name has at most 94 characters.";
  const bad = name.match(/[^A-Za-z0-9._-]/u);
  if (bad) return `${bad[0].trim() ? `“${bad[0]}”` : "A space"} cannot be in a room's name: use letters, digits, “.”, “_” and “-”.`;
  return "";
}

function newcomer() {
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  return pick(["Swift", "Calm", "Bright", "Merry", "Quiet", "Bold"]) + " " +
    pick(["Otter", "Heron", "Seal", "Tern", "Curlew", "Dolphin"]);
}

function rename(name) {
  me = name.trim() || me;
  nameInput.value = me;
  sessionStorage.setItem("name", me);
}

function show(m) {
  const user = typeof m.user === "string" && m.user.trim() ? m.user : "somebody";
  const now = new Date();
  const follows = user === lastUser && now - lastTime < groupWithin;
  lastUser = user;
  lastTime = now;

  const message = element("article", "message");
  message.dataset.user = user;
  message.classList.toggle("own", user === me);
  message.classList.toggle("follows", follows);
  message.style.setProperty("--hue", hue(user));

  const avatar = element("span", "avatar", initials(user));
  avatar.setAttribute("aria-hidden", "true");
  const time = element("time", "", now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = now.toISOString();
  const meta = element("p", "meta");
  meta.append(element("bdi", "user", user), time);
  const said = element("p", "text", typeof m.text === "string" ? m.text : "");
  said.dir = "auto";
  message.append(avatar, meta, said);
  append(message, user === me);
  if (document.hidden) showUnread(unread + 1);
}

function notice(words, kind = "") {
  lastUser = undefined;
  append(element("p", `notice ${kind}`, words), false);
}

// append keeps the newest in sight, unless the reader has scrolled away.
function append(node, always) {
  const { scrollTop, clientHeight, scrollHeight } = scroller;
  const atEnd = scrollHeight - scrollTop - clientHeight < 80;
  log.append(node);
  while (log.children.length > maxShown) log.firstChild.remove();
  showEmpty();
  if (atEnd || always) toEnd();
  else $("newer").hidden = false;
}

function toEnd() {
  scroller.scrollTop = scroller.scrollHeight;
  $("newer").hidden = true;
}

function showEmpty() {
  $("empty").hidden = log.querySelector(".message") !== null;
}

function showState(state) {
  $("state").dataset.state = state;
  $("state").textContent = state;
  showSend();
}

function canSend() {
  return $("state").dataset.state === "connected" && text.value.trim() !== "";
}

function showSend() {
  $("send").disabled = !canSend();
}

function showUnread(n) {
  unread = n;
  document.title = `${n ? `(${n}) ` : ""}#${room} · Tideway chat`;
}

function showRooms() {
  $("rooms").replaceChildren(...[...rooms].map((name) => {
    const button = element("button", "", `# ${name}`);
    button.type = "button";
    if (name === room) button.setAttribute("aria-current", "true");
    button.onclick = () => join(name);
    const item = element("li");
    item.append(button);
    return item;
  }));
  $("rooms").querySelector("[aria-current]").scrollIntoView({ block: "nearest", inline: "nearest" });
}

function showCommand(chosen = document.querySelector("#tools [aria-pressed=true]")) {
  const { tool, line } = chosen.dataset;
  const message = `'{"type":"chat.message","user":"${tool}","text":"hello"}'`;
  $("command").textContent = line.replace("{group}", `chat.${room}`).replace("{message}", () => message);
  for (const button of $("tools").children) button.setAttribute("aria-pressed", String(button === chosen));
}

function element(tag, className = "", words) {
  const node = document.createElement(tag);
  if (className) node.className = className.trim();
  if (words !== undefined) node.textContent = words;
  return node;
}

function initials(user) {
  const words = user.trim().split(/\s+/u);
  return words.slice(0, 2).map((word) => [...word][0]).join("").toUpperCase();
}

// hue gives each name a colour that it has in every window.
function hue(user) {
  let h = 2166136261;
  for (const c of user) h = Math.imul(h ^ c.codePointAt(0), 16777619);
  return ((h >>> 0) % 24) * 15;
}

$("join").onsubmit = (event) => {
  event.preventDefault();
  rename(nameInput.value);
  join(roomInput.value.trim());
  if (roomInput.getAttribute("aria-invalid") === "false") text.focus();
};
nameInput.onchange = () => rename(nameInput.value);

$("say").onsubmit = (event) => {
  event.preventDefault();
  rename(nameInput.value);
  if (!canSend()) return;
  connection.send({ type: "chat.message", user: me, text: text.value.trim() });
  text.value = "";
  fit();
  text.focus();
};
text.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("say").requestSubmit();
};
text.oninput = fit;

// fit makes the input as high as its text.
function fit() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
  showSend();
}

$("newer").onclick = toEnd;
scroller.onscroll = () => {
  if (scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80) $("newer").hidden = true;
};
document.onvisibilitychange = () => {
  if (!document.hidden) showUnread(0);
};

for (const button of $("tools").children) button.onclick = () => showCommand(button);
$("copy").onclick = async () => {
  const command = $("command");
  try {
    await navigator.clipboard.writeText(command.textContent);
    $("copy").textContent = "Copied";
    setTimeout(() => ($("copy").textContent = "Copy"), 1500);
  } catch {
    getSelection().selectAllChildren(command); // no permission: the visitor copies
  }
};

$("push").open = matchMedia("(min-width: 760px)").matches;
rename(me);
start(address.get("room")?.trim() || "lobby");
