package layer

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// names returns who is present, with their connections.
func (t *table) names() map[string]int {
	all := map[string]int{}
	for user, u := range t.users {
		all[user] = u.connections
	}
	return all
}

// What is said while a state is being fetched is kept, and follows on it.
func TestPresenceWhileFetching(t *testing.T) {
	tab := newTable("room", &Presence{Grace: time.Second, Lease: time.Minute}, 0)
	say := func(base, version uint64, seats ...seat) (fetch bool) {
		return tab.receive(&presenceState{Process: "twa", Base: base, Version: version, TTL: 60_000, Seats: seats}, 0) != nil
	}
	if !say(7, 7) {
		t.Fatal("the state of a process that nobody knew is not fetched")
	}
	for _, s := range []bool{
		say(7, 8, seat{User: "ann", N: 1}),
		say(8, 9, seat{User: "bob", N: 2}),
		say(9, 12, seat{User: "ann"}),
	} {
		if s {
			t.Error("it is fetched twice at a time")
		}
	}
	h := tab.holders["twa"]
	page := &presencePage{Version: 8, Seats: []seat{{User: "ann", N: 1}, {User: "eve", N: 1}}}
	if tab.fetched(h, page) {
		t.Error("a state that all changes follow has to be fetched again")
	}
	if got, want := tab.names(), (map[string]int{"bob": 2, "eve": 1}); !maps.Equal(got, want) || h.version != 12 {
		t.Errorf("got %v at %d, want %v at 12", got, h.version, want)
	}
	if say(8, 9, seat{User: "ann", N: 1}) || say(12, 12) || len(tab.users) != 2 {
		t.Error("what is known already changes something")
	}
	if !say(13, 14, seat{User: "zoe", N: 1}) {
		t.Error("a hole is not noticed")
	}
	say(14, 20)
	if !tab.fetched(h, &presencePage{Version: 13}) && tab.names()["zoe"] != 1 {
		t.Errorf("got %v", tab.names())
	}
	say(30, 31)
	if !tab.fetched(h, &presencePage{Version: 20}) {
		t.Error("a state that the changes do not follow is not fetched again")
	}
	tab.expire(time.Hour)
	if len(tab.users)+len(tab.holders) != 0 {
		t.Errorf("after the lease there are %v", tab.names())
	}
}

// Pages of several processes become one, and end where one of them does.
func TestMergeMembers(t *testing.T) {
	seats := func(users ...string) (all []seat) {
		for _, u := range users {
			all = append(all, seat{User: u, N: 1})
		}
		return all
	}
	for _, c := range []struct {
		pages []*presencePage
		limit int
		want  []string
		more  bool
	}{
		{nil, 5, nil, false},
		{[]*presencePage{{Seats: seats("a", "c")}, {Seats: seats("b", "c")}}, 5, []string{"a1", "b1", "c2"}, false},
		{[]*presencePage{{Seats: seats("a", "c"), More: true}, {Seats: seats("b", "d")}}, 5, []string{"a1", "b1", "c1"}, true},
		{[]*presencePage{{Seats: seats("a", "c"), More: true}, {Seats: seats("b"), More: true}}, 5, []string{"a1", "b1"}, true},
		{[]*presencePage{{Seats: seats("a", "b", "c")}}, 2, []string{"a1", "b1"}, true},
	} {
		f := merge(c.pages, c.limit)
		var got []string
		for _, m := range f.members {
			got = append(got, fmt.Sprint(m.User, m.Connections))
		}
		if !slices.Equal(got, c.want) || f.more != c.more {
			t.Errorf("got %v, %t; want %v, %t", got, f.more, c.want, c.more)
		}
	}
}

// A storm of joins goes out in few messages, and each of them can be read.
func TestPresenceStorm(t *testing.T) {
	tab := newTable("room", &Presence{Grace: time.Second, Lease: time.Minute}, 0)
	version := uint64(0)
	next := func() uint64 { version++; return version }
	tab.channel, tab.first, tab.ask = &Channel{}, true, 1
	other := newTable("room", tab.policy, 0)
	heard := func() (n int) {
		for _, s := range tab.tell(time.Second, "twa", next) {
			data, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if s, err = parsePresence(data); err != nil {
				t.Fatal(err)
			}
			if h := other.receive(s, 0); h != nil {
				other.fetched(h, tab.page("", snapshotSeats))
			}
			n++
		}
		return n
	}
	if n := heard(); n != 1 {
		t.Errorf("an empty table says %d", n)
	}
	for i := range 3000 {
		tab.came(fmt.Sprint("u", i), 0)
		tab.came(fmt.Sprint("u", i), 0)
	}
	if n := heard(); n != 15 {
		t.Errorf("3,000 users come in %d messages, want 15", n)
	}
	for i := range 2999 {
		tab.left(fmt.Sprint("u", i), 0, 0)
	}
	if n := heard(); n != 15 {
		t.Errorf("3,000 tabs close in %d messages, want 15", n)
	}
	if n := heard(); n != 0 {
		t.Errorf("nothing new is %d messages", n)
	}
	if got, want := other.names(), tab.names(); !maps.Equal(got, want) || len(got) != 3000 || got["u2999"] != 2 || got["u1"] != 1 {
		t.Errorf("got %d users, want %d", len(got), len(want))
	}
}

func FuzzPresence(f *testing.F) {
	f.Add([]byte(`{"type":"presence.state","p":"twa","b":1,"v":2,"t":25000,"q":true,"a":3,"s":[{"u":"ann","n":2,"s":1700000000000}]}`),
		[]byte(`{"kept":true,"v":9,"t":1,"a":1,"s":[{"u":"bob","n":1}],"more":true}`))
	f.Add([]byte(`{"p":"twa","f":true,"v":5,"s":[{"u":"ann","n":1},{"u":"ann","n":-1}]}`), []byte(`{"more":true}`))
	f.Add([]byte(`{"p":"twa","v":18446744073709551615,"t":600000}`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, state, page []byte) {
		tab := newTable("room", &Presence{Grace: time.Second, Lease: time.Minute}, 0)
		for range 2 {
			s, err := parsePresence(state)
			if err != nil {
				return
			}
			h := tab.receive(s, 0)
			if h == nil {
				continue
			}
			if p, err := parsePage(page); err == nil {
				tab.fetched(h, p)
				merge([]*presencePage{p, p}, 3)
			}
		}
		holders, connections := 0, 0
		for _, h := range tab.holders {
			holders += len(h.seats)
			for _, s := range h.seats {
				connections += s.N
			}
		}
		if n := tab.count(); n.Users != holders || n.Connections != connections || n.Anonymous < 0 {
			t.Errorf("one process has %d users and %d connections, together there are %+v", holders, connections, n)
		}
		tab.expire(mostLease + 1)
		if len(tab.users) != 0 || tab.count() != (MemberCount{}) {
			t.Errorf("after the lease there are %v", tab.names())
		}
	})
}

// lateWire delivers what is published after a while.
type lateWire struct {
	direct
	delay time.Duration
}

func (w *lateWire) Attach(ctx context.Context, process string, r Receiver) (Link, error) {
	_, err := w.direct.Attach(ctx, process, r)
	return w, err
}

func (w *lateWire) Publish(_ context.Context, group string, p *Packet) error {
	in := []Inbound{{Subscription: Subscription{Group: group}, Packet: *p}}
	time.AfterFunc(w.delay, func() { w.to.Deliver(in) })
	return nil
}

// A table answers for all processes half a second after its question went round,
// however late that was.
func TestPresenceAnswersWhenItHasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := New(&lateWire{delay: 3 * time.Second}, &Options{Presence: []Presence{{Pattern: "room"}}})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close(t.Context())
		c, err := l.NewChannel(t.Context())
		if err == nil {
			err = l.GroupAdd(t.Context(), "room", c.Name())
		}
		if err != nil {
			t.Fatal(err)
		}
		knows := func() bool { return l.presence.look("room", func(*table) {}) }
		time.Sleep(gatherTime + 3*time.Second) // its question is on its way, and has nearly come
		if knows() {
			t.Error("the table answers for all before anybody was asked")
		}
		time.Sleep(settleTime + time.Second)
		if !knows() {
			t.Error("the table does not answer though all were asked")
		}
	})
}
