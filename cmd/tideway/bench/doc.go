// Package bench measures WebSocket servers that pass messages to rooms, and the
// layer beneath: it is what `tideway bench` runs.
//
// A benchmark is one load client in this process, which holds all connections
// on one thread (Linux; a goroutine for each elsewhere, and for wss), and a
// server in another process: a child of this program, or whatever a URL names.
// CPU time is read from the clocks of the server's processes, so the load
// client's own cost is not in it.
//
// Every message carries the time at which it was due. A server that lags, or a
// publisher that it slows down, cannot hide that: latency counts from then on.
//
// Each point is measured several times, each time with a fresh server and fresh
// connections; a report has the medians and the ranges, and the exponent by
// which a figure grows when one of the sizes has several values.
package bench
