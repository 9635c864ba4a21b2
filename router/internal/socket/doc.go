// Package socket is the WebSocket engine: it upgrades a request, reads whole
// messages, and writes prebuilt frames to any number of connections without
// waiting for any of them.
//
// The handshake, the reading of messages and the answers to pings are those of
// github.com/coder/websocket; this package is the only one that imports it.
// Everything else happens below it, in the net.Conn that it is given. So does
// compression, where it was agreed on: the library negotiates it and sees none
// of it.
//
// # Key invariants
//
//   - Whatever is written to a connection is a sequence of whole frames, ordered
//     by one mutex. No data message goes through the library, which would split
//     a large one over several writes; its control frames are one Write each,
//     as long as its buffer holds 131 bytes.
//   - Nobody waits for a peer but its own reader, its own [Socket.Send], and a
//     flush goroutine that lives only while that peer lags.
//   - An idle connection is one goroutine, the one that calls [Socket.Read]; or
//     none, where [Socket.Poll] can do without. One reader follows the other:
//     whoever takes wire.parked, under the mutex, starts the next.
//     There is no timer and no context per connection or per message.
//   - Where there is no goroutine there is no Conn of the library either: whoever
//     is woken borrows one that, between two messages, knows of no client.
//   - The first cause of the end counts. It is a *consumer.CloseError, and all
//     methods return that same one from then on.
//   - Only [Socket.Release] closes the descriptor, on the reader's goroutine.
//     Everybody else ends a connection by moving its deadlines into the past.
//   - Nothing of a connection refers to the request that began it, so that the
//     HTTP handler returns and net/http's buffers are freed.
package socket
