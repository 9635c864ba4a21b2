package layer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// town is a network of processes that can be killed and cut off from each other,
// without anybody being told.
type town struct {
	t    *testing.T
	bus  layer.Bus
	opts layer.Options

	mu        sync.Mutex     // guards all below
	side      map[string]int // by process; those of different sides do not hear each other
	receivers map[string]layer.Receiver
}

func newTown(t *testing.T, p ...layer.Presence) *town {
	return &town{t: t, bus: membus.New(), side: map[string]int{}, receivers: map[string]layer.Receiver{},
		opts: layer.Options{Presence: p, Logger: slog.New(slog.DiscardHandler)}}
}

// Attach implements layer.Bus.
func (n *town) Attach(ctx context.Context, process string, r layer.Receiver) (layer.Link, error) {
	n.mu.Lock()
	n.receivers[process] = r
	n.mu.Unlock()
	l, err := n.bus.Attach(ctx, process, &townReceiver{r, n, process})
	return &townLink{l, n, process}, err
}

func (n *town) apart(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.side[a] != n.side[b]
}

func (n *town) move(process string, side int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.side[process] = side
}

type townReceiver struct {
	layer.Receiver
	town    *town
	process string
}

// Deliver implements layer.Receiver.
func (r *townReceiver) Deliver(in []layer.Inbound) {
	r.Receiver.Deliver(slices.DeleteFunc(slices.Clone(in), func(m layer.Inbound) bool {
		var from struct{ P string }
		_ = json.Unmarshal(m.Packet.Data, &from)
		return from.P != "" && r.town.apart(r.process, from.P)
	}))
}

type townLink struct {
	layer.Link
	town    *town
	process string
}

// Call implements layer.Link.
func (l *townLink) Call(ctx context.Context, process string, request []byte) ([][]byte, error) {
	if process != "" && l.town.apart(l.process, process) {
		return nil, layer.ErrUnavailable
	}
	return l.Link.Call(ctx, process, request)
}

// layer makes one more process.
func (n *town) layer() *layer.Layer {
	n.t.Helper()
	l, err := layer.New(n, &n.opts)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			n.t.Error(err)
		}
	})
	return l
}

// join makes a channel of user a member of a group.
func join(t *testing.T, l *layer.Layer, group, user string) *layer.Channel {
	t.Helper()
	return joinTap(t, l, group, user, nil)
}

func joinTap(t *testing.T, l *layer.Layer, group, user string, tap layer.Tap) *layer.Channel {
	t.Helper()
	c, err := l.Tap(t.Context(), tap)
	if err == nil {
		err = c.Identify(user)
	}
	if err == nil {
		err = l.GroupAdd(t.Context(), group, c.Name())
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// roll returns the members as l knows them, by name, with their connections.
func roll(t *testing.T, l *layer.Layer, group string) map[string]int {
	t.Helper()
	all := map[string]int{}
	for after := ""; ; {
		page, err := l.Members(t.Context(), group, &layer.MembersOptions{After: after, Limit: 7})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page {
			if m.User <= after {
				t.Fatalf("%s comes behind %s", m.User, after)
			}
			after = m.User
			all[m.User] = m.Connections
		}
		if len(page) < 7 {
			return all
		}
	}
}

// diary is a tap that writes down who comes and goes.
type diary struct {
	mu    sync.Mutex // guards lines
	lines []string   // "+ann", "-ann"
}

// Offer implements layer.Tap.
func (d *diary) Offer(b *layer.Batch) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range b.Messages {
		var p layer.PresenceJoin // a leave has the same members
		sign, known := map[string]string{"presence.join": "+", "presence.leave": "-"}[m.Type]
		if !known {
			continue
		}
		if err := m.Decode(&p); err != nil {
			panic(err)
		}
		for _, u := range p.Members {
			d.lines = append(d.lines, sign+u.User)
		}
	}
	return true
}

// Wake implements layer.Tap.
func (d *diary) Wake() {}

// take returns what was written since the last call.
func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

func (d *diary) want(t *testing.T, want ...string) {
	t.Helper()
	if got := d.take(); !slices.Equal(got, want) {
		t.Errorf("members were told %q, want %q", got, want)
	}
}

func TestPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTown(t, layer.Presence{Pattern: "room.>"})
		a, b, far := n.layer(), n.layer(), n.layer()
		d := new(diary)
		joinTap(t, a, "room.1", "zoe", d)
		time.Sleep(10 * time.Second)
		d.want(t, "+zoe")

		ann := join(t, b, "room.1", "ann")
		second := join(t, a, "room.1", "ann") // another tab
		join(t, b, "room.1", "")              // nobody
		time.Sleep(2 * time.Second)
		d.want(t, "+ann")
		for _, l := range []*layer.Layer{a, b, far} {
			if got, want := roll(t, l, "room.1"), (map[string]int{"ann": 2, "zoe": 1}); !maps.Equal(got, want) {
				t.Errorf("members are %v, want %v", got, want)
			}
			if got, err := l.CountMembers(t.Context(), "room.1"); err != nil || got != (layer.MemberCount{Users: 2, Connections: 3, Anonymous: 1}) {
				t.Errorf("count is %+v, %v", got, err)
			}
		}

		second.Close() // the first tab is there still
		time.Sleep(10 * time.Second)
		d.want(t)
		ann.Close() // a reload of the page
		time.Sleep(3 * time.Second)
		ann = join(t, a, "room.1", "ann")
		time.Sleep(20 * time.Second)
		d.want(t)
		if err := ann.Identify("bob"); err != nil { // another login
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		d.want(t, "+bob")
		time.Sleep(10 * time.Second)
		d.want(t, "-ann")
		if err := a.GroupDiscard(t.Context(), "room.1", ann.Name()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		d.want(t)
		time.Sleep(2 * time.Second)
		d.want(t, "-bob")
		if got, want := roll(t, b, "room.1"), (map[string]int{"zoe": 1}); !maps.Equal(got, want) {
			t.Errorf("members are %v, want %v", got, want)
		}
	})
}

// A process that ends says farewell, so its users have the grace; one that is
// killed says nothing, and they have the lease.
func TestPresenceOfAProcessThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTown(t, layer.Presence{Pattern: "room.>"})
		a, b, c := n.layer(), n.layer(), n.layer()
		d := new(diary)
		joinTap(t, a, "room.1", "zoe", d)
		time.Sleep(10 * time.Second)
		join(t, b, "room.1", "ann")
		join(t, b, "room.1", "eve")
		join(t, c, "room.1", "bob")
		time.Sleep(10 * time.Second)
		d.want(t, "+zoe", "+ann", "+bob", "+eve")
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		eve := join(t, c, "room.1", "eve") // in time, elsewhere
		n.move(c.Process(), 1)             // killed
		time.Sleep(4 * time.Second)
		d.want(t)
		time.Sleep(3 * time.Second)
		d.want(t, "-ann", "-eve") // nobody heard of her at c
		_ = eve
		time.Sleep(10 * time.Second)
		d.want(t)
		time.Sleep(11 * time.Second) // 28 s in all
		d.want(t, "-bob")
		if got, want := roll(t, a, "room.1"), (map[string]int{"zoe": 1}); !maps.Equal(got, want) {
			t.Errorf("members are %v, want %v", got, want)
		}
	})
}

// Who hears nobody keeps what it knows, and asks when its link is up again.
func TestPresenceWithoutALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTown(t, layer.Presence{Pattern: "room.>"})
		a, b := n.layer(), n.layer()
		d := new(diary)
		joinTap(t, a, "room.1", "zoe", d)
		time.Sleep(10 * time.Second)
		bob := join(t, b, "room.1", "bob")
		time.Sleep(10 * time.Second)
		d.want(t, "+zoe", "+bob")
		n.move(a.Process(), 1)
		n.receivers[a.Process()].Report(layer.LinkEvent{Kind: layer.LinkDown})
		bob.Close()
		join(t, b, "room.1", "eve")
		time.Sleep(time.Minute)
		d.want(t)
		if got, want := roll(t, b, "room.1"), (map[string]int{"eve": 1}); !maps.Equal(got, want) {
			t.Errorf("members are %v, want %v", got, want)
		}
		n.move(a.Process(), 0)
		n.receivers[a.Process()].Report(layer.LinkEvent{Kind: layer.LinkUp})
		time.Sleep(4 * time.Second)
		d.want(t, "-bob", "+eve")
		for _, l := range []*layer.Layer{a, b} {
			if got, want := roll(t, l, "room.1"), (map[string]int{"eve": 1, "zoe": 1}); !maps.Equal(got, want) {
				t.Errorf("members are %v, want %v", got, want)
			}
		}
	})
}

// What the layer alone may say is refused and dropped from everybody else.
func TestPresenceIsNotForged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTown(t, layer.Presence{Pattern: "room.>"})
		n.opts.Groups = []layer.Retention{{Pattern: "room.>"}}
		a := n.layer()
		stranger, err := layer.New(n, &layer.Options{Logger: slog.New(slog.DiscardHandler)}) // it has no such policy
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close(context.Background())
		d := new(diary)
		c := joinTap(t, a, "room.1", "zoe", d)
		time.Sleep(10 * time.Second)
		d.want(t, "+zoe")
		forged := layer.PresenceJoin{Group: "room.1", Members: []layer.Member{{User: "eve"}}}
		for what, err := range map[string]error{
			"GroupSend":      a.GroupSend(t.Context(), "room.1", forged),
			"Send":           a.Send(t.Context(), c.Name(), layer.PresenceLeave(forged)),
			"Send elsewhere": stranger.Send(t.Context(), c.Name(), forged),
		} {
			if _, ok := errors.AsType[*layer.MessageError](err); !ok {
				t.Errorf("%s of a forged message: %v", what, err)
			}
		}
		if err := stranger.GroupSend(t.Context(), "room.1", forged); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		d.want(t)
		for m, err := range a.History(t.Context(), "room.1", layer.Position{}, 0) {
			t.Errorf("history has %s, %v", m.Data, err)
		}
		if got, want := roll(t, a, "room.1"), (map[string]int{"zoe": 1}); !maps.Equal(got, want) {
			t.Errorf("members are %v, want %v", got, want)
		}
	})
}

func TestPresenceOptions(t *testing.T) {
	for want, p := range map[string][]layer.Presence{
		"pattern":    {{Pattern: "a b"}},
		"Lease":      {{Pattern: "a", Lease: time.Millisecond}},
		"Grace":      {{Pattern: "a", Grace: time.Hour}},
		"may match":  {{Pattern: "a.>"}, {Pattern: "a.b"}},
		`pattern ""`: {{}},
	} {
		if _, err := layer.New(membus.New(), &layer.Options{Presence: p}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v does not say %q", p, err, want)
		}
	}
}

func TestMembersErrors(t *testing.T) {
	with, without := newTown(t, layer.Presence{Pattern: "room.>"}), newTown(t)
	a, b := with.layer(), without.layer()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		l     *layer.Layer
		ctx   context.Context
		group string
		opts  *layer.MembersOptions
		want  string
	}{
		{a, t.Context(), "hall", nil, "no policy of Options.Presence covers hall"},
		{b, t.Context(), "hall", nil, "no process has a policy"},
		{a, t.Context(), "room.*", nil, "not valid"},
		{a, t.Context(), "room.1", &layer.MembersOptions{Limit: -1}, "Limit is -1"},
		{a, ctx, "room.1", nil, "canceled"},
	} {
		if _, err := c.l.Members(c.ctx, c.group, c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("members of %s: error %v does not say %q", c.group, err, c.want)
		}
	}
	if got, err := a.Members(t.Context(), "room.1", nil); err != nil || len(got) != 0 {
		t.Errorf("an empty room has %v, %v", got, err)
	}
	c := join(t, a, "room.1", "ann")
	if err := c.Identify(strings.Repeat("x", 257)); err == nil {
		t.Error("a name of 257 bytes is taken")
	}
	if got, err := a.CountMembers(t.Context(), "room.1"); err != nil || got.Anonymous != 1 {
		t.Errorf("count is %+v, %v", got, err)
	}
	c.Close()
	if err := c.Identify("ann"); !errors.Is(err, layer.ErrClosed) {
		t.Errorf("Identify of a closed channel: %v", err)
	}
}

// Whatever happens: once it is quiet, every process knows who is there, and its
// members were told as much.
func TestPresenceConverges(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { newStory(t, seed).run() })
		})
	}
}

// story is a random run in a town.
type story struct {
	*town
	*rand.Rand
	alive []*villager
	sides int
}

// villager is a process that lives.
type villager struct {
	*layer.Layer
	diary    diary
	channels map[*layer.Channel]string // of members, with their users
}

func newStory(t *testing.T, seed uint64) *story {
	s := &story{town: newTown(t, layer.Presence{Pattern: "room"}), Rand: rand.New(rand.NewPCG(seed, 1))}
	for range 3 {
		s.spawn()
	}
	return s
}

// spawn starts a process with a member that stays.
func (s *story) spawn() {
	v := &villager{Layer: s.layer(), channels: map[*layer.Channel]string{}}
	joinTap(s.t, v.Layer, "room", "", &v.diary)
	s.alive = append(s.alive, v)
}

func (s *story) run() {
	for range 80 {
		s.act()
		if s.IntN(3) == 0 {
			time.Sleep(time.Duration(s.IntN(8000)) * time.Millisecond)
		}
	}
	s.heal()
	time.Sleep(time.Minute)
	truth := map[string]int{}
	for _, v := range s.alive {
		for _, user := range v.channels {
			truth[user]++
		}
	}
	for _, v := range s.alive {
		if got := roll(s.t, v.Layer, "room"); !maps.Equal(got, truth) {
			s.t.Errorf("%s has %v, want %v", v.Process(), got, truth)
		}
		s.check(v, truth)
	}
}

// act does one random thing.
func (s *story) act() {
	v := s.alive[s.IntN(len(s.alive))]
	user := fmt.Sprint("u", s.IntN(12))
	switch n := s.IntN(20); {
	case n < 10:
		v.channels[join(s.t, v.Layer, "room", user)] = user
	case n < 16:
		for _, c := range s.some(v) {
			c.Close()
			delete(v.channels, c)
		}
	case n < 17:
		for _, c := range s.some(v) {
			v.channels[c] = user
			if err := c.Identify(user); err != nil {
				s.t.Fatal(err)
			}
		}
	case n < 18 && len(s.alive) > 1:
		s.alive = slices.DeleteFunc(s.alive, func(o *villager) bool { return o == v })
		if s.IntN(2) == 0 {
			_ = v.Close(context.Background())
		} else {
			s.sides++
			s.move(v.Process(), -s.sides) // killed
		}
		s.spawn()
	case n < 19:
		s.move(v.Process(), 1)
	default:
		s.heal()
	}
}

// some returns a channel of v, in the same order in each run, or none.
func (s *story) some(v *villager) []*layer.Channel {
	all := slices.SortedFunc(maps.Keys(v.channels), func(a, b *layer.Channel) int { return strings.Compare(a.Name(), b.Name()) })
	if len(all) == 0 {
		return nil
	}
	return all[:1]
}

func (s *story) heal() {
	for _, v := range s.alive {
		s.move(v.Process(), 0)
	}
}

// check compares what v's members were told with the truth.
func (s *story) check(v *villager, truth map[string]int) {
	last := map[string]string{}
	for _, line := range v.diary.take() {
		sign, user := line[:1], line[1:]
		if last[user] == sign {
			s.t.Errorf("%s was told %s twice", v.Process(), line)
		}
		last[user] = sign
	}
	for user, sign := range last {
		if sign == "+" != (truth[user] > 0) {
			s.t.Errorf("%s was told %s%s last, and %d are there", v.Process(), sign, user, truth[user])
		}
	}
}
