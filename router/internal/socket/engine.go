package socket

import (
	"errors"
	"sync"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// ErrEngineClosed is returned by Upgrade after Close.
var ErrEngineClosed = errors.New("socket: the engine is closed")

// Engine makes sockets and keeps them alive. Its methods may be called from many
// goroutines.
type Engine struct {
	opts    Options
	limits  limits
	start   time.Time
	stay    time.Duration // see package variable stay
	poller  poller
	readers readers

	// mu guards what follows, and the sweeper's fields of all sockets.
	mu      sync.Mutex
	closed  bool
	open    int
	total   int
	wheel   []*Socket     // by the tick at which each is looked at next: lists through prev and next
	tick    time.Duration // between two slots; 0 is no sweeper
	swept   int64         // the last tick that was worked on
	sweeper chan struct{} // closed when the sweeper has ended; nil while none runs
	stop    chan struct{} // closed by Close
}

// NewEngine returns an engine with the given options; nil is all defaults. The
// error names the option that makes no sense.
func NewEngine(o *Options) (*Engine, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	opts.Polling = polling(opts.Polling)
	e := &Engine{opts: opts, limits: newLimits(&opts), start: time.Now(), stay: stay, stop: make(chan struct{})}
	e.newWheel()
	return e, nil
}

// Len returns how many sockets were upgraded and not yet released.
func (e *Engine) Len() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.open
}

// Close ends every socket with 1001 and the pings; Upgrade fails from then on.
// It waits for no client: each socket's reader releases it as usual.
func (e *Engine) Close() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.closed = true
	close(e.stop)
	sweeper := e.sweeper
	var open []*Socket
	for _, s := range e.wheel {
		for ; s != nil; s = s.next {
			open = append(open, s)
		}
	}
	e.mu.Unlock()

	for _, s := range open {
		s.Close(consumer.StatusGoingAway, "")
	}
	e.poller.close() // nobody parks any more
	e.readers.close()
	if sweeper != nil {
		<-sweeper
	}
}

// now is the engine's clock: the time since its start, which is monotonic and
// fits an integer.
func (e *Engine) now() time.Duration { return time.Since(e.start) }

// at turns the engine's clock into a deadline.
func (e *Engine) at(d time.Duration) time.Time { return e.start.Add(d) }
