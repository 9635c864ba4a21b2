// Compiled by `npm test`, never run: what the types promise and refuse.
import { connect, ServerError, TidewayError } from "tideway-client";
import type { Client, Gap, Meta, State } from "tideway-client";
import { useGroup, useTideway } from "tideway-client/react";

interface Chat {
  "chat.message": { type: "chat.message"; user: string; text: string };
  "chat.refusal": { type: "chat.refusal"; reason: string };
}

export async function typed(): Promise<void> {
  const client: Client<Chat> = connect<Chat>("/ws/chat/lobby/", { token: () => ({ token: "x", expiresIn: 60 }), backoff: { max: 1000 } });
  const off: () => void = client.on("chat.message", (m, meta) => {
    const text: string = m.text;
    const at: string | undefined = meta.at;
    // @ts-expect-error: a message has no such member
    m.reason;
    return [text, at];
  });
  client.on("state", (e) => {
    const state: State = e.state;
    return state;
  });
  client.on("gap", (gap: Gap) => gap.reason);
  client.on("error", (err: Error) => err instanceof ServerError);
  client.on("message", (m) => (m.type === "chat.refusal" ? m.reason : m.user));
  // @ts-expect-error: there is no such type of message
  client.on("chat.massage", () => {});
  // @ts-expect-error: a time is a number
  client.request("x", { timeout: "5s" });

  const reply = await client.request<{ n: number }>({ op: "count" }, { timeout: 5000, signal: new AbortController().signal });
  const n: number = reply.n;
  for await (const m of client.group<{ line: { type: "line"; text: string } }>("job.42", { at: "p1" })) {
    const text: string = m.text;
    console.log(n, text);
  }
  off();

  const loose = connect("/ws/");
  loose.on("anything", (m, meta: Meta) => console.log(m.whatever, meta.group));
  loose.group("g").on("tick", (m) => m.n);
  throw new TidewayError("timeout", "");
}

export function Lines(): string {
  const { client } = useTideway<Chat>("/ws/");
  const lines = useGroup(client, "job.42", (all: string[], m: { text: string }) => [...all, m.text], [], (gap) => console.log(gap.reason));
  return lines.join("\n");
}
