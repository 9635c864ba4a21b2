// A page with the hooks, in strict mode, which mounts everything twice.
import { StrictMode, createElement as h, useState } from "react";
import { createRoot } from "react-dom/client";
import { useGroup, useTideway } from "tideway-client/react";

function Lines({ group }) {
  const { client, state } = useTideway("/ws/group/" + group);
  const lines = useGroup(client, group, (all, line) => [...all, line.n], []);
  return h("div", null,
    h("p", { id: "state", "data-state": state }, state),
    h("ol", { id: "lines" }, lines.map((n, i) => h("li", { key: i }, n))));
}

function App() {
  const [shown, show] = useState(true);
  return h("div", null, h("button", { onClick: () => show(!shown) }, "toggle"), shown && h(Lines, { group: "job.react" }));
}

createRoot(document.body.appendChild(document.createElement("div"))).render(h(StrictMode, null, h(App)));
