package layer

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counts since the layer was made.
type Stats struct {
	Channels int // open channels of this process
	Groups   int // groups that this process is subscribed to

	Sent      int64 // messages that Send and GroupSend handed over
	Delivered int64 // messages that a reader or a tap took out of a channel
	Dropped   int64 // messages that a member, or the process, missed
	Expired   int64 // messages that waited too long to be read
	Malformed int64 // arrivals that were no messages
	Repaired  int64 // messages of durable groups that were read from the store, since one was lost on the way
	Gaps      int64 // holes in durable groups that could not be repaired
}

type counters struct {
	// Who sends and who delivers are on different cores, which would take the line
	// of memory from each other with each message.
	_         [64]byte
	sent      atomic.Int64
	_         [56]byte
	delivered atomic.Int64
	_         [56]byte

	dropped, expired, malformed, repaired, gaps atomic.Int64
}

// Stats returns the layer's counts.
func (l *Layer) Stats() Stats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return Stats{
		Channels:  len(l.channels),
		Groups:    len(l.groups),
		Sent:      l.stats.sent.Load(),
		Delivered: l.stats.delivered.Load(),
		Dropped:   l.stats.dropped.Load(),
		Expired:   l.stats.expired.Load(),
		Malformed: l.stats.malformed.Load(),
		Repaired:  l.stats.repaired.Load(),
		Gaps:      l.stats.gaps.Load(),
	}
}

// lossInterval is the time between two lines about the same loss.
const lossInterval = 10 * time.Second

// lossLog reports losses without flooding the log: the first of a kind at once,
// then one line every lossInterval while they go on, with the total, so that
// the last line of a series tells how many there were.
type lossLog struct {
	log *slog.Logger

	mu     sync.Mutex // guards all below
	losses map[string]*loss
	closed bool
}

type loss struct {
	level slog.Level
	text  string
	attrs []any
	fresh int // since the last line
	total int
	timer *time.Timer
}

// report counts n losses of one kind, named by key.
func (x *lossLog) report(level slog.Level, key string, n int, text string, attrs ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return
	}
	e := x.losses[key]
	if e == nil {
		e = &loss{total: n}
		x.losses[key] = e
		e.timer = time.AfterFunc(lossInterval, func() { x.due(key, e) })
		x.log.Log(context.Background(), level, text, append(attrs, "messages", n)...)
	} else {
		e.fresh += n
		e.total += n
	}
	e.level, e.text, e.attrs = level, text, attrs
}

// due writes the line about a loss, or forgets it when it is over.
func (x *lossLog) due(key string, e *loss) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return
	}
	if e.fresh == 0 {
		delete(x.losses, key)
		return
	}
	x.line(e)
	e.timer.Reset(lossInterval)
}

func (x *lossLog) line(e *loss) {
	attrs := append(e.attrs[:len(e.attrs):len(e.attrs)], "messages", e.fresh, "total", e.total)
	x.log.Log(context.Background(), e.level, e.text, attrs...)
	e.fresh = 0
}

// close writes what is left to say.
func (x *lossLog) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for _, e := range x.losses {
		e.timer.Stop()
		if e.fresh > 0 {
			x.line(e)
		}
	}
}
