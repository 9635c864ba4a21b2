package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// host is a consumer that joins nothing, and tells its client the name of its
// channel, so that others can add it. What the client sends it does to a group.
type host struct{}

func (*host) connect(ctx context.Context, c *consumer.Conn) error {
	return c.SendJSON(ctx, c.ChannelName())
}

func (*host) receive(ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
	var in struct{ Add, Discard, Join string }
	if err := json.Unmarshal(f.Data, &in); err != nil {
		return err
	}
	switch {
	case in.Add != "":
		return c.GroupAdd(ctx, in.Add)
	case in.Join != "":
		return c.Join(ctx, in.Join, nil)
	}
	return c.GroupDiscard(ctx, in.Discard)
}

// hosts are such consumers of each kind: whose messages are forwarded, handled, and
// received.
func hosts() router.Table {
	relay := consumer.Otherwise(func(_ *host, ctx context.Context, c *consumer.Conn, m layer.Message) error { return c.SendJSON(ctx, m) })
	return router.Table{
		"/forward/": consumer.Type[host]{Connect: (*host).connect, Receive: (*host).receive, Messages: consumer.Table(consumer.Forward[host, line]())},
		"/handle/":  consumer.Type[host]{Connect: (*host).connect, Receive: (*host).receive, Messages: consumer.Table(relay)},
		"/receive/": consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
			var h host
			if err := h.connect(ctx, c); err != nil {
				return err
			}
			for e, err := range c.Events(ctx) {
				if err == nil && e.Frame != nil {
					err = h.receive(ctx, c, *e.Frame)
				} else if err == nil {
					err = c.SendJSON(ctx, e.Message)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// guest connects to a host and returns the name of its channel.
func (s *station) guest(target string, from client.Resume) (p *peer, channel string) {
	s.t.Helper()
	p = s.dial(target, from)
	for channel == "" {
		e := p.next()
		if e.Data == nil {
			s.t.Fatalf("got %s before the channel's name", show(e))
		}
		if err := json.Unmarshal(e.Data, &channel); err != nil {
			s.t.Fatal(err)
		}
	}
	return p, channel
}

func (p *peer) left(groups ...string) {
	p.t.Helper()
	for _, group := range groups {
		if e := p.next(); e.Left != group {
			p.t.Fatalf("got %s, want left %s", show(e), group)
		}
	}
}

func add(t testing.TB, l *layer.Layer, group, channel string) {
	t.Helper()
	if err := l.GroupAdd(t.Context(), group, channel); err != nil {
		t.Fatal(err)
	}
}

func discard(t testing.TB, l *layer.Layer, group, channel string) {
	t.Helper()
	if err := l.GroupDiscard(t.Context(), group, channel); err != nil {
		t.Fatal(err)
	}
}

// Another process adds a connection to groups and takes it out, and its client
// hears of it as if its consumer had done so.
func testGuest(t *testing.T, target string, buses [2]layer.Bus) {
	s := newStation(t, buses[0], hosts(), nil)
	other := newStation(t, buses[1], hosts(), nil)
	p, channel := s.guest(target, client.Resume{})
	for from := 1; from < 5; from += 2 {
		add(t, other.layer, "room", channel)
		other.publish("room", from, from)
		p.joined(client.Joined{Group: "room", Outcome: "live"})
		add(t, other.layer, "room", channel) // again: nothing is to be told
		other.publish("room", from+1, from+1)
		p.lines("room", from, from+1)
		discard(t, other.layer, "room", channel)
		discard(t, other.layer, "room", channel) // again: nothing is to be told
		p.left("room")
	}

	other.publish("job.1", 1, 3)
	add(t, other.layer, "job.1", channel)
	other.publish("job.1", 4, 4)
	p.joined(client.Joined{Group: "job.1", Outcome: "live"})
	p.lines("job.1", 4, 4)
	add(t, other.layer, "room", channel)
	p.joined(client.Joined{Group: "room", Outcome: "live"})
	p.Vanish()
	other.publish("job.1", 5, 6)

	// The next connection has another channel, of which the other process has yet to
	// learn: the client is told that it is in neither group.
	p, channel = s.guest(target, p.Resume())
	p.left("job.1", "room")
	other.publish("job.1", 7, 7)
	add(t, other.layer, "job.1", channel)
	other.publish("job.1", 8, 8)
	if e := p.next(); e.Joined == nil || e.Joined.Group != "job.1" || e.Joined.Outcome != "resumed" {
		t.Fatalf("got %s, want job.1 resumed", show(e))
	}
	p.lines("job.1", 5, 8)
	discard(t, other.layer, "job.1", channel)
	p.left("job.1")
	p.Vanish()
	for ctx := t.Context(); !errors.Is(other.layer.GroupAdd(ctx, "room", channel), layer.ErrNoChannel); {
		if ctx.Err() != nil {
			t.Fatal("the channel of a connection that ended can be added")
		}
	}
}

func TestGuest(t *testing.T) {
	for target := range hosts() {
		t.Run(target, func(t *testing.T) {
			bus := membus.New()
			testGuest(t, target, [2]layer.Bus{bus, bus})
		})
	}
}

func TestGuestOnNATS(t *testing.T) {
	testGuest(t, "/forward/", twoOnNATS(t))
}

// twoOnNATS are the buses of two processes of one NATS network.
func twoOnNATS(t *testing.T) [2]layer.Bus {
	t.Helper()
	a, err := natsbus.New(t.Context(), &natsbus.Options{Embedded: &natsbus.Embedded{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(context.Background()) })
	b, err := natsbus.New(t.Context(), &natsbus.Options{URL: a.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	return [2]layer.Bus{a, b}
}

// What others do with a connection's channel counts as what the consumer does.
func TestGuestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, membus.New(), hosts(), &router.Options{Limits: router.Limits{Groups: 2}})
		p, channel := s.guest("/forward/", client.Resume{})
		add(t, s.layer, "one", channel)
		add(t, s.layer, "two", channel)
		for _, group := range []string{"one", "two"} {
			p.joined(client.Joined{Group: group, Outcome: "live"})
		}
		err := s.layer.GroupAdd(t.Context(), "three", channel)
		if !errors.Is(err, layer.ErrTooManyGroups) {
			t.Errorf("got %v, want ErrTooManyGroups", err)
		}
		if err := p.Send(t.Context(), map[string]string{"discard": "one"}); err != nil {
			t.Fatal(err)
		}
		p.left("one")
		add(t, s.layer, "three", channel)
		p.joined(client.Joined{Group: "three", Outcome: "live"})
		p.nothing(time.Minute)
	})
}

// A client of plain frames sees of it what it always saw: the messages.
func TestGuestPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, membus.New(), hosts(), nil)
		c := consumertest.Dial(t, s, "/forward/", &consumertest.Options{Timeout: time.Hour})
		var channel string
		c.ReceiveJSON(&channel)
		for _, group := range []string{"room", "job.1"} {
			add(t, s.layer, group, channel)
			s.publish(group, 1, 1)
			if got := c.ReceiveText(); got != `{"type":"line","n":1}` {
				t.Errorf("got %s", got)
			}
			discard(t, s.layer, group, channel)
			s.publish(group, 2, 2)
		}
		c.ReceiveNothing(time.Minute)
	})
}

// What a client was in and is not in again it is told when Connect has returned and
// its resume has come; a group that its consumer joins later goes on all the same.
func TestNotJoinedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, membus.New(), hosts(), nil)
		p, _ := s.guest("/forward/", client.Resume{})
		ask := func(op, group string) {
			t.Helper()
			if err := p.Send(t.Context(), map[string]string{op: group}); err != nil {
				t.Fatal(err)
			}
		}
		ask("join", "job.1")
		p.joined(client.Joined{Group: "job.1", Outcome: "live"})
		ask("add", "room")
		p.joined(client.Joined{Group: "room", Outcome: "live"})
		p.Vanish()
		s.publish("job.1", 1, 2)
		from := p.Resume()
		p, _ = s.guest("/forward/", from)
		p.left("job.1", "room")
		p.Vanish() // before it asked again: nothing is forgotten
		p, _ = s.guest("/forward/", p.Resume())
		p.left("job.1")
		ask("join", "job.1")
		p.joined(client.Joined{Group: "job.1", Outcome: "resumed", Replayed: 2})
		p.lines("job.1", 1, 2)
		p.nothing(time.Minute)

		// One who is late with it is told as well.
		raw := consumertest.Dial(t, s, "/forward/", &consumertest.Options{Subprotocols: []string{consumer.Protocol}, Timeout: time.Hour})
		raw.Receive() // hello
		raw.Receive() // the channel's name
		raw.SendText(`{"data":{"add":"room"}}`)
		raw.Receive()
		raw.SendText(`{"resume":{"room":"","job.1":""}}`)
		if got := raw.ReceiveText(); got[:10] != `{"error":{` {
			t.Errorf("got %s, want late_resume", got)
		}
		got := map[string]bool{raw.ReceiveText(): true, raw.ReceiveText(): true}
		if !got[`{"gap":{"group":"room","reason":"far"}}`] || !got[`{"left":"job.1"}`] {
			t.Errorf("got %v", got)
		}
	})
}

// slow is a network on which a subscription takes up to 2 ms.
type slow struct{ layer.Bus }

func (s slow) Attach(ctx context.Context, process string, r layer.Receiver) (layer.Link, error) {
	l, err := s.Bus.Attach(ctx, process, r)
	return slowLink{l}, err
}

type slowLink struct{ layer.Link }

func (l slowLink) Subscribe(ctx context.Context, s layer.Subscription) error {
	err := l.Link.Subscribe(ctx, s)
	time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // messages arrive already
	return err
}

// However many add and discard one connection at the same time: a message never
// comes before the word that the group was joined, and the last word is true.
func TestGuestChurn(t *testing.T) {
	for _, kind := range []string{"room.", "job."} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := slow{membus.New()}
				s, other := newStation(t, bus, hosts(), nil), newStation(t, bus, hosts(), nil)
				p, channel := s.guest("/forward/", client.Resume{})
				for round := range 200 {
					group := fmt.Sprint(kind, round) // a fresh one, so that joining takes time
					churn(t, [2]*layer.Layer{s.layer, other.layer}, group, channel)
					other.publish(group, 1, 1)
					if p.lastWord(group) {
						discard(t, other.layer, group, channel)
					}
					p.rest(3 * time.Second)
					if n := s.layer.Stats().Groups; n != 0 {
						t.Fatalf("%s: nobody is in a group, and the process is subscribed to %d", group, n)
					}
				}
			})
		})
	}
}

// churn adds and discards a connection at random times, and sends to the group.
func churn(t *testing.T, layers [2]*layer.Layer, group, channel string) {
	var all sync.WaitGroup
	for n := range 8 {
		l, verb, pause := layers[n%2], rand.IntN(3), time.Duration(rand.IntN(3000))*time.Microsecond
		all.Go(func() {
			time.Sleep(pause)
			switch {
			case n == 7:
				_ = l.GroupSend(t.Context(), group, line{0})
			case verb == 0:
				discard(t, l, group, channel)
			default:
				add(t, l, group, channel)
			}
		})
	}
	all.Wait()
	synctest.Wait()
}

// lastWord checks what a client was told of a group, in which line 1 is the last.
func (p *peer) lastWord(group string) (in bool) {
	p.t.Helper()
	ever, got := false, false
	for _, e := range p.rest(time.Second) {
		var l line
		switch {
		case e.Joined != nil, e.Left != "":
			in = e.Joined != nil
			ever = ever || in
		case e.Data == nil, json.Unmarshal(e.Data, &l) != nil:
			p.t.Fatalf("%s: got %s", group, show(e))
		case !in && (l.N > 0 || !ever): // what was under way when it left may come
			p.t.Fatalf("%s: got %s, and was told that it is not in the group", group, show(e))
		default:
			got = got || l.N == 1
		}
	}
	if got != in {
		p.t.Fatalf("%s: the client was told that it is in the group: %t; it gets messages: %t", group, in, got)
	}
	return in
}

// rest returns what comes before a silence of d.
func (p *peer) rest(d time.Duration) (all []client.Event) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		e, err := p.Receive(ctx)
		cancel()
		if err != nil {
			return all
		}
		all = append(all, e)
	}
}
