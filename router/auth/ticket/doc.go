// Package ticket lets a connection in by a one-time ticket in its URL, for pages
// whose cookies do not reach the socket, and that must not write a token into a
// URL. A page asks for a ticket with the credentials that it has, and opens the
// socket with it:
//
//	const { ticket } = await (await fetch("/ticket", { method: "POST" })).json();
//	const socket = new WebSocket("wss://ws.example.com/ws/?ticket=" + ticket);
//
// A ticket works once, within 30 seconds, on any node: the layer's network keeps a
// hash of it, and it is redeemed by deleting the revision that was read, which only
// one can do. Each connection, a repeated one too, needs a new ticket.
package ticket
