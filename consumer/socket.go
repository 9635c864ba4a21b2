package consumer

import (
	"context"
	"net/http"
)

// Socket is what a [Conn] stands on: one WebSocket, whose handshake is still
// open when the Conn is made. Package router has the only implementation that a
// program needs.
//
// Read is called by one goroutine at a time. All other methods may be called at
// the same time from many goroutines.
type Socket interface {
	// Accept completes the handshake, choosing subprotocol ("" is none), with
	// the headers in header added to the response. It is called at most once,
	// before anything else but Close. Its error ends the connection.
	Accept(subprotocol string, header http.Header) error

	// Read waits for the next message. Its error is a *CloseError: the peer's
	// code, 1006 when the connection was lost, or the code of our own Close,
	// after which Read returns at once even when the peer stays silent.
	Read() (Frame, error)

	// Send queues p. When the connection's queue is full it waits for room: at
	// most until ctx ends or the write timeout is over, and then the connection
	// is closed as slow and the error is a *CloseError.
	Send(ctx context.Context, p *Prepared) error

	// Offer queues p and never waits: a connection whose queue is full is
	// closed as slow, and the error is a *CloseError. It allocates nothing while
	// the peer reads.
	Offer(p *Prepared) error

	// TryOffer is Offer for what may be left out: when the queue has no room for p,
	// it returns false, and nothing happened.
	TryOffer(p *Prepared) (bool, error)

	// OfferLatest is Offer for values: those whose older value is still queued
	// replace it, and are counted. It allocates nothing while the peer reads.
	OfferLatest(v *Values) (replaced int, err error)

	// AwaitRoom waits until a queue that was full has room again. Its error is
	// ctx's, or a *CloseError when the connection ended.
	AwaitRoom(ctx context.Context) error

	// Err returns why the connection ended, as a *CloseError, or nil while it is
	// open. It is for whoever cannot Read at the moment.
	Err() error

	// Close starts the close handshake, behind what is queued: code and reason
	// go to the peer, Read returns, sends fail from then on. The first call
	// counts. It never waits.
	Close(code StatusCode, reason string)
}

// Poller is a Socket that can do without a goroutine while its client is
// silent. A [Type] that is served directly uses it so, and so does the reader
// beside a [Func].
type Poller interface {
	Socket

	// Poll is Read for a caller that will not wait for the next message. It
	// returns a message and true, or the final error. When no message has begun
	// to arrive it returns false, and ready is called, once and on a goroutine of
	// its own, as soon as there is something to read or the connection has
	// ended: then Poll is called again. Until then nobody reads. The first call
	// returns false in any case. Later a Poller that has to wait does so, and never
	// returns false.
	Poll(ready func()) (f Frame, ok bool, err error)
}
