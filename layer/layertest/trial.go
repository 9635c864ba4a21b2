package layertest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// trial is one run of a row.
type trial struct {
	testing.TB
	ctx     context.Context // ends when the row's patience does
	opts    *Options
	network Network
	dial    Dial
	log     *journal // what all layers of the row log

	brief time.Duration // an expiry that a row can wait for
	quiet time.Duration // how long nothing has to come for nothing to have come
}

func newTrial(tb testing.TB, network Network, o *Options) *trial {
	ctx, cancel := context.WithTimeout(tb.Context(), o.wait())
	tb.Cleanup(cancel)
	t := &trial{TB: tb, ctx: ctx, opts: o, network: network, dial: network(tb), log: new(journal)}
	t.brief, t.quiet = 400*time.Millisecond, 60*time.Millisecond
	if o.Bubble {
		t.brief, t.quiet = 3*time.Second, time.Second
	}
	return t
}

// layer makes one more process.
func (t *trial) layer(change func(*layer.Options)) *layer.Layer {
	t.Helper()
	return t.layerOn(t.dial(t), change)
}

// layerOn makes a layer on a bus that may have others.
func (t *trial) layerOn(bus layer.Bus, change func(*layer.Options)) *layer.Layer {
	t.Helper()
	var o layer.Options
	if t.opts.Layer != nil {
		o = *t.opts.Layer
	}
	o.Logger = t.log.logger()
	if change != nil {
		change(&o)
	}
	l, err := layer.New(bus, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), t.opts.wait())
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l
}

// pair makes two processes.
func (t *trial) pair(change func(*layer.Options)) (a, b *layer.Layer) {
	t.Helper()
	return t.layer(change), t.layer(change)
}

func capacity(n int) func(*layer.Options) {
	return func(o *layer.Options) { o.Capacity = n }
}

func expiry(d time.Duration) func(*layer.Options) {
	return func(o *layer.Options) { o.Expiry = d }
}

// channel makes a channel of l.
func (t *trial) channel(l *layer.Layer) *layer.Channel {
	t.Helper()
	c, err := l.NewChannel(t.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// member makes a channel of l and adds it to groups.
func (t *trial) member(l *layer.Layer, groups ...string) *layer.Channel {
	t.Helper()
	c := t.channel(l)
	for _, g := range groups {
		t.must(l.GroupAdd(t.ctx, g, c.Name()))
	}
	return c
}

func (t *trial) listen(l *layer.Layer, name string) *layer.Channel {
	t.Helper()
	c, err := l.Listen(t.ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// must ends the row on an error.
func (t *trial) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// is checks that an error wraps want.
func (t *trial) is(what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// note is the message of most rows.
type note struct {
	From string `json:"from,omitempty"`
	N    int    `json:"n"`
}

// MessageType returns the type of a note.
func (note) MessageType() string { return "layertest.note" }

func (n note) String() string { return n.From + strconv.Itoa(n.N) }

func noteOf(m layer.Message) (note, error) {
	var n note
	if m.Type != n.MessageType() {
		return n, fmt.Errorf("a message of type %q: %s", m.Type, m.Data)
	}
	return n, m.Decode(&n)
}

// next takes the note that has to come.
func (t *trial) next(c *layer.Channel) note {
	t.Helper()
	m, err := c.Receive(t.ctx)
	if err != nil {
		t.Fatalf("a message that has to come to %s: %v", c.Name(), err)
	}
	n, err := noteOf(m)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// gets checks that exactly these come, in order.
func (t *trial) gets(c *layer.Channel, want ...int) {
	t.Helper()
	for _, w := range want {
		if got := t.next(c); got.N != w {
			t.Fatalf("%s: got %d where %d of %v should come", c.Name(), got.N, w, want)
		}
	}
	t.nothing(c)
}

// nothing checks that nothing comes.
func (t *trial) nothing(c *layer.Channel) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, t.quiet)
	defer cancel()
	if m, err := c.Receive(ctx); err == nil {
		t.Fatalf("%s: got %s where nothing should come", c.Name(), m.Data)
	} else if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%s: waiting for nothing: %v", c.Name(), err)
	}
}

// until waits for a condition.
func (t *trial) until(what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-t.ctx.Done():
			t.Fatalf("waiting until %s: %v", what, t.ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// conclude repeats an attempt that says something only if the machine was quick
// enough, which the attempt reports; each has twice the time of the one before.
func (t *trial) conclude(attempt func(brief time.Duration) bool) {
	t.Helper()
	for brief := t.brief; brief < 16*t.brief; brief *= 2 {
		if attempt(brief) || t.Failed() {
			return
		}
	}
	t.Fatal("this machine is too slow for the row: 4 attempts took longer than they may")
}

// whatCame reads for a while.
func (t *trial) whatCame(c *layer.Channel, d time.Duration) (got []int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, d)
	defer cancel()
	for {
		m, err := c.Receive(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return got
		}
		t.must(err)
		n, err := noteOf(m)
		t.must(err)
		got = append(got, n.N)
	}
}

// ints returns from, from+1, ... up to, without up to.
func ints(from, upTo int) []int {
	all := make([]int, 0, upTo-from)
	for i := from; i < upTo; i++ {
		all = append(all, i)
	}
	return all
}
