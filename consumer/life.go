package consumer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// App serves connections: what ASGI calls an application. A [Type] and a [Func]
// are Apps; wrap one in another for middleware that needs the Conn.
type App interface {
	// Serve runs one connection from before its handshake is answered to its
	// end. An error before it was accepted refuses it: a *[DenyError] with its
	// status, any other with 500. Later, a *[CloseError] closes it with its
	// code, any other, and a panic, with 1011, and is logged. nil closes with
	// 1000.
	Serve(ctx context.Context, c *Conn) error
}

// Result is how a connection ended.
type Result struct {
	Accepted bool
	Code     StatusCode // of the end; 1006 where the connection was lost or refused
	Reason   string     // the peer's or ours
	Err      error      // what refused it, or made a handler fail; nil otherwise
}

// PanicError is a panic of a handler. It ends that one connection.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("consumer: a handler panicked: %v", e.Value) }

var errGoexit = errors.New("consumer: a handler ended its goroutine (runtime.Goexit)")

const (
	// leaveGrace is how long a handler may go on, with what its client sent
	// last, before its context is cancelled: daphne's
	// application-close-timeout.
	leaveGrace = 10 * time.Second

	// disconnectTimeout bounds the context that Disconnect gets.
	disconnectTimeout = 10 * time.Second
)

// Run serves one connection with app and calls done with how it ended, once and
// in any case, as its last deed. Handlers' contexts descend from ctx. It is for
// servers; programs use package router.
func Run(ctx context.Context, app App, s Setup, done func(Result)) {
	c := newConn(ctx, s)
	if s.Started != nil {
		s.Started(c)
	}
	err := errGoexit
	defer func() { done(c.finish(err)) }()
	err = guard(func() error { return app.Serve(c.ctx, c) })
}

// guard makes an error of a panic.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return f()
}

// fail ends the connection if err, from a handler, is not nil.
func (c *Conn) fail(err error) {
	if err == nil {
		return
	}
	code, reason := StatusInternalError, "internal error"
	var ce *CloseError
	if errors.As(err, &ce) {
		code, reason = ce.Code, ce.Reason
	}
	c.mu.Lock()
	harmless := ce != nil || c.inbox.ended && (errors.Is(err, ErrNotOpen) || errors.Is(err, context.Canceled))
	if c.failed == nil && !harmless {
		c.failed = err
	}
	c.mu.Unlock()
	c.Close(code, reason)
}

// read takes the client's messages until the connection ends.
func (c *Conn) read() {
	for {
		f, err := c.setup.Socket.Read()
		if err != nil {
			c.end(err)
			return
		}
		c.setup.Stats.Received.Add(1)
		c.put(f)
	}
}

// end notes that the connection has ended: at once it leaves its groups; what
// handlers still do, they do on borrowed time.
func (c *Conn) end(err error) {
	over := &CloseError{Code: StatusAbnormalClosure}
	errors.As(err, &over)
	c.mu.Lock()
	c.over = over
	c.inbox.ended = true
	channel := c.channel
	c.start()
	c.mu.Unlock()
	if channel != nil {
		channel.Close()
	}
}

// ended returns how the connection ended, or nil while it has not.
func (c *Conn) ended() *CloseError {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// settle waits until no handler runs and nothing is left to handle. Handlers
// that take too long have their context cancelled.
func (c *Conn) settle() {
	c.mu.Lock()
	b := &c.inbox
	if !b.running {
		c.mu.Unlock()
		return
	}
	idle := make(chan struct{})
	b.idle = idle
	c.mu.Unlock()
	t := time.AfterFunc(leaveGrace, func() {
		c.setup.Logger.Warn("consumer: a handler is still running though its client left; its context is cancelled now", "after", leaveGrace)
		c.cancel()
	})
	defer t.Stop()
	<-idle
}

// finish does what is left to do when the App is through with the connection.
func (c *Conn) finish(err error) Result {
	defer c.cancel()
	c.mu.Lock()
	accepted, read := c.accepted, c.inbox.arrived != nil || c.over != nil
	if !accepted {
		c.refused = true
	}
	c.mu.Unlock()
	if !accepted {
		c.end(&CloseError{Code: StatusAbnormalClosure})
		return c.refusal(err)
	}
	if err != nil {
		c.fail(err)
	}
	c.Close(StatusNormalClosure, "")
	if read {
		c.awaitEnd()
	} else {
		c.read()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		c.setup.Stats.Failed.Add(1)
	}
	return Result{Accepted: true, Code: c.over.Code, Reason: c.over.Reason, Err: c.failed}
}

// refusal is the result of a connection that was never accepted.
func (c *Conn) refusal(err error) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		err = c.failed
	}
	if err == nil {
		err = &DenyError{Reason: "the consumer ended without accepting"}
	}
	return Result{Code: StatusAbnormalClosure, Err: err}
}
