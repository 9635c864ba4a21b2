// Package consumer holds consumer types: what happens on one connection.
//
// A [Type] says it in handlers, as a consumer class of Django Channels does; a
// [Func] is one function that asks for what arrives. Package router serves both
// at the paths of a table. A [Conn] is the connection itself: [Conn.Send] goes to
// its client, [Conn.GroupSend] to all members of a group, in any process.
//
// # A connection's life
//
//	handshake   The router checks the path, host, origin, limits and credentials.
//	            What it refuses there, no consumer sees.
//	New         makes the connection's state.
//	Groups      declared by the Type are joined. One that cannot be joined refuses
//	            the connection; Connect and Disconnect do not run then.
//	Connect     decides. The client still waits for its answer, and Conn.Request is
//	            there. nil accepts, an error refuses with an HTTP status. Conn.Accept
//	            or the first Send accepts earlier; an error ends the connection then
//	            with a close code. What arrives for the groups meanwhile waits.
//	            Connect has router.Options.HandshakeTimeout; when that is over or
//	            the client has left, its context ends and accepting fails.
//	accepted    The request is let go; path values, query, address, subprotocol and
//	            user stay. What waited is handled now, in order.
//	handlers    Receive for each message of the client, On for those of the layer:
//	            one at a time. Forward and Render go to the client past them.
//	end         The client closes or is lost, a handler fails or calls Conn.Close,
//	            a limit is broken, a kick, a drain. At once the groups are left,
//	            the channel is closed and sends fail.
//	last words  What the client had sent before is still handled, unless it was we
//	            who had enough: after a failure, a Close or a kick it is dropped,
//	            after a drain it is not. Handlers have 10 s for it; then their
//	            context ends, what is left is dropped, and a line is logged.
//	Disconnect  runs last, once, whatever the end was, also after a refusal by
//	            Connect, a panic or runtime.Goexit. It waits for a handler that
//	            is still running, however long that takes. Its code is the client's
//	            or ours, 1005 when the client gave none, 1006 when it was lost or
//	            refused. Its context is its own and lasts 10 s.
//
// The context of Connect and of the handlers is the connection's. It does not end
// with the connection but 10 s later, and descends from the router, never from
// the request. Work that shall outlive the connection must not use it.
//
// # Who may call what, and when
//
// All methods of a Conn may be called at any time, from any goroutine, with these
// exceptions: Request and Header are of use in Connect, Accept before the first
// Send, and Receive and Events in a Func, by one goroutine. After the end, Send
// returns the [CloseError] that ended the connection; GroupAdd and whatever else
// needs it to be open return [ErrNotOpen]. A handler may return such an error: an
// end that was there before is no failure.
//
// New, Connect, Receive, the handlers of the table and Disconnect of one
// connection never overlap, so its state needs no locks. Those of different
// connections do. The functions of Render run once per process and message, for
// all its connections, and may overlap with everything.
//
// # Order
//
//   - Messages of the client are handled in the order in which they came.
//   - Messages of one sender to one group reach each member in the order in which
//     they were sent. A message that is forwarded does not overtake one of the
//     layer that a handler has yet to handle, but does go past a Receive that is
//     busy: a long Receive holds up nothing that others push.
//   - Between the client's messages and the layer's there is no order. Where both
//     wait they take turns.
//   - What one goroutine sends arrives in the order of its Sends.
//
// While a handler is busy, 16 messages of the client are read ahead. Then it is
// no longer read from, so that the network slows it down; its pongs wait, too, and
// it does not count as lost for that. A client that lags behind what is sent to it
// makes Send wait, and is closed with 4108 when it is forwarded more than its queue
// holds.
//
// # What an error becomes
//
// After Accept the connection is closed, before it the handshake is answered:
//
//	error                              after Accept        before Accept
//	*CloseError                        its code, reason    see Conn.Close
//	*DenyError 401                     4001, reason        401, reason
//	*DenyError 429, 503                1013, reason        429, 503, reason
//	*DenyError 500 and above           1011, reason        its status, reason
//	*DenyError, any other              4003, reason        its status, reason
//	layer.ErrUnavailable, ErrClosed    1011, logged        503
//	*layer.NameError                   1011, logged        400
//	any other error, panic, Goexit     1011, logged        500
//	Func returns nil                   1000                403
//
// What the client is told never contains an error's text. The close codes that
// the server gives by itself are 1002 for a breach of the protocol, 1007 for text
// that is not UTF-8, 1008, 1009 and 4129 for the limits of router.Limits, 4108 for
// a client that does not read, 1012 for a drain, 4003 for a kick, and those of the
// authenticator when credentials no longer hold.
//
// # Two kinds of clients
//
// Plain clients send and receive the consumer's own frames. Those that offer the
// subprotocol tideway.v1 ([Protocol]) get each frame in an envelope that says what it
// is: sent to them alone, or to a group, with its position in a durable one. The
// same consumer serves both. [Conn.Join] brings such a client what it missed, and a
// newcomer the latest messages; what cannot be had is announced as a gap. [Conn.Reply]
// and [Answer] answer its requests, [ReplyError] refuses one. To plain clients a reply
// is a message like any other.
//
// # Messages that nobody expects
//
// A message's type reaches only what the table names: nothing that a sender
// chooses can call anything else. A type without a handler, and a message that
// does not fit its handler, are counted in router.Stats, logged once a minute for
// each type, and end nothing.
//
// # Messages of a queue
//
// The same tables serve durable queues, which router.Work takes from. Each message
// has a state of its own, and a [Conn] without a client, whose [Conn.Delivery] is
// the message. Handlers of different messages run at the same time. What a handler
// returns decides what becomes of the message:
//
//	nil                     done: it is removed
//	*DeadError              to the dead letters, at once
//	*RetryError             again, after the pause that it says
//	ErrHandBack             to another worker; the attempt does not count
//	any other error, panic  again, after the pause of the queue's policy
//
// A message that no handler takes, or that does not fit its handler, goes to the
// dead letters.
package consumer
