package layertest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// workRows are about those who take messages from durable queues.
var workRows = []row{
	{"a silent worker loses its message", "A worker that dies or is silent for longer loses the message to another, and learns so by [ErrStale]", silentWorker},
	{"a worker may take as long as it says so", "Each message is with one worker at a time, which has it for the policy's AckWait and may extend that.", slowWorker},
	{"a failed attempt is followed by another", "An attempt that failed is followed by another after a pause that grows.", retried},
	{"a message that used up its attempts is a dead letter", "When its attempts are used up, a message goes to the dead letters, with the reason", deadLetter},
	{"dead letters can be replayed and dropped", "there it stays until somebody replays or drops it", replayed},
	{"a message that kills its workers is a dead letter", "A message that kills its workers uses up its attempts, too.", killer},
	{"what is no message is a dead letter", "What is no message goes there at once.", noMessage},
	{"a cancelled Take takes nothing", "A Take that is cancelled takes nothing, and no attempt counts.", cancelledTake},
	{"a message that is released counts no attempt", "Release hands the message back at once, for another worker, as if it had not been taken: the attempt does not count.", released},
	{"a queue under load loses nothing", "Each message is with one worker at a time", queueLoad},
}

func silentWorker(t *trial) {
	a, b := t.pair(queued(func(q *layer.QueuePolicy) { q.AckWait = 5 * time.Second }))
	t.enqueue(a, "work.1", 1, nil)
	lost := t.take(a, "work.1", 1, 1)
	d := t.take(b, "work.1", 1, 2)
	if d.Lost != 1 {
		t.Errorf("%d attempts were lost, want 1", d.Lost)
	}
	for what, err := range map[string]error{
		"Extend": lost.Extend(t.ctx), "Ack": lost.Ack(t.ctx), "Retry": lost.Retry(t.ctx, 0, "x"),
		"Release": lost.Release(t.ctx), "Bury": lost.Bury(t.ctx, "x"),
	} {
		t.is(what+" by a worker that was silent", err, layer.ErrStale)
	}
	t.must(d.Ack(t.ctx))
	t.idle(a, "work.1")
}

func slowWorker(t *trial) {
	a, b := t.pair(queued(func(q *layer.QueuePolicy) { q.AckWait = 3 * time.Second }))
	t.enqueue(a, "work.1", 1, nil)
	d := t.take(a, "work.1", 1, 1)
	for start := time.Now(); time.Since(start) < 4*time.Second; {
		t.idle(b, "work.1")
		time.Sleep(300 * time.Millisecond)
		t.until("the lease is renewed", func() bool {
			err := d.Extend(t.ctx)
			if !errors.Is(err, layer.ErrUnavailable) { // a machine may be slow to answer
				t.must(err)
			}
			return err == nil
		})
	}
	t.must(d.Ack(t.ctx))
	t.is("Extend of what is done", d.Extend(t.ctx), layer.ErrStale)
	t.idle(b, "work.1")
}

func retried(t *trial) {
	a, b := t.pair(queued(nil))
	t.enqueue(a, "work.1", 1, nil)
	t.enqueue(a, "work.1", 2, nil)
	first, second := t.take(a, "work.1", 1, 1), t.take(b, "work.1", 2, 1)
	start := time.Now()
	t.must(first.Retry(t.ctx, 500*time.Millisecond, "not yet"))
	t.must(second.Ack(t.ctx))
	d := t.take(b, "work.1", 1, 2)
	if took := time.Since(start); took < 500*time.Millisecond {
		t.Errorf("it came again after %v", took)
	}
	for attempt := 3; attempt <= 5; attempt++ {
		t.must(d.Retry(t.ctx, 0, "not yet"))
		d = t.take(a, "work.1", 1, attempt)
	}
	if d.Lost != 0 {
		t.Errorf("%d attempts that failed count as lost", d.Lost)
	}
	if !d.Final() {
		t.Error("the fifth attempt is not the last one")
	}
	t.must(d.Ack(t.ctx))
}

// letters returns the dead letters.
func (t *trial) letters(l *layer.Layer, queue string) (all []layer.DeadLetter) {
	t.Helper()
	for d, err := range l.DeadLetters(t.ctx, queue) {
		t.must(err)
		all = append(all, d)
	}
	return all
}

// oneLetter waits for the only dead letter of a queue.
func (t *trial) oneLetter(l *layer.Layer, queue string) layer.DeadLetter {
	t.Helper()
	var all []layer.DeadLetter
	t.until("there is a dead letter", func() bool { all = t.letters(l, queue); return len(all) > 0 })
	if len(all) > 1 {
		t.Fatalf("there are %d dead letters, want one: %+v", len(all), all)
	}
	return all[0]
}

func deadLetter(t *trial) {
	a, b := t.pair(queued(func(q *layer.QueuePolicy) { q.Attempts = 3 }))
	t.enqueue(a, "work.1", 1, &layer.EnqueueOptions{Priority: layer.High})
	began := time.Now()
	for attempt := 1; attempt <= 3; attempt++ {
		d := t.take(b, "work.1", 1, attempt)
		t.must(d.Retry(t.ctx, 0, fmt.Sprintf("attempt %d:\nno disk", attempt)))
		t.is("another word about it", d.Ack(t.ctx), layer.ErrStale)
	}
	d := t.oneLetter(a, "work.1")
	n, err := noteOf(d.Message)
	t.must(err)
	if n.N != 1 || d.Queue != "work.1" || d.Attempts != 3 || d.Reason != "attempt 3: no disk" || d.Priority != layer.High {
		t.Errorf("the dead letter is %+v", d)
	}
	if d.Stored.Before(began.Add(-time.Minute)) || d.Died.Before(d.Stored) {
		t.Errorf("it was stored at %v and died at %v", d.Stored, d.Died)
	}
	t.idle(b, "work.1")
	if others := t.letters(a, "work.2"); len(others) > 0 {
		t.Errorf("another queue has the dead letters %+v", others)
	}
}

func replayed(t *trial) {
	a, b := t.pair(queued(nil))
	for i := range 3 {
		t.enqueue(a, "work.1", i, &layer.EnqueueOptions{ID: fmt.Sprint("key ", i)})
		t.must(t.take(b, "work.1", i, 1).Bury(t.ctx, strings.Repeat("why ", 500)))
	}
	t.until("there are three dead letters", func() bool { return len(t.letters(a, "")) == 3 })
	all := t.letters(a, "")
	if len(all[0].Reason) > 1000 || all[0].Message.Header.ID != "key 0" {
		t.Errorf("the reason has %d bytes, the key is %q", len(all[0].Reason), all[0].Message.Header.ID)
	}
	t.must(b.Replay(t.ctx, all[1].ID))
	t.must(a.Drop(t.ctx, all[0].ID))
	t.is("Drop again", a.Drop(t.ctx, all[0].ID), layer.ErrNoDeadLetter)
	t.is("Replay again", b.Replay(t.ctx, all[1].ID), layer.ErrNoDeadLetter)
	d := t.take(a, "work.1", 1, 1)
	if d.Header.ID != "key 1" {
		t.Errorf("the key is %q", d.Header.ID)
	}
	t.must(d.Ack(t.ctx))
	t.idle(a, "work.1")
	if d := t.oneLetter(b, "work.1"); d.ID != all[2].ID {
		t.Errorf("the letter that is left is %d, want %d", d.ID, all[2].ID)
	}
}

func killer(t *trial) {
	a, b := t.pair(queued(func(q *layer.QueuePolicy) { q.AckWait, q.Attempts = 5*time.Second, 2 }))
	t.enqueue(a, "work.1", 1, nil)
	t.take(a, "work.1", 1, 1)
	t.take(b, "work.1", 1, 2)
	t.enqueue(a, "work.1", 2, nil)
	t.must(t.take(a, "work.1", 2, 1).Ack(t.ctx))
	ctx, cancel := context.WithCancel(t.ctx)
	var taking sync.WaitGroup
	taking.Go(func() {
		if d, err := b.Take(ctx, "work.1"); err == nil {
			t.Errorf("it came again: %s, attempt %d", d.Data, d.Attempt)
		}
	})
	d := t.oneLetter(a, "work.1")
	cancel()
	taking.Wait()
	if d.Attempts != 2 || !strings.Contains(d.Reason, "no worker was heard of") {
		t.Errorf("the dead letter is %+v", d)
	}
}

func noMessage(t *trial) {
	a := t.layer(queued(nil))
	link, err := t.dial(t).Attach(t.ctx, "twraw", nothing{})
	t.must(err)
	defer link.Close(t.ctx)
	_, err = link.Govern(t.ctx, nil)
	t.must(err)
	_, err = link.Enqueue(t.ctx, "work.1", &layer.Packet{Data: []byte(`{"no":"type"}`)}, layer.Placing{})
	t.must(err)
	t.enqueue(a, "work.1", 1, nil)
	t.work(a, "work.1", 1)
	d := t.oneLetter(a, "work.1")
	if d.Message.Type != "" || !strings.Contains(d.Reason, "not a message") {
		t.Errorf("the dead letter is %+v", d)
	}
}

// nothing is a receiver that nobody sends to.
type nothing struct{}

func (nothing) Deliver([]layer.Inbound)              {}
func (nothing) DeliverTo(string, layer.Packet) error { return nil }
func (nothing) Call(context.Context, []byte) []byte  { return nil }
func (nothing) Report(layer.LinkEvent)               {}

func cancelledTake(t *trial) {
	a, b := t.pair(queued(nil))
	for i := range 30 {
		ctx, cancel := context.WithCancel(t.ctx)
		var took *layer.Delivery
		var taking sync.WaitGroup
		taking.Go(func() { took, _ = b.Take(ctx, "work.1") })
		if i%2 == 0 {
			time.Sleep(time.Duration(i) * 100 * time.Microsecond)
		}
		var sending sync.WaitGroup
		sending.Go(func() { t.enqueue(a, "work.1", i, nil) })
		cancel()
		taking.Wait()
		sending.Wait()
		if took == nil {
			took = t.take(a, "work.1", i, 1)
		}
		t.must(took.Ack(t.ctx))
	}
	t.idle(a, "work.1")
}

func released(t *trial) {
	a, b := t.pair(queued(func(q *layer.QueuePolicy) { q.AckWait, q.Attempts = time.Minute, 2 }))
	t.enqueue(a, "work.1", 1, nil)
	for range 5 {
		t.must(t.take(a, "work.1", 1, 1).Release(t.ctx))
	}
	t.must(t.take(b, "work.1", 1, 1).Retry(t.ctx, 0, "x"))
	t.must(t.take(b, "work.1", 1, 2).Release(t.ctx))
	start := time.Now()
	t.must(t.take(a, "work.1", 1, 2).Postpone(t.ctx, 300*time.Millisecond))
	d := t.take(a, "work.1", 1, 2)
	if took := time.Since(start); took < 300*time.Millisecond || d.Lost != 0 {
		t.Errorf("it came again after %v, and counts %d attempts as lost", took, d.Lost)
	}
	t.must(d.Ack(t.ctx))
	t.is("Release of what is done", d.Release(t.ctx), layer.ErrStale)
}

// ledger is who has which message of a queue under load, and how often each was done.
type ledger struct {
	mu   sync.Mutex // guards all below
	at   map[int]bool
	done map[int]int
}

// begin notes that a worker has message n, and reports whether another has it.
func (g *ledger) begin(n int) (another bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	another, g.at[n] = g.at[n], true
	return another
}

func (g *ledger) end(n int, done bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at[n] = false
	if done {
		g.done[n]++
	}
}

func (g *ledger) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.done)
}

// work takes messages until ctx ends. The first attempt of each third one fails.
func (g *ledger) work(ctx context.Context, t *trial, l *layer.Layer) error {
	for {
		d, err := l.Take(ctx, "work.1")
		if err != nil {
			return err
		}
		n, err := noteOf(d.Message)
		if err != nil {
			return err
		}
		if g.begin(n.N) {
			t.Errorf("message %d is with two workers", n.N)
		}
		runtime.Gosched()
		fail := n.N%3 == 0 && d.Attempt == 1
		g.end(n.N, !fail)
		if fail {
			err = d.Retry(t.ctx, 0, "the first attempt fails")
		} else {
			err = d.Ack(t.ctx)
		}
		if err != nil {
			return err
		}
	}
}

func queueLoad(t *trial) {
	const each, senders, workers = 100, 3, 8
	a, b := t.pair(queued(func(q *layer.QueuePolicy) { q.AckWait = 30 * time.Second }))
	layers := []*layer.Layer{a, b}
	g := &ledger{at: map[int]bool{}, done: map[int]int{}}
	ctx, cancel := context.WithCancel(t.ctx)
	var working, sending sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			if err := g.work(ctx, t, layers[w%2]); ctx.Err() == nil {
				t.Errorf("worker: %v", err)
			}
		})
	}
	for s := range senders {
		sending.Go(func() {
			for i := range each {
				t.enqueue(layers[s%2], "work.1", s*each+i, nil)
			}
		})
	}
	sending.Wait()
	t.until("all are done", func() bool { return g.count() == each*senders })
	cancel()
	working.Wait()
	for n, times := range g.done {
		if times != 1 {
			t.Errorf("message %d was done %d times", n, times)
		}
	}
	t.idle(a, "work.1")
}
