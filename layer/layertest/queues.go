package layertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// queueRows are about what is put into durable queues.
var queueRows = []row{
	{"a queue keeps messages until a worker is done", "A message stays until a worker says that it is done with it.", keptUntilDone},
	{"a queue hands out its messages in order", "those of one priority come in the order in which they were stored", queueOrder},
	{"urgent messages first, idle ones last", "High messages are taken before all others, low ones when there is nothing else", priorities},
	{"a message comes later", "Delay and At hold the message back, for a time or until a time, to the second.", comesLater},
	{"a message comes again and again", "Every puts a message into the queue again and again", comesAgain},
	{"a queue stores a message once for each key", "Messages with the same ID are stored once.", queuedOnce},
	{"a full queue refuses and drops nothing", "A queue that holds as many messages of a priority as its capacity says refuses more with ErrChannelFull, and drops nothing.", fullQueue},
	{"a queue may be a member of a group", "As a member of a group a shared channel gets each message once", queueInGroup},
	{"a queue is no channel to listen to", "The name holds no \"!\", and is not that of a durable queue.", queueNames},
	{"queue policies that contradict each other are an error", "Policies keep the rules of Groups.", queueContradictions},
	{"queues tell what they hold", "Queues returns the durable queues of the network that hold something, by name, and those whose policy names one.", queueStates},
}

// queued has queues with short pauses.
func queued(change func(*layer.QueuePolicy)) func(*layer.Options) {
	return func(o *layer.Options) {
		q := layer.QueuePolicy{Pattern: "work.>", AckWait: 6 * time.Second, Backoff: 10 * time.Millisecond, BackoffMax: 20 * time.Millisecond}
		if change != nil {
			change(&q)
		}
		o.Queues = []layer.QueuePolicy{q}
	}
}

func (t *trial) enqueue(l *layer.Layer, queue string, n int, opts *layer.EnqueueOptions) layer.QueueReceipt {
	t.Helper()
	r, err := l.Enqueue(t.ctx, queue, note{N: n}, opts)
	t.must(err)
	return r
}

// take takes the message that has to come.
func (t *trial) take(l *layer.Layer, queue string, want, attempt int) *layer.Delivery {
	t.Helper()
	d, err := l.Take(t.ctx, queue)
	if err != nil {
		t.Fatalf("a message that has to come from %s: %v", queue, err)
	}
	n, err := noteOf(d.Message)
	t.must(err)
	if n.N != want || d.Attempt != attempt || d.Queue != queue {
		t.Fatalf("%s: got message %d of %s, attempt %d; want %d, attempt %d", queue, n.N, d.Queue, d.Attempt, want, attempt)
	}
	return d
}

// work takes and acknowledges these, in order, and then there are no more.
func (t *trial) work(l *layer.Layer, queue string, want ...int) {
	t.Helper()
	for _, n := range want {
		t.must(t.take(l, queue, n, 1).Ack(t.ctx))
	}
	t.idle(l, queue)
}

// idle checks that there is nothing to take.
func (t *trial) idle(l *layer.Layer, queue string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, t.quiet)
	defer cancel()
	if d, err := l.Take(ctx, queue); err == nil {
		t.Fatalf("%s: got %s, attempt %d, where nothing should come", queue, d.Data, d.Attempt)
	} else if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%s: waiting for nothing: %v", queue, err)
	}
}

func keptUntilDone(t *trial) {
	a, b := t.pair(queued(nil))
	t.must(a.Send(t.ctx, "work.1", note{N: 1}))
	t.enqueue(a, "work.2", 2, nil)
	d := t.take(b, "work.1", 1, 1)
	if d.Header.ID != "" || d.Priority != layer.Normal || time.Since(d.Stored) < -time.Minute || time.Since(d.Stored) > time.Hour {
		t.Errorf("got key %q, priority %v, stored %v", d.Header.ID, d.Priority, d.Stored)
	}
	t.idle(a, "work.1") // it is with b
	t.must(b.Close(t.ctx))
	t.is("Ack by a layer that is closed", d.Ack(t.ctx), layer.ErrClosed)
	d = t.take(a, "work.1", 1, 2)
	t.must(d.Ack(t.ctx))
	t.is("a second Ack", d.Ack(t.ctx), layer.ErrStale)
	t.work(a, "work.2", 2)
	t.idle(a, "work.1")
}

func queueOrder(t *trial) {
	a, b := t.pair(queued(nil))
	for i := range 100 {
		t.enqueue(a, "work.1", i, nil)
		t.enqueue(a, "work.2", 1000+i, nil)
	}
	t.work(b, "work.1", ints(0, 100)...)
	t.work(b, "work.2", ints(1000, 1100)...)
}

func priorities(t *trial) {
	a, b := t.pair(queued(nil))
	at := func(p layer.Priority) *layer.EnqueueOptions { return &layer.EnqueueOptions{Priority: p} }
	for i := range 5 {
		t.enqueue(a, "work.1", 20+i, at(layer.Low))
		t.enqueue(a, "work.1", 10+i, nil)
		t.enqueue(a, "work.1", i, at(layer.High))
	}
	for _, n := range slices.Concat(ints(0, 5), ints(10, 15), ints(20, 25)) {
		d := t.take(b, "work.1", n, 1)
		if want := layer.Priority(1 - n/10); d.Priority != want {
			t.Errorf("message %d: got priority %v, want %v", n, d.Priority, want)
		}
		t.must(d.Ack(t.ctx))
	}
	t.idle(b, "work.1")
	// One that is put in while a worker waits comes at once, too.
	for i, p := range []layer.Priority{layer.High, layer.Low, layer.Normal} {
		var wg sync.WaitGroup
		wg.Go(func() {
			if d, err := b.Take(t.ctx, "work.1"); err != nil {
				t.Errorf("Take: %v", err)
			} else if err := d.Ack(t.ctx); err != nil || d.Priority != p {
				t.Errorf("got priority %v, %v; want %v", d.Priority, err, p)
			}
		})
		t.enqueue(a, "work.1", 30+i, at(p))
		wg.Wait()
	}
}

func comesLater(t *trial) {
	a, b := t.pair(queued(nil))
	const delay = 3 * time.Second
	start := time.Now()
	later := &layer.EnqueueOptions{Delay: delay, ID: "later"}
	if r := t.enqueue(a, "work.1", 1, later); r.Duplicate {
		t.Error("the first one counts as a duplicate")
	}
	if r := t.enqueue(b, "work.1", 2, later); !r.Duplicate {
		t.Error("a second one with the same ID does not count as a duplicate")
	}
	t.enqueue(a, "work.1", 3, &layer.EnqueueOptions{At: start.Add(100 * time.Hour), ID: "much later"})
	t.enqueue(a, "work.1", 4, nil)
	t.must(t.take(b, "work.1", 4, 1).Ack(t.ctx))
	d := t.take(b, "work.1", 1, 1)
	if took := time.Since(start); took < delay {
		t.Errorf("it came after %v, want %v or more", took, delay)
	}
	if d.Header.ID != "later" {
		t.Errorf("its key is %q, want that of Enqueue", d.Header.ID)
	}
	t.must(d.Ack(t.ctx))
	for _, want := range []bool{true, false} {
		if found, err := b.Cancel(t.ctx, "work.1", "much later"); found != want || err != nil {
			t.Errorf("Cancel: got %v, %v; want %v", found, err, want)
		}
	}
	t.idle(b, "work.1")
}

func comesAgain(t *trial) {
	a, b := t.pair(queued(nil))
	every := &layer.EnqueueOptions{Every: "@every 1s", ID: "tick"}
	t.enqueue(a, "work.1", 1, &layer.EnqueueOptions{Every: "0 0 1 1 *", ID: "tick"})
	t.enqueue(a, "work.1", 7, every) // in place of the first
	t.must(t.take(b, "work.1", 7, 1).Ack(t.ctx))
	t.must(t.take(b, "work.1", 7, 1).Ack(t.ctx))
	if found, err := b.Cancel(t.ctx, "work.1", "tick"); !found || err != nil {
		t.Errorf("Cancel: got %v, %v", found, err)
	}
	_, err := a.Enqueue(t.ctx, "work.1", note{}, &layer.EnqueueOptions{Every: "@daily"})
	if err == nil {
		t.Error("Every without an ID: got no error")
	}
	for _, bad := range []layer.EnqueueOptions{
		{Every: "every day", ID: "x"}, {Delay: -1}, {Priority: 2}, {Priority: 1, Delay: 1}, {Zone: time.UTC},
	} {
		if _, err := a.Enqueue(t.ctx, "work.1", note{}, &bad); err == nil {
			t.Errorf("options %+v: got no error", bad)
		}
	}
}

func queuedOnce(t *trial) {
	a, b := t.pair(queued(nil))
	for i, l := range []*layer.Layer{a, b, a} {
		r := t.enqueue(l, "work.1", i, &layer.EnqueueOptions{ID: "key"})
		if r.Duplicate != (i > 0) {
			t.Errorf("message %d: got %+v", i, r)
		}
	}
	if r := t.enqueue(a, "work.2", 5, &layer.EnqueueOptions{ID: "key"}); r.Duplicate {
		t.Error("the same ID in another queue counts as a duplicate")
	}
	d := t.take(b, "work.1", 0, 1)
	if d.Header.ID != "key" {
		t.Errorf("its key is %q", d.Header.ID)
	}
	t.must(d.Ack(t.ctx))
	t.idle(b, "work.1")
	t.work(b, "work.2", 5)
}

func fullQueue(t *trial) {
	a, b := t.pair(queued(func(q *layer.QueuePolicy) { q.Capacity = 3 }))
	for i := range 3 {
		t.enqueue(a, "work.1", i, nil)
	}
	_, err := a.Enqueue(t.ctx, "work.1", note{N: 3}, nil)
	t.is("a fourth message", err, layer.ErrChannelFull)
	t.is("a fourth message by Send", b.Send(t.ctx, "work.1", note{N: 3}), layer.ErrChannelFull)
	t.enqueue(a, "work.2", 4, nil)
	t.enqueue(a, "work.1", 5, &layer.EnqueueOptions{Priority: layer.High})
	t.must(t.take(b, "work.1", 5, 1).Ack(t.ctx))
	held := t.take(b, "work.1", 0, 1)
	_, err = a.Enqueue(t.ctx, "work.1", note{N: 3}, nil)
	t.is("while one is in work", err, layer.ErrChannelFull)
	t.must(held.Ack(t.ctx))
	t.until("there is room again", func() bool { return a.Send(t.ctx, "work.1", note{N: 6}) == nil })
	t.work(b, "work.1", 1, 2, 6)
}

func queueInGroup(t *trial) {
	a, b := t.pair(queued(nil))
	t.must(a.GroupAdd(t.ctx, "g", "work.1"))
	t.must(b.GroupAdd(t.ctx, "g", "work.1"))
	for i := range 3 {
		t.must(b.GroupSend(t.ctx, "g", note{N: i}))
	}
	got := map[int]bool{}
	for range 3 {
		d, err := a.Take(t.ctx, "work.1")
		t.must(err)
		n, err := noteOf(d.Message)
		t.must(err)
		got[n.N] = true
		t.must(d.Ack(t.ctx))
	}
	if len(got) != 3 {
		t.Errorf("got %v, want each once", got)
	}
	t.idle(b, "work.1")
}

func queueNames(t *trial) {
	a := t.layer(queued(nil))
	if _, err := a.Listen(t.ctx, "work.1"); err == nil {
		t.Error("Listen to a durable queue: got no error")
	}
	_, err := a.Take(t.ctx, "other")
	t.is("Take from an ordinary channel", err, layer.ErrNotQueue)
	_, err = a.Enqueue(t.ctx, "other", note{}, nil)
	t.is("Enqueue to an ordinary channel", err, layer.ErrNotQueue)
	var name *layer.NameError
	for _, bad := range []string{"", "a b", "work.tw!1"} {
		if _, err := a.Take(t.ctx, bad); !errors.As(err, &name) {
			t.Errorf("Take from %q: got error %v, want a NameError", bad, err)
		}
	}
	t.is("Drop of what is not there", a.Drop(t.ctx, 12345), layer.ErrNoDeadLetter)
	t.is("Replay of what is not there", a.Replay(t.ctx, 12345), layer.ErrNoDeadLetter)
}

func queueContradictions(t *trial) {
	a := t.layer(queued(nil))
	t.enqueue(a, "work.1", 1, nil)
	for _, q := range []layer.QueuePolicy{{Pattern: "work.>", Attempts: 7}, {Pattern: "work.1"}, {Pattern: ">"}} {
		if _, err := layer.New(t.dial(t), &layer.Options{Queues: []layer.QueuePolicy{q}, Logger: t.log.logger()}); err == nil {
			t.Errorf("%v beside work.>: got no error", q)
		}
	}
	for _, q := range [][]layer.QueuePolicy{
		{{Pattern: "a.>"}, {Pattern: "a.b"}}, {{Pattern: "a", Attempts: -1}}, {{Pattern: "a", AckWait: 1}}, {{Pattern: "a", Capacity: -1}},
		{{Pattern: "a", Backoff: time.Hour, BackoffMax: time.Minute}}, {{Pattern: "a", Age: 1}}, {{Pattern: "a", Window: 1}}, {{Pattern: "a>"}},
	} {
		if _, err := layer.New(t.dial(t), &layer.Options{Queues: q}); err == nil {
			t.Errorf("%v: got no error", q)
		}
	}
	b := t.layer(nil) // states nothing, and learns
	d := t.take(b, "work.1", 1, 1)
	if p := d.Policy(); p.AckWait != 6*time.Second || p.Attempts != 5 || p.Pattern != "work.>" {
		t.Errorf("it learned %v", p)
	}
	t.must(d.Ack(t.ctx))
	t.work(t.layer(queued(nil)), "work.1")
}

func queueStates(t *trial) {
	a, b := t.pair(func(o *layer.Options) {
		queued(nil)(o)
		o.Queues = append(o.Queues, layer.QueuePolicy{Pattern: "mail"})
	})
	for i := range 4 {
		t.enqueue(a, "work.1", i, nil)
	}
	t.enqueue(a, "work.1", 4, &layer.EnqueueOptions{Priority: layer.High})
	t.enqueue(a, "work.a..b", 1, &layer.EnqueueOptions{Delay: time.Hour})
	t.must(t.take(b, "work.1", 4, 1).Bury(t.ctx, "no"))
	t.take(b, "work.1", 0, 1)
	want := []layer.QueueState{{Name: "mail"}, {Name: "work.1", Ready: 3, Working: 1, Dead: 1}, {Name: "work.a..b", Delayed: 1}}
	var got []layer.QueueState
	t.until(fmt.Sprintf("the queues are %+v", want), func() bool {
		var err error
		got, err = b.Queues(t.ctx)
		t.must(err)
		for i := range got {
			if !got[i].Policy.Covers(got[i].Name) {
				t.Errorf("%s has the policy %v", got[i].Name, got[i].Policy)
			}
			got[i].Policy = layer.QueuePolicy{}
		}
		return slices.Equal(got, want)
	})
}
