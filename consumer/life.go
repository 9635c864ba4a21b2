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
	// status, a *[CloseError] as [Conn.Close] does, any other with 500. Later, a
	// CloseError closes it with its code, a DenyError with the code that means
	// the same, any other, and a panic, with 1011, and is logged. nil closes
	// with 1000.
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
	started := s.Started
	c := newConn(ctx, s)
	c.done = done
	if started != nil {
		started(c)
	}
	if s.Login != nil {
		c.first = true
		if err := guard(func() error { return c.login(s.Login) }); err != nil {
			c.conclude(func() error { return err })
			return
		}
		c.loggedIn(app)
	}
	if t, ok := app.(lifecycle); ok {
		c.launch(t)
		return
	}
	c.conclude(func() error { return guard(func() error { return app.Serve(&c.life, c) }) })
}

// conclude runs the rest of the connection and tells how it ended, also when
// the goroutine ends in rest.
func (c *Conn) conclude(rest func() error) {
	err := errGoexit
	defer func() { c.done(c.finish(err)) }()
	err = rest()
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
	e := closing(err)
	_, meant := errors.AsType[*CloseError](err)
	_, denied := errors.AsType[*DenyError](err)
	c.mu.Lock()
	late := c.over != nil && (errors.Is(err, ErrNotOpen) || errors.Is(err, context.Canceled))
	if c.failed == nil && !meant && !denied && !late {
		c.failed = err
	}
	c.mu.Unlock()
	c.Close(e.Code, e.Reason)
}

// read takes the client's messages until the connection ends.
func (c *Conn) read() {
	for {
		f, err := c.setup.Socket.Read()
		if err != nil {
			c.end(err)
			return
		}
		c.put(f)
	}
}

// poll is read without a goroutine that waits: it is called again, on a new one,
// when there is something to read. After the end of the connection it concludes
// that of a Type, for which nobody else waits.
func (c *Conn) poll() {
	p := c.setup.Socket.(Poller)
	for {
		f, ok, err := p.Poll(c.again)
		if err != nil {
			c.end(err)
			break
		}
		if !ok {
			return // another goroutine may be reading already
		}
		c.put(f)
	}
	c.mu.Lock()
	read := c.inbox.read
	c.mu.Unlock()
	if read != nil {
		close(read)
		return
	}
	c.conclude(func() error { return c.live(&c.life, nil) })
}

// polls reports whether the socket is a [Poller], and prepares for it.
func (c *Conn) polls() bool {
	_, ok := c.setup.Socket.(Poller)
	if ok {
		c.again = c.poll
	}
	return ok
}

// readOut returns when the connection has ended, reading unless a Func's reader
// does that.
func (c *Conn) readOut() {
	c.mu.Lock()
	reader, over := c.inbox.read, c.over
	c.mu.Unlock()
	switch {
	case reader != nil:
		<-reader
	case over == nil:
		c.read()
	}
}

// end notes that the connection has ended: at once it leaves its groups; what
// handlers still do, they do on borrowed time.
func (c *Conn) end(err error) {
	over := &CloseError{Code: StatusAbnormalClosure}
	errors.As(err, &over)
	c.mu.Lock()
	c.over = over
	channel := c.channel
	if c.flow != nil && c.flow.cancel != nil {
		c.flow.cancel()
	}
	c.start()
	if c.typ == nil || !c.inbox.open { // a Func, or a Connect, may be at work
		c.hurryLater()
	}
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

// hurryLater bounds the time of what still works after the connection's end. Mu
// is held.
func (c *Conn) hurryLater() {
	if c.hurrying == nil {
		c.hurrying = time.AfterFunc(leaveGrace, c.hurry)
	}
}

// hurry ends the time that handlers have left after the connection's end.
func (c *Conn) hurry() {
	c.mu.Lock()
	c.stop()
	running := c.inbox.running
	c.mu.Unlock()
	if running {
		c.Logger().Warn("consumer: a handler is still running though its client left; its context is cancelled now", "after", leaveGrace)
	}
	c.life.cancel()
}

// settle waits until no handler runs, and lets none run any more.
func (c *Conn) settle() {
	c.settleReplay()
	for {
		c.mu.Lock()
		b := &c.inbox
		if !b.running {
			b.open = false
			c.forward.Store(nil)
			if c.hurrying != nil {
				c.hurrying.Stop()
			}
			c.mu.Unlock()
			return
		}
		idle := make(chan struct{})
		b.idle = idle
		c.mu.Unlock()
		<-idle
	}
}

// finish does what is left to do when the App is through with the connection.
func (c *Conn) finish(err error) Result {
	defer c.life.cancel()
	if c.refuse() {
		if c.ended() == nil {
			c.end(&CloseError{Code: StatusAbnormalClosure})
		}
		c.settle()
		return c.refusal(err)
	}
	c.fail(c.handled(err))
	c.Close(StatusNormalClosure, "")
	c.readOut()
	c.settle()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		c.setup.Stats.Failed.Add(1)
	}
	return Result{Accepted: true, Code: c.over.Code, Reason: c.over.Reason, Err: c.failed}
}
