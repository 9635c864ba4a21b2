import { Client } from "./client.js";
import type { Options } from "./options.js";
export { Client };
export { ServerError, TidewayError } from "./errors.js";
export { Group } from "./group.js";
export type { GroupEvents } from "./group.js";
export type { Events, Gap, GroupOptions, Joined, Left, Meta, Options, RequestOptions, State, StateChange, Token } from "./options.js";
/**
 * Opens a connection that comes back by itself. url may be relative to the page,
 * and http: or ws:. M maps the `type` of each message to its shape:
 *
 *     const client = connect<{ "chat.message": { text: string } }>("/ws/chat/lobby/");
 *     client.on("chat.message", (m) => console.log(m.text));
 */
export declare function connect<M extends object = Record<string, any>>(url: string | URL, options?: Options): Client<M>;
