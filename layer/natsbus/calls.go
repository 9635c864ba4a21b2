package natsbus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// calls are the calls of a link that wait for the network. Close ends them.
type calls struct {
	mu      sync.Mutex // guards what follows
	waiting map[*context.CancelCauseFunc]struct{}
	stopped bool
}

// begin returns a context for one call, which ends with ctx, with the link, or
// after most; context.Cause tells them apart.
func (c *calls) begin(ctx context.Context, most time.Duration) (_ context.Context, end func()) {
	ctx, stopTimer := context.WithTimeoutCause(ctx, most, noAnswer(most))
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		cancel(layer.ErrClosed)
	} else {
		if c.waiting == nil {
			c.waiting = make(map[*context.CancelCauseFunc]struct{})
		}
		c.waiting[&cancel] = struct{}{}
	}
	return ctx, func() {
		c.mu.Lock()
		delete(c.waiting, &cancel)
		c.mu.Unlock()
		cancel(nil)
		stopTimer()
	}
}

// stop ends all calls, and those that begin later at once.
func (c *calls) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	for cancel := range c.waiting {
		(*cancel)(layer.ErrClosed)
	}
}

// noAnswer says for how long nobody answered.
type noAnswer time.Duration

// errNoAnswer is the cause when a healthy network would have answered: any time
// counts as the same error.
var errNoAnswer error = noAnswer(roundTrip)

func (d noAnswer) Error() string {
	return fmt.Sprintf("no answer within %v: it may have arrived or not", time.Duration(d))
}

func (noAnswer) Is(target error) bool { return target == errNoAnswer }

// because returns why ctx ended when it did, and err otherwise.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
