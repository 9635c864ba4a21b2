package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// line is a message of a durable group.
type line struct {
	N int `json:"n"`
}

func (line) MessageType() string { return "line" }

// watcher is a consumer that joins the group of its path, as the query says.
type watcher struct{}

func (w *watcher) connect(ctx context.Context, c *consumer.Conn) error {
	group, q := c.PathValue("group"), c.Query()
	if q.Has("add") {
		return c.GroupAdd(ctx, group)
	}
	var o consumer.JoinOptions
	fmt.Sscan(q.Get("last"), &o.Last)
	fmt.Sscan(q.Get("most"), &o.Most)
	o.FromStart = q.Has("start")
	return c.Join(ctx, group, &o)
}

func (w *watcher) receive(ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
	var in struct {
		Op    string
		Group string
		N     int
	}
	if err := json.Unmarshal(f.Data, &in); err != nil {
		return c.Send(ctx, f)
	}
	switch in.Op {
	case "reply":
		return c.Reply(ctx, in.N+1)
	case "refuse":
		return &consumer.ReplyError{Code: "no", Message: "not today"}
	case "fail":
		return errors.New("the database's password is wrong")
	case "panic":
		panic("oh")
	case "join":
		return c.Join(ctx, in.Group, nil)
	case "leave":
		return c.GroupDiscard(ctx, in.Group)
	case "others":
		return c.GroupSendOthers(ctx, in.Group, line{in.N})
	case "nothing":
		return nil
	}
	return c.Send(ctx, f)
}

var watchers = consumer.Type[watcher]{
	Connect:  (*watcher).connect,
	Receive:  (*watcher).receive,
	Messages: consumer.Table(consumer.Forward[watcher, line]()),
}

// station is a site with durable groups "job.>", in memory.
type station struct {
	t     testing.TB
	layer *layer.Layer
	*router.Router
}

func newStation(t testing.TB, bus layer.Bus, table router.Table, opts *router.Options) *station {
	t.Helper()
	return keepingStation(t, bus, table, opts, time.Hour)
}

// keepingStation is a station that keeps messages for so long.
func keepingStation(t testing.TB, bus layer.Bus, table router.Table, opts *router.Options, age time.Duration) *station {
	t.Helper()
	l, err := layer.New(bus, &layer.Options{Groups: []layer.Retention{{Pattern: "job.>", Messages: 1000, Age: age}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := router.New(l, table, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Shutdown(context.Background()), l.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return &station{t, l, r}
}

func watch(t testing.TB) *station {
	return newStation(t, membus.New(), router.Table{"/{group}/": watchers}, nil)
}

func (s *station) dial(target string, from client.Resume) *peer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, "ws://localhost"+target, &client.Options{HTTPClient: consumertest.HTTPClient(s.t, s), Resume: from})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Vanish)
	return &peer{s.t, c}
}

func (s *station) publish(group string, from, to int) {
	s.t.Helper()
	for n := from; n <= to; n++ {
		if err := s.layer.GroupSend(context.Background(), group, line{n}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// peer is a client that fails its test.
type peer struct {
	t testing.TB
	*client.Conn
}

func (p *peer) next() client.Event {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	e, err := p.Receive(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	return e
}

func (p *peer) joined(want client.Joined) {
	p.t.Helper()
	e := p.next()
	if e.Joined == nil {
		p.t.Fatalf("got %s, want joined %+v", show(e), want)
	}
	got := *e.Joined
	got.At = ""
	if got != want {
		p.t.Fatalf("got joined %+v, want %+v", got, want)
	}
}

func (p *peer) lines(group string, from, to int) {
	p.t.Helper()
	for n := from; n <= to; n++ {
		e := p.next()
		var l line
		if err := json.Unmarshal(e.Data, &l); err != nil || e.Group != group || l.N != n {
			p.t.Fatalf("got %s, want line %d of %s", show(e), n, group)
		}
	}
}

func (p *peer) nothing(d time.Duration) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if e, err := p.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		p.t.Fatalf("got %s, %v; want nothing", show(e), err)
	}
}

func show(e client.Event) string {
	switch {
	case e.Joined != nil:
		return fmt.Sprintf("joined %+v", *e.Joined)
	case e.Left != "":
		return "left " + e.Left
	case e.Gap != nil:
		return fmt.Sprintf("gap %+v", *e.Gap)
	case e.Bye != nil:
		return fmt.Sprintf("bye %+v", *e.Bye)
	case e.Err != nil:
		return fmt.Sprintf("error %+v", *e.Err)
	}
	return fmt.Sprintf("data %q of group %q at %q", e.Data, e.Group, e.At)
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := watch(t)
		s.publish("job.1", 1, 3)
		p := s.dial("/job.1/", client.Resume{})
		p.joined(client.Joined{Group: "job.1", Outcome: "live"})
		s.publish("job.1", 4, 6)
		p.lines("job.1", 4, 6)
		p.Vanish()
		s.publish("job.1", 7, 20)
		p = s.dial("/job.1/", p.Resume())
		p.joined(client.Joined{Group: "job.1", Outcome: "resumed", Replayed: 14})
		s.publish("job.1", 21, 22)
		p.lines("job.1", 7, 22)
		p.nothing(time.Minute)
		p.Vanish()
		p = s.dial("/job.1/", p.Resume())
		p.joined(client.Joined{Group: "job.1", Outcome: "resumed"})
		p.nothing(time.Minute)
	})
}

// A client that got nothing yet misses nothing either.
func TestResumeFromJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := watch(t)
		p := s.dial("/job.1/", client.Resume{})
		p.joined(client.Joined{Group: "job.1", Outcome: "live"})
		p.Vanish()
		s.publish("job.1", 1, 3)
		p = s.dial("/job.1/", p.Resume())
		p.joined(client.Joined{Group: "job.1", Outcome: "resumed", Replayed: 3})
		p.lines("job.1", 1, 3)
	})
}

func TestNewcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := watch(t)
		s.publish("job.1", 1, 600)
		p := s.dial("/job.1/?last=3", client.Resume{})
		p.joined(client.Joined{Group: "job.1", Outcome: "live", Replayed: 3})
		p.lines("job.1", 598, 600)
		p = s.dial("/job.1/?last=700", client.Resume{})
		p.joined(client.Joined{Group: "job.1", Outcome: "live", Replayed: 600})
		p.lines("job.1", 1, 600)
		p = s.dial("/job.1/?start", client.Resume{})
		p.joined(client.Joined{Group: "job.1", Outcome: "live", Replayed: 600})
		p.lines("job.1", 1, 600)
		s.publish("job.1", 601, 601)
		p.lines("job.1", 601, 601)
	})
}

func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := watch(t).dial("/g/", client.Resume{})
		p.joined(client.Joined{Group: "g", Outcome: "live"})
		ctx := t.Context()
		ask := func(op string) (n int, err error) {
			err = p.Request(ctx, map[string]any{"op": op, "n": 6}, &n)
			return n, err
		}
		if n, err := ask("reply"); n != 7 || err != nil {
			t.Errorf("reply: got %d, %v", n, err)
		}
		if n, err := ask("nothing"); n != 0 || err != nil {
			t.Errorf("no reply: got %d, %v", n, err)
		}
		refused := (*client.Error)(nil)
		if _, err := ask("refuse"); !errors.As(err, &refused) || refused.Code != "no" || refused.Message != "not today" {
			t.Errorf("refused: got %v", err)
		}
		if _, err := ask("fail"); !errors.As(err, &refused) || refused.Code != "internal" || refused.ID == "" {
			t.Errorf("failed: got %v", err)
		}
		if _, err := ask("panic"); !errors.As(err, &refused) || refused.Code != "internal" {
			t.Errorf("panic: got %v", err)
		}
		if _, err := p.Receive(ctx); consumer.CloseStatus(err) != consumer.StatusInternalError {
			t.Errorf("after a panic: got %v, want 1011", err)
		}
	})
}

// The frames as they are on the wire.
func TestFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := watch(t)
		c := consumertest.Dial(t, s, "/g/", &consumertest.Options{Subprotocols: []string{"tideway.v1", "tideway.bearer.c2VjcmV0"}})
		if got := c.Subprotocol(); got != "tideway.v1" {
			t.Fatalf("subprotocol %q", got)
		}
		var hello struct {
			Hello struct {
				Session       string
				Ping, Version int
			}
		}
		if c.ReceiveJSON(&hello); hello.Hello.Session == "" || hello.Hello.Ping != 25 || hello.Hello.Version != 1 {
			t.Errorf("got %+v", hello)
		}
		if got, want := c.ReceiveText(), `{"joined":"g","outcome":"live"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		s.publish("g", 1, 1)
		if got, want := c.ReceiveText(), `{"group":"g","data":{"type":"line","n":1}}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		for _, test := range []struct{ send, want string }{
			{`{"data":"hi"}`, `{"data":"hi"}`},
			{`{"data":null}`, `{"data":null}`},
			{`{"data":[1],"future":{"x":1}}`, `{"data":[1]}`},
			{`{"id":7,"data":{"op":"reply","n":1}}`, `{"reply":7,"data":2}`},
			{`{"id":8,"data":{"op":"nothing"}}`, `{"reply":8,"data":null}`},
			{`{"id":9,"data":{"op":"refuse"}}`, `{"reply":9,"error":{"code":"no","message":"not today"}}`},
			{`{"data":{"op":"refuse"}}`, `{"error":{"code":"no","message":"not today"}}`},
			{`{"ping":5}`, `{"pong":5}`},
			{`{"auth":"x"}`, `{"error":{"code":"unsupported","message":"tokens are not taken over an open connection here"}}`},
			{`{"id":3,"auth":"x"}`, `{"reply":3,"error":{"code":"unsupported","message":"tokens are not taken over an open connection here"}}`},
			{`{"hm":1}`, `{"error":{"code":"unknown_frame","message":"nothing in this frame is known here"}}`},
			{`{"id":-1,"data":1}`, `{"error":{"code":"bad_frame","message":"an id is a whole number from 0 to 9007199254740991"}}`},
			{`{"data":1,"auth":"x"}`, `{"error":{"code":"bad_frame","message":"a frame holds one of data, auth, resume and ping"}}`},
			{`hello`, `{"error":{"code":"bad_frame","message":"this is no frame of tideway.v1: one JSON object, whose members have their types"}}`},
			{`[]`, `{"error":{"code":"bad_frame","message":"this is no frame of tideway.v1: one JSON object, whose members have their types"}}`},
		} {
			c.SendText(test.send)
			if got := c.ReceiveText(); got != test.want {
				t.Errorf("%s: got %s, want %s", test.send, got, test.want)
			}
		}
	})
}

func TestBye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := watch(t)
		p := s.dial("/g/", client.Resume{})
		p.joined(client.Joined{Group: "g", Outcome: "live"})
		go s.Shutdown(t.Context())
		e := p.next()
		if e.Bye == nil || e.Bye.Code != 1012 || e.Bye.Reconnect != [2]int64{500, 8000} {
			t.Errorf("got %s", show(e))
		}
		if _, err := p.Receive(t.Context()); consumer.CloseStatus(err) != consumer.StatusServiceRestart {
			t.Errorf("got %v, want 1012", err)
		}
	})
}

// Cursors that do not hold are told apart, and none ends the connection.
func TestBadCursors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := watch(t)
		s.publish("job.1", 1, 5)
		p := s.dial("/job.1/?start", client.Resume{})
		p.joined(client.Joined{Group: "job.1", Outcome: "live", Replayed: 5})
		p.lines("job.1", 1, 5)
		good := p.Resume()
		forged := "AAAA" + good.Cursors["job.1"][4:]
		other := client.Resume{Cursors: map[string]string{"job.2": good.Cursors["job.1"]}}
		for _, test := range []struct {
			name, target string
			from         client.Resume
			bad          bool
			want         client.Joined
		}{
			{"forged", "/job.1/", client.Resume{Cursors: map[string]string{"job.1": forged}}, true, client.Joined{Group: "job.1", Outcome: "gap", Reason: "reset"}},
			{"garbage", "/job.1/", client.Resume{Cursors: map[string]string{"job.1": "hi"}}, true, client.Joined{Group: "job.1", Outcome: "gap", Reason: "reset"}},
			{"another group's", "/job.2/", other, true, client.Joined{Group: "job.2", Outcome: "gap", Reason: "reset"}},
			{"good", "/job.1/", good, false, client.Joined{Group: "job.1", Outcome: "resumed"}},
		} {
			p := s.dial(test.target, test.from)
			if test.bad {
				if e := p.next(); e.Err == nil || e.Err.Code != "bad_cursor" {
					t.Errorf("%s: got %s, want bad_cursor", test.name, show(e))
				}
			}
			p.joined(test.want)
			p.nothing(time.Second)
		}
		p = s.dial("/job.3/", good) // for another group
		p.left("job.1")
		p.joined(client.Joined{Group: "job.3", Outcome: "live"})
		s.publish("job.1", 6, 40)
		p = s.dial("/job.1/?most=34", good)
		p.joined(client.Joined{Group: "job.1", Outcome: "gap", Reason: "far"})
		p = s.dial("/job.1/?most=35", good)
		p.joined(client.Joined{Group: "job.1", Outcome: "resumed", Replayed: 35})
		p.lines("job.1", 6, 40)
		s.publish("job.1", 41, 1100)
		p = s.dial("/job.1/", good)
		p.joined(client.Joined{Group: "job.1", Outcome: "gap", Reason: "trimmed"})
		s.publish("job.1", 1101, 1101)
		p.lines("job.1", 1101, 1101)
		time.Sleep(2 * time.Hour)
		p = s.dial("/job.1/", good)
		p.joined(client.Joined{Group: "job.1", Outcome: "gap", Reason: "trimmed"})
	})
}

// A position of a store that was made anew since is told apart, if the keys are
// still there.
func TestResetCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := watch(t)
		p := s.dial("/job.1/", client.Resume{})
		p.joined(client.Joined{Group: "job.1", Outcome: "live"})
		position, err := layer.ParsePosition("zz.7")
		if err != nil {
			t.Fatal(err)
		}
		p = s.dial("/job.1/", client.Resume{Cursors: map[string]string{"job.1": consumer.Cursor(s.layer, "job.1", position)}})
		p.joined(client.Joined{Group: "job.1", Outcome: "gap", Reason: "reset"})
	})
}

// What a client sent to the others does not come back to it, not even after it
// came back itself.
func TestSenderExcluded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := watch(t)
		p := s.dial("/job.1/", client.Resume{})
		p.joined(client.Joined{Group: "job.1", Outcome: "live"})
		others := func(n int) {
			if err := p.Request(t.Context(), map[string]any{"op": "others", "group": "job.1", "n": n}, nil); err != nil {
				t.Fatal(err)
			}
		}
		from := p.Resume()
		others(1)
		s.publish("job.1", 2, 2)
		p.lines("job.1", 2, 2)
		p.Vanish()
		p = s.dial("/job.1/", from)
		p.joined(client.Joined{Group: "job.1", Outcome: "resumed", Replayed: 2})
		p.lines("job.1", 2, 2)
		others(3)
		s.publish("job.1", 4, 4)
		p.lines("job.1", 4, 4)
		p = s.dial("/job.1/", client.Resume{Cursors: from.Cursors})
		p.joined(client.Joined{Group: "job.1", Outcome: "resumed", Replayed: 4})
		p.lines("job.1", 1, 4)
	})
}

// A client that sends too much is told first, and closed later; a lawful one that
// waits for a slow handler is neither.
func TestRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := watch(t).dial("/g/", client.Resume{})
		p.joined(client.Joined{Group: "g", Outcome: "live"})
		ctx := t.Context()
		for range 100 {
			if err := p.Request(ctx, map[string]any{"op": "nothing"}, nil); err != nil {
				t.Fatal(err)
			}
		}
		refused := (*client.Error)(nil)
		if err := p.Request(ctx, 1, nil); !errors.As(err, &refused) || refused.Code != "rate_limited" {
			t.Errorf("got %v, want rate_limited", err)
		}
		time.Sleep(time.Second)
		if err := p.Request(ctx, map[string]any{"op": "nothing"}, nil); err != nil {
			t.Errorf("after a second: %v", err)
		}
		for range 300 {
			if p.Send(ctx, map[string]any{"op": "nothing"}) != nil {
				break
			}
		}
		if e := p.next(); e.Err == nil || e.Err.Code != "rate_limited" {
			t.Errorf("got %s, want rate_limited", show(e))
		}
		if _, err := p.Receive(ctx); consumer.CloseStatus(err) != consumer.StatusTooManyMessage {
			t.Errorf("got %v, want 4129", err)
		}
	})
}

// Messages to an ordinary group that a busy connection missed are told of.
func TestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := consumer.Type[watcher]{
			Connect: (*watcher).connect,
			Messages: consumer.Table(consumer.On(func(_ *watcher, ctx context.Context, c *consumer.Conn, l line) error {
				time.Sleep(time.Millisecond)
				return c.SendJSON(ctx, l)
			})),
		}
		s := newStation(t, membus.New(), router.Table{"/{group}/": slow}, nil)
		p := s.dial("/g/", client.Resume{})
		p.joined(client.Joined{Group: "g", Outcome: "live"})
		s.publish("g", 1, 1000)
		for n := 0; ; n++ {
			if e := p.next(); e.Gap != nil {
				if e.Gap.Group != "g" || e.Gap.Reason != "slow" || n < 100 {
					t.Errorf("got %s after %d messages", show(e), n)
				}
				break
			}
		}
		p = s.dial("/job.1/", client.Resume{})
		p.joined(client.Joined{Group: "job.1", Outcome: "live"})
		s.publish("job.1", 1, 1000)
		for n := 1; n <= 1000; n++ {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			e, err := p.Receive(ctx)
			cancel()
			if err != nil {
				t.Fatalf("line %d: %v", n, err)
			}
			if want := fmt.Sprintf(`{"type":"line","n":%d}`, n); string(e.Data) != want {
				t.Fatalf("a handler of a durable group got %s, want %s", show(e), want)
			}
		}
	})
}

// A connection that speaks plain frames gets the replay, and no frame of the
// protocol.
func TestPlainJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := watch(t)
		s.publish("job.1", 1, 3)
		c := consumertest.Dial(t, s, "/job.1/?last=2", nil)
		for n := 2; n <= 4; n++ {
			if n == 4 {
				s.publish("job.1", 4, 4)
			}
			if got, want := c.ReceiveText(), fmt.Sprintf(`{"type":"line","n":%d}`, n); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		c.ReceiveNothing(time.Minute)
	})
}
