package layertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// durableRows are about groups whose messages are kept.
var durableRows = []row{
	{"a durable group keeps what was sent before anybody joined", "A durable group keeps the newest messages, as many and for as long as its policy says, whether or not anybody is a member.", keptMessages},
	{"history follows a position without a hole", "History returns the messages of a durable group that follow a position, in order and without a hole", historyFollows},
	{"live messages carry positions", "A message of a durable group arrives with its Position, in one order for all members of all processes.", oneOrder},
	{"a position is where a page goes on from", "It includes every message whose Publish has returned.", liveFromHere},
	{"members get all behind what their process has seen", "channels of this process that are members when Seen is called get every message behind it", seen},
	{"a message is stored once for each key", "of the messages that are published to one durable group with the same ID within a minute, one is stored", storedOnce},
	{"of those who write after the same place one succeeds", "it is stored only if the group's newest message is the one right before that place, and the error is a *[ConflictError] otherwise.", conditional},
	{"who was away learns that others went on", "Of many who write after the same place one succeeds, which is how they take turns, and how one that was away learns that others went on.", conflicts},
	{"a conditional publish may be tried again", "A retry with the same ID and the same after is a duplicate, not a conflict, if the first try was stored.", conditionalAgain},
	{"what is no longer kept is a gap", "If what follows the position is not there in full, or goes while it is read, the last element is a *[GapError], and nothing comes behind a hole.", trimmed},
	{"an empty group has a position, too", "History returns the messages of a durable group that follow a position, in order and without a hole", fromEmpty},
	{"messages of a durable group grow too old", "A durable group keeps the newest messages, as many and for as long as its policy says, whether or not anybody is a member.", tooOld},
	{"policies that contradict each other are an error", "Policies whose patterns overlap are an error, and so is one that contradicts what the network has already.", contradictions},
	{"a process learns what others keep", "A process learns at New what the others keep.", learns},
	{"an ordinary group beside a durable one stores nothing", "To an ordinary group nil says what it says there, and the receipt is empty.", ordinaryBeside},
	{"the newest messages of a group are found", "Before returns the place before the newest n messages of a durable group: what [Layer.History] takes to return these.", beforeTheNewest},
	{"the newest messages are found while others come", "Before returns the place before the newest n messages of a durable group: what [Layer.History] takes to return these.", beforeWhilePublished},
	{"a durable group under load is whole", "A message of a durable group arrives with its Position, in one order for all members of all processes.", durableLoad},
	{"a lost message of a durable group is repaired", "What is lost between the store and a process is read from the store and delivered in its place", repaired},
}

func durable(messages int) func(*layer.Options) {
	return func(o *layer.Options) {
		o.Groups = []layer.Retention{{Pattern: "job.>", Messages: messages, Age: time.Hour}}
		o.Capacity = roomy
	}
}

// publish sends a note and returns its position.
func (t *trial) publish(l *layer.Layer, group string, n int) layer.Position {
	t.Helper()
	r, err := l.Publish(t.ctx, group, note{N: n}, nil)
	t.must(err)
	if r.Position.IsZero() || r.Duplicate {
		t.Fatalf("publish %d: got the receipt %+v", n, r)
	}
	return r.Position
}

// history reads until the end, and returns how it ended.
func (t *trial) history(l *layer.Layer, group string, from layer.Position, limit int) (all []layer.Message, err error) {
	t.Helper()
	for m, err := range l.History(t.ctx, group, from, limit) {
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
	return all, nil
}

// numbers returns what notes say.
func (t *trial) numbers(all []layer.Message) []int {
	t.Helper()
	got := []int{}
	for _, m := range all {
		n, err := noteOf(m)
		t.must(err)
		got = append(got, n.N)
	}
	return got
}

// reads checks that the history from a position is that.
func (t *trial) reads(l *layer.Layer, group string, from layer.Position, want ...int) {
	t.Helper()
	all, err := t.history(l, group, from, 0)
	t.must(err)
	if got := t.numbers(all); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("history of %s from %q: got %v, want %v", group, from, got, want)
	}
}

// isGap checks that the history from a position ends with a gap at once.
func (t *trial) isGap(l *layer.Layer, group string, from layer.Position, want layer.GapReason) {
	t.Helper()
	all, err := t.history(l, group, from, 0)
	var gap *layer.GapError
	if !errors.As(err, &gap) || gap.Reason != want || len(all) > 0 {
		t.Fatalf("history of %s from %q: got %d messages, then %v; want a gap because of %s", group, from, len(all), err, want)
	}
}

func keptMessages(t *trial) {
	a, b := t.pair(durable(5))
	for i := range 10 {
		t.publish(a, "job.1", i)
	}
	t.must(a.GroupSend(t.ctx, "job.2", note{N: 100}))
	all, err := t.history(b, "job.1", layer.Position{}, 0)
	t.must(err)
	got := t.numbers(all)
	// One more may be kept, by which the position before these is checked.
	if len(got) < 5 || len(got) > 6 || got[len(got)-1] != 9 || got[0] != 10-len(got) {
		t.Errorf("got %v, want the newest 5 of 10", got)
	}
	t.reads(b, "job.2", layer.Position{}, 100)
	t.reads(b, "job.none", layer.Position{})
	if _, err := t.history(b, "other", layer.Position{}, 0); !errors.Is(err, layer.ErrNotDurable) {
		t.Errorf("history of an ordinary group: got error %v, want %v", err, layer.ErrNotDurable)
	}
	_, err = b.Position(t.ctx, "other")
	t.is("position of an ordinary group", err, layer.ErrNotDurable)
}

func historyFollows(t *trial) {
	a, b := t.pair(durable(2000))
	const n = 620 // more than a page of 500
	var at []layer.Position
	for i := range n {
		at = append(at, t.publish(a, "job.1", i))
		if i%3 == 0 {
			t.publish(a, "job.2", i) // sequences are shared
		}
	}
	for _, i := range []int{0, 1, n - 502, n - 501, n - 2} {
		t.reads(b, "job.1", at[i], ints(i+1, n)...)
	}
	t.reads(b, "job.1", at[n-1])
	t.reads(b, "job.1", layer.Position{}, ints(0, n)...)
	all, err := t.history(b, "job.1", at[99], 7)
	t.must(err)
	if got := t.numbers(all); fmt.Sprint(got) != fmt.Sprint(ints(100, 107)) {
		t.Errorf("at most 7: got %v", got)
	}
	for i, m := range all {
		if m.Position != at[100+i] || m.Group != "job.1" {
			t.Errorf("message %d: got position %v of group %s, want %v", i, m.Position, m.Group, at[100+i])
		}
		if p, err := layer.ParsePosition(m.Position.String()); err != nil || p != m.Position {
			t.Errorf("%v becomes %v, %v", m.Position, p, err)
		}
	}
}

func oneOrder(t *trial) {
	a, b := t.pair(durable(1000))
	members := []*layer.Channel{t.member(a, "job.1"), t.member(b, "job.1"), t.member(b, "job.1")}
	const each = 50
	var sending sync.WaitGroup
	for w, l := range []*layer.Layer{a, b} {
		sending.Go(func() {
			for i := range each {
				if _, err := l.Publish(t.ctx, "job.1", note{From: fmt.Sprint(w, "."), N: i}, nil); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
		})
	}
	sending.Wait()
	all, err := t.history(a, "job.1", layer.Position{}, 0)
	t.must(err)
	if len(all) != 2*each {
		t.Fatalf("%d messages are stored, want %d", len(all), 2*each)
	}
	for _, c := range members {
		for i, want := range all {
			m, err := c.Receive(t.ctx)
			t.must(err)
			if m.Position != want.Position || string(m.Data) != string(want.Data) || m.Header.ID != "" {
				t.Fatalf("%s, message %d: got %s at %v (key %q), want %s at %v", c.Name(), i, m.Data, m.Position, m.Header.ID, want.Data, want.Position)
			}
		}
		t.nothing(c)
	}
}

func liveFromHere(t *trial) {
	a, b := t.pair(durable(1000))
	for i := range 30 {
		t.publish(a, "job.1", i)
		p, err := b.Position(t.ctx, "job.1")
		t.must(err)
		t.reads(b, "job.1", p)
		t.publish(a, "job.1", 100+i)
		t.reads(b, "job.1", p, 100+i)
	}
}

func storedOnce(t *trial) {
	a, b := t.pair(durable(100))
	c := t.member(b, "job.1")
	var first layer.Receipt
	for i, l := range []*layer.Layer{a, a, b} {
		r, err := l.Publish(t.ctx, "job.1", note{N: i}, &layer.PublishOptions{ID: "key 1"})
		t.must(err)
		if i == 0 {
			first = r
		}
		if r.Duplicate != (i > 0) || r.Position != first.Position {
			t.Errorf("publish %d: got %+v, the first was %+v", i, r, first)
		}
	}
	// A key is the group's own, and one that the layer made is nobody's.
	r, err := a.Publish(t.ctx, "job.2", note{N: 7}, &layer.PublishOptions{ID: "key 1"})
	t.must(err)
	if r.Duplicate {
		t.Error("a key of another group counts")
	}
	m, err := c.Receive(t.ctx)
	t.must(err)
	if m.Header.ID != "key 1" {
		t.Errorf("got the key %q, want %q", m.Header.ID, "key 1")
	}
	t.publish(a, "job.1", 8)
	m, err = c.Receive(t.ctx)
	t.must(err)
	t.must(b.GroupSend(t.ctx, "job.1", m)) // passed on as it is
	t.gets(c, 8)
	t.reads(b, "job.1", layer.Position{}, 0, 8, 8)
	_, err = a.Publish(t.ctx, "job.1", note{}, &layer.PublishOptions{ID: "~mine"})
	var bad *layer.MessageError
	if !errors.As(err, &bad) {
		t.Errorf("a key that looks like one of the layer's: got error %v", err)
	}
}

func trimmed(t *trial) {
	a, b := t.pair(durable(5))
	var at []layer.Position
	for i := range 20 {
		at = append(at, t.publish(a, "job.1", i))
	}
	for i := range 20 {
		if i >= 14 { // the newest 5, and the position before them
			t.reads(b, "job.1", at[i], ints(i+1, 20)...)
		} else {
			t.isGap(b, "job.1", at[i], layer.GapTrimmed)
		}
		n, err := b.Behind(t.ctx, "job.1", at[i])
		var gap *layer.GapError
		switch {
		case i >= 14 && (err != nil || n != 19-i):
			t.Errorf("behind %d: got %d messages, %v; want %d", i, n, err, 19-i)
		case i < 14 && (!errors.As(err, &gap) || gap.Reason != layer.GapTrimmed):
			t.Errorf("behind %d: got %d messages, %v; want a gap", i, n, err)
		}
	}
	other := t.network(t)
	c := t.layerOn(other(t), durable(5))
	t.publish(c, "job.1", 1)
	t.isGap(c, "job.1", at[19], layer.GapReset)
	t.isGap(c, "job.none", at[19], layer.GapReset)
}

func fromEmpty(t *trial) {
	a, b := t.pair(durable(5))
	for i := range 5 { // others' messages do not count
		t.publish(a, "job.2", i)
	}
	p, err := b.Position(t.ctx, "job.1")
	t.must(err)
	if back, err := layer.ParsePosition(p.String()); err != nil || back != p {
		t.Errorf("%v becomes %v, %v", p, back, err)
	}
	t.reads(b, "job.1", p)
	for i := range 5 {
		t.publish(a, "job.1", i)
		t.reads(b, "job.1", p, ints(0, i+1)...)
	}
	for i := range 2 {
		t.publish(a, "job.1", i)
	}
	t.isGap(b, "job.1", p, layer.GapTrimmed)
}

func tooOld(t *trial) {
	brief := func(o *layer.Options) {
		o.Groups = []layer.Retention{{Pattern: "job.>", Messages: 100, Age: time.Second}}
	}
	a, b := t.pair(brief)
	c := t.member(b, "job.1")
	empty, err := b.Position(t.ctx, "job.1")
	t.must(err)
	first := t.publish(a, "job.1", 1)
	t.next(c)
	t.until("the message is gone", func() bool {
		all, err := t.history(b, "job.1", layer.Position{}, 0)
		return err == nil && len(all) == 0
	})
	t.isGap(b, "job.1", first, layer.GapTrimmed)
	t.isGap(b, "job.1", empty, layer.GapTrimmed)
	t.publish(a, "job.1", 2)
	if got := t.next(c); got.N != 2 { // nothing is missing between the two
		t.Errorf("got %d, want 2", got.N)
	}
	if s := b.Stats(); s.Gaps != 0 {
		t.Errorf("a member that was there all the time: %d gaps", s.Gaps)
	}
}

func contradictions(t *trial) {
	bus := t.dial(t)
	t.layerOn(bus, durable(5))
	t.layerOn(t.dial(t), durable(5))
	for _, p := range []layer.Retention{
		{Pattern: "job.>", Messages: 6, Age: time.Hour},
		{Pattern: "job.>", Messages: 5, Age: time.Minute},
		{Pattern: "job.42", Messages: 5, Age: time.Hour},
		{Pattern: ">", Messages: 5, Age: time.Hour},
	} {
		l, err := layer.New(t.dial(t), &layer.Options{Groups: []layer.Retention{p}, Logger: t.log.logger()})
		if err == nil {
			l.Close(context.Background())
			t.Errorf("%v beside job.> with 5 messages and 1h0m0s: got no error", p)
			continue
		}
		for _, want := range []string{p.String(), `"job.>" (5 messages of each group, for 1h0m0s)`} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not state %s: %v", want, err)
			}
		}
	}
	for _, both := range [][]layer.Retention{
		{{Pattern: "a"}, {Pattern: "a"}},
		{{Pattern: "a.b"}, {Pattern: "a.>"}},
		{{Pattern: "a.b.>"}, {Pattern: "a.>"}},
		{{Pattern: "a>"}},
		{{Pattern: "a.*"}},
		{{Pattern: ""}},
		{{Pattern: "a", Messages: -1}},
		{{Pattern: "a", Age: time.Millisecond}},
	} {
		if l, err := layer.New(bus, &layer.Options{Groups: both, Logger: t.log.logger()}); err == nil {
			l.Close(context.Background())
			t.Errorf("%v: got no error", both)
		}
	}
}

func learns(t *trial) {
	a := t.layer(durable(5))
	b := t.layer(nil)
	c := t.member(b, "job.1")
	at := t.publish(b, "job.1", 1)
	m, err := c.Receive(t.ctx)
	t.must(err)
	if m.Position != at {
		t.Errorf("got position %v, want %v", m.Position, at)
	}
	t.reads(a, "job.1", layer.Position{}, 1)
}

func ordinaryBeside(t *trial) {
	a, b := t.pair(durable(5))
	c := t.member(b, "job", "jobs.1")
	for i, group := range []string{"job", "jobs.1"} {
		r, err := a.Publish(t.ctx, group, note{N: i}, &layer.PublishOptions{ID: "k", Sender: "s"})
		t.must(err)
		if r != (layer.Receipt{}) {
			t.Errorf("group %s: got the receipt %+v", group, r)
		}
		m, err := c.Receive(t.ctx)
		t.must(err)
		if !m.Position.IsZero() || m.Header != (layer.Header{ID: "k", Sender: "s"}) {
			t.Errorf("group %s: got position %v and header %+v", group, m.Position, m.Header)
		}
	}
}
