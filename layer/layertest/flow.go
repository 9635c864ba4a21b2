package layertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// flowRows are about order and completeness while much happens at once.
var flowRows = []row{
	{"order holds for each group and sender", "Messages of one sender to one group reach each member in the order in which they were sent", groupOrder},
	{"members come and go while messages flow", "Members may come and go while messages flow; those that stay miss nothing, and nobody gets a message twice.", churn},
	{"a member that comes back gets nothing twice", "Members may come and go while messages flow; those that stay miss nothing, and nobody gets a message twice.", comesBack},
}

// roomy is a capacity that no row reaches.
const roomy = 1 << 20

// case 7
func groupOrder(t *trial) {
	const senders, groups, each = 3, 4, 200
	var layers []*layer.Layer
	for range senders {
		layers = append(layers, t.layer(capacity(roomy)))
	}
	var all []*layer.Channel
	for g := range groups {
		for _, l := range layers {
			all = append(all, t.member(l, fmt.Sprint("g", g)))
		}
	}
	var sending sync.WaitGroup
	for s, l := range layers {
		sending.Go(func() {
			for i := range each * groups {
				if err := l.GroupSend(t.ctx, fmt.Sprint("g", i%groups), note{From: fmt.Sprint("s", s), N: i / groups}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	sending.Wait()
	for _, c := range all {
		next := map[string]int{}
		for range senders * each {
			n := t.next(c)
			if n.N != next[n.From] {
				t.Fatalf("%s: got %v of %s, want %d", c.Name(), n.N, n.From, next[n.From])
			}
			next[n.From]++
		}
		t.nothing(c)
	}
}

// stream is a numbered flow of messages to one group.
type stream struct {
	group   string
	started atomic.Int64 // the newest number of which the sending has begun
	done    atomic.Int64 // the newest number whose sending has returned
}

// flow sends numbers to the group until stop, then -1.
func (s *stream) flow(t *trial, l *layer.Layer, stop <-chan struct{}) {
	for i := 1; ; i++ {
		select {
		case <-stop:
			if err := l.GroupSend(t.ctx, s.group, note{N: -1}); err != nil {
				t.Error(err)
			}
			return
		default:
		}
		s.started.Store(int64(i))
		if err := l.GroupSend(t.ctx, s.group, note{N: i}); err != nil {
			t.Error(err)
			return
		}
		s.done.Store(int64(i))
		time.Sleep(200 * time.Microsecond) // about what many sockets do together
	}
}

// The model of a group, in a stream of numbers: a member that joined when the
// stream was at lo and has not left has to get lo+1, lo+2, ... without a gap;
// earlier ones may reach it, later than its leave none that was begun after it.
// Nothing comes twice or out of order.
func churn(t *trial) {
	layers := []*layer.Layer{}
	for range 3 { // the third has no member that stays: its group comes and goes
		layers = append(layers, t.layer(func(o *layer.Options) { o.Capacity, o.Linger = roomy, time.Millisecond }))
	}
	s := &stream{group: "churn"}
	var stay []*layer.Channel
	for i := range 4 {
		stay = append(stay, t.member(layers[i%2], s.group))
	}
	var coming, flowing, staying sync.WaitGroup
	stop := make(chan struct{})
	for _, c := range stay {
		staying.Go(func() { t.report(s.stays(t.ctx, c)) })
	}
	for i := range 9 {
		coming.Go(func() { t.report(s.comeAndGo(t.ctx, layers[i%3], rand.New(rand.NewPCG(uint64(i), 1)))) })
	}
	flowing.Go(func() { s.flow(t, t.layer(nil), stop) })
	coming.Wait()
	close(stop)
	flowing.Wait()
	staying.Wait()
}

// report is for goroutines other than the row's own.
func (t *trial) report(err error) {
	if err != nil {
		t.Error(err)
	}
}

// stays reads as a member that never leaves: it gets every number once.
func (s *stream) stays(ctx context.Context, c *layer.Channel) error {
	last := 0
	for {
		n, err := receive(ctx, c)
		switch {
		case err != nil:
			return fmt.Errorf("a member that stayed, after %d: %w", last, err)
		case n.N == -1:
			if done := int(s.done.Load()); last != done {
				return fmt.Errorf("a member that stayed got %d messages of %d", last, done)
			}
			return nil
		case n.N != last+1:
			return fmt.Errorf("a member that stayed got %d after %d", n.N, last)
		}
		last = n.N
	}
}

func receive(ctx context.Context, c *layer.Channel) (note, error) {
	m, err := c.Receive(ctx)
	if err != nil {
		return note{}, err
	}
	return noteOf(m)
}

// comeAndGo joins and leaves many times, sometimes with a new channel.
func (s *stream) comeAndGo(ctx context.Context, l *layer.Layer, random *rand.Rand) error {
	v := visitor{s: s, l: l}
	for range 40 {
		if v.c == nil || random.IntN(3) == 0 {
			if err := v.anew(ctx); err != nil {
				return err
			}
		}
		if err := v.visit(ctx, random.IntN(4)); err != nil {
			return err
		}
		if random.IntN(2) == 0 {
			time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
		}
	}
	return v.c.Close()
}

// visitor is a member now and then.
type visitor struct {
	s    *stream
	l    *layer.Layer
	c    *layer.Channel
	last int64 // the newest number that it got
}

// anew takes another channel.
func (v *visitor) anew(ctx context.Context) (err error) {
	if v.c != nil {
		v.c.Close()
	}
	v.last = 0
	v.c, err = v.l.NewChannel(ctx)
	return err
}

// visit joins, gets n messages that must come, and leaves.
func (v *visitor) visit(ctx context.Context, n int) error {
	if err := v.l.GroupAdd(ctx, v.s.group, v.c.Name()); err != nil {
		return err
	}
	lo := v.s.started.Load()
	for next := lo + 1; next <= lo+int64(n); {
		got, err := v.read(ctx)
		if err != nil {
			return fmt.Errorf("a member that joined at %d, waiting for %d: %w", lo, next, err)
		}
		if got > next {
			return fmt.Errorf("a member that joined at %d got %d before %d", lo, got, next)
		}
		if got == next {
			next++
		}
	}
	if err := v.l.GroupDiscard(ctx, v.s.group, v.c.Name()); err != nil {
		return err
	}
	return v.left(ctx, v.s.started.Load())
}

// left reads what was under way when the member left, at number hi.
func (v *visitor) left(ctx context.Context, hi int64) error {
	now, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	for {
		got, err := v.read(now)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return nil
		case err != nil:
			return err
		case got > hi:
			return fmt.Errorf("a member that left at %d got %d", hi, got)
		}
	}
}

// read takes the next number, which must be a later one.
func (v *visitor) read(ctx context.Context) (int64, error) {
	n, err := receive(ctx, v.c)
	if err != nil {
		return 0, err
	}
	if n.N == -1 {
		return v.last, nil
	}
	if int64(n.N) <= v.last {
		return 0, fmt.Errorf("got %d after %d", n.N, v.last)
	}
	v.last = int64(n.N)
	return v.last, nil
}

// Among many members, two change places all the time, so that each stands on an
// early page of the roster and then on a late one: within one delivery it may be
// met twice.
func comesBack(t *trial) {
	l := t.layer(capacity(roomy))
	s := &stream{group: "back"}
	v, w := &visitor{s: s, l: l}, &visitor{s: s, l: l}
	t.must(v.anew(t.ctx))
	t.must(w.anew(t.ctx))
	t.must(l.GroupAdd(t.ctx, s.group, v.c.Name()))
	for range 700 {
		t.member(l, s.group)
	}
	var flowing sync.WaitGroup
	stop := make(chan struct{})
	flowing.Go(func() { s.flow(t, l, stop) })
	for s.done.Load() < 400 {
		t.must(l.GroupDiscard(t.ctx, s.group, v.c.Name())) // leaves room on the first page
		t.must(l.GroupAdd(t.ctx, s.group, w.c.Name()))     // which w takes
		t.must(l.GroupAdd(t.ctx, s.group, v.c.Name()))     // so v comes last
		time.Sleep(50 * time.Microsecond)
		t.must(l.GroupDiscard(t.ctx, s.group, v.c.Name()))
		v, w = w, v
	}
	close(stop)
	flowing.Wait()
	hi := s.started.Load()
	t.must(l.GroupDiscard(t.ctx, s.group, v.c.Name()))
	t.must(v.left(t.ctx, hi))
	t.must(w.left(t.ctx, hi))
}
