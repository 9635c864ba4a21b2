package bench

import (
	"context"
	"sync/atomic"
	"time"
)

// stream says which messages a publisher sends: message i goes to group i mod
// Groups.
type stream struct {
	Groups   int           `json:"groups"`
	Size     int           `json:"size"` // of a message's text, in bytes
	Rate     int           `json:"rate"` // messages a second, over all groups; 0 is as many as credit allows
	Start    int64         `json:"start"`
	Duration time.Duration `json:"duration"`
}

// streamed is what became of a stream.
type streamed struct {
	Sent   int    `json:"sent"`
	Failed int    `json:"failed"` // refused by the layer or the wire
	Err    string `json:"err,omitempty"`
	Late   int64  `json:"late"` // ns that the last message was sent after it was due
}

// credit bounds how far a publisher without a rate may run ahead: it is granted
// as messages arrive.
type credit struct {
	granted atomic.Int64
	more    chan struct{}
}

func newCredit() *credit { return &credit{more: make(chan struct{}, 1)} }

// grant raises what may have been sent in all.
func (c *credit) grant(total int64) {
	c.granted.Store(total)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// wait waits until message i may be sent, and reports false when ctx ends
// first.
func (c *credit) wait(ctx context.Context, i int) bool {
	for int64(i) >= c.granted.Load() {
		select {
		case <-c.more:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// run calls send for each message when it is due. Whoever is late sends without
// a pause until it is not: what was due stays due. Without a rate a message is
// due when it is sent.
func (s stream) run(ctx context.Context, c *credit, send func(i int, due int64) error) streamed {
	ctx, cancel := context.WithDeadline(ctx, time.Unix(0, s.Start).Add(s.Duration+drainTime))
	defer cancel()
	sleep(ctx, time.Until(time.Unix(0, s.Start)))
	var r streamed
	end, last := s.Start+int64(s.Duration), int64(0)
	for i := 0; ctx.Err() == nil; i++ {
		due, ok := s.due(ctx, c, i, last)
		if !ok || due >= end {
			break
		}
		last = due
		if err := send(i, due); err != nil {
			r.Failed++
			r.Err = err.Error()
		}
		r.Sent++
		r.Late = time.Now().UnixNano() - due
		if r.Failed >= 1000 && r.Failed == r.Sent {
			break // nothing works
		}
	}
	return r
}

// drainTime is how long after its end a stream that lags may go on.
const drainTime = 10 * time.Second

// due waits until message i may be sent and returns when it was due.
func (s stream) due(ctx context.Context, c *credit, i int, last int64) (int64, bool) {
	if s.Rate == 0 {
		ok := c.wait(ctx, i)
		return max(time.Now().UnixNano(), last+1), ok
	}
	due := s.Start + int64(float64(i)*1e9/float64(s.Rate))
	if due < s.Start+int64(s.Duration) {
		sleep(ctx, time.Until(time.Unix(0, due)))
	}
	return due, ctx.Err() == nil
}
