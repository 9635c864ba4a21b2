import { connect } from "/start/tideway/index.js";

const $ = (id) => document.getElementById(id);
const maxShown = 6; // messages

const lobby = connect("/ws/chat/lobby/");
lobby.on("chat.message", ({ user, text }) => {
  const line = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = typeof user === "string" ? user : "somebody";
  line.append(name, ` ${typeof text === "string" ? text : ""}`);
  $("log").append(line);
  while ($("log").children.length > maxShown) $("log").firstChild.remove();
  $("empty").hidden = true;
});
lobby.on("state", ({ state }) => {
  const words = { open: "live", waiting: "reconnecting", closed: "closed" };
  $("state").textContent = words[state] ?? "connecting";
  $("state").dataset.state = state === "open" ? "connected" : state;
});

$("say").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  lobby.send({ type: "chat.message", user: "you", text });
  $("text").value = "";
};

function show(chosen) {
  const { tool, line } = chosen.dataset;
  const message = `'{"type":"chat.message","user":"${tool}","text":"hello"}'`;
  $("command").textContent = line.replace("{group}", "chat.lobby").replace("{message}", () => message);
  for (const button of $("tools").children) button.setAttribute("aria-pressed", String(button === chosen));
}
for (const button of $("tools").children) button.onclick = () => show(button);
show($("tools").querySelector("button"));

for (const button of document.querySelectorAll(".copy")) {
  button.onclick = async () => {
    const command = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    } catch {
      getSelection().selectAllChildren(command); // no permission: the visitor copies
    }
  };
}
