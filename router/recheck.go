package router

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

const (
	recheckTick    = time.Second
	recheckTimeout = 10 * time.Second
	recheckers     = 8 // at a time: whoever keeps the sessions must not feel it
)

// startRechecks looks at the credentials of open connections when they are due,
// on one goroutine for all. stop ends it and waits.
func (r *Router) startRechecks() (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(recheckTick)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.recheckDue()
			case <-quit:
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(quit); <-ended })
}

// recheckDue looks at all whose time has come.
func (r *Router) recheckDue() {
	due := r.conns.due(time.Now())
	if len(due) == 0 {
		return
	}
	work := make(chan *connection)
	var workers sync.WaitGroup
	for range min(recheckers, len(due)) {
		workers.Go(func() {
			for c := range work {
				r.recheck(c)
			}
		})
	}
	for _, c := range due {
		work <- c
	}
	close(work)
	workers.Wait()
}

// due returns the connections to look at.
func (g *registry) due(now time.Time) (out []*connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.all {
		if c.conn != nil && c.recheck != 0 && now.UnixMilli() >= c.recheck {
			out = append(out, c)
		}
	}
	return out
}

// recheck looks at one connection's credentials.
func (r *Router) recheck(c *connection) {
	old := c.conn.User()
	now, err := r.askAgain(old)
	if err == nil && now.Anonymous() && !old.Anonymous() {
		err = &consumer.CloseError{Code: consumer.StatusUnauthorized, Reason: "no longer logged in"}
	}
	if err == nil {
		c.conn.RenewUser(old, now) // unless somebody logged in or out meanwhile
		return
	}
	ce, ok := errors.AsType[*consumer.CloseError](err)
	if !ok {
		ce = &consumer.CloseError{Code: consumer.StatusUnauthorized, Reason: "the credentials are no longer valid"}
	}
	expired := !old.Expires.IsZero() && !time.Now().Before(old.Expires)
	if ce.Code == consumer.StatusTryAgainLater && !expired {
		r.set.Logger.Warn("router: credentials could not be checked; the connection stays", "remote", c.address, "err", err)
		r.conns.move(c)
		return
	}
	r.set.Logger.Info("router: credentials no longer hold", "remote", c.address, "code", int(ce.Code), "err", err)
	r.conns.mu.Lock()
	defer r.conns.mu.Unlock()
	if c.who().Same(old) {
		c.close(ce)
	}
}

// askAgain is the authenticator's Recheck, bounded, and with a panic or a timeout
// made what they are: no word about the user.
func (r *Router) askAgain(u consumer.User) (now consumer.User, err error) {
	ctx, cancel := context.WithTimeout(r.base, recheckTimeout)
	defer cancel()
	defer func() {
		switch v := recover(); {
		case v != nil:
			err = fmt.Errorf("%w: the authenticator panicked: %v\n%s", errNoWord, v, debug.Stack())
		case err != nil && ctx.Err() != nil:
			err = fmt.Errorf("%w: %w", errNoWord, err)
		}
	}()
	return r.set.Authenticate.Recheck(ctx, u)
}

var errNoWord = &consumer.CloseError{Code: consumer.StatusTryAgainLater, Reason: "the credentials cannot be checked now"}
