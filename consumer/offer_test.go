package consumer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// fakeSocket is a client that takes everything at once and says what is in
// frames.
type fakeSocket struct {
	frames chan Frame

	mu     sync.Mutex // guards all below
	got    []*Prepared
	keep   bool
	offers int
	closed *CloseError
	ended  chan struct{}
}

func newFakeSocket() *fakeSocket {
	return &fakeSocket{frames: make(chan Frame), ended: make(chan struct{})}
}

func (s *fakeSocket) Accept(string, http.Header) error { return nil }

func (s *fakeSocket) Read() (Frame, error) {
	select {
	case f := <-s.frames:
		return f, nil
	case <-s.ended:
		return Frame{}, s.Err()
	}
}

func (s *fakeSocket) Send(_ context.Context, p *Prepared) error { return s.Offer(p) }

func (s *fakeSocket) Offer(p *Prepared) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offers++
	if s.keep {
		s.got = append(s.got, p)
	}
	return nil
}

func (s *fakeSocket) TryOffer(p *Prepared) (bool, error) { return true, s.Offer(p) }

func (s *fakeSocket) OfferLatest(v *Values) (int, error) { return 0, s.Offer(v.All) }

func (s *fakeSocket) AwaitRoom(context.Context) error { return s.Err() }

func (s *fakeSocket) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed == nil {
		return nil
	}
	return s.closed
}

func (s *fakeSocket) Close(code StatusCode, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed == nil {
		s.closed = &CloseError{code, reason}
		close(s.ended)
	}
}

type text struct {
	Text string `json:"text"`
}

func (text) MessageType() string { return "text" }

// run serves n connections on fake sockets, and returns once all are open.
func run(t testing.TB, l *layer.Layer, app App, sockets ...*fakeSocket) (conns []*Conn) {
	t.Helper()
	var running sync.WaitGroup
	for _, s := range sockets {
		started := make(chan *Conn, 1)
		running.Add(1)
		go Run(context.Background(), app, Setup{
			Socket: s, Layer: l, Request: httptest.NewRequest("GET", "/", nil), Header: http.Header{},
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Started: func(c *Conn) { started <- c },
		}, func(Result) { running.Done() })
		c := <-started
		for deadline := time.Now().Add(time.Minute); !c.opened(); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatal("the connection did not open")
			}
		}
		conns = append(conns, c)
	}
	t.Cleanup(func() {
		for _, s := range sockets {
			s.Close(1000, "")
		}
		running.Wait()
	})
	return conns
}

func (c *Conn) opened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inbox.open
}

func newLayer(t testing.TB) *layer.Layer {
	t.Helper()
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	return l
}

var forwarding = Type[struct{}]{Groups: []string{"g"}, Messages: Table(Forward[struct{}, text]())}

// A group's message is encoded once per process: all members write the same
// bytes, whether they forward at once or behind something else.
func TestForwardIsEncodedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLayer(t)
		release := make(chan struct{})
		typ := Type[struct{}]{Groups: []string{"g"}, Messages: Table(
			Forward[struct{}, text](),
			Otherwise(func(*struct{}, context.Context, *Conn, layer.Message) error { <-release; return nil }),
		)}
		sockets := []*fakeSocket{newFakeSocket(), newFakeSocket(), newFakeSocket()}
		for _, s := range sockets {
			s.keep = true
		}
		conns := run(t, l, typ, sockets...)
		busy, err := layer.ParseMessage([]byte(`{"type":"busy"}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Send(t.Context(), conns[2].ChannelName(), busy); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the third is in a handler: what comes now queues
		if err := l.GroupSend(t.Context(), "g", text{"hi"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := len(sockets[0].got) + len(sockets[1].got) + len(sockets[2].got); got != 2 {
			t.Errorf("%d were forwarded, want 2", got)
		}
		close(release)
		synctest.Wait()
		for i, s := range sockets {
			if len(s.got) != 1 || s.got[0] != sockets[0].got[0] {
				t.Fatalf("socket %d got %v, want the Prepared of socket 0 alone, %p", i, s.got, sockets[0].got[0])
			}
		}
		if got, want := string(sockets[0].got[0].Bytes()[2:]), `{"type":"text","text":"hi"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// Forwarding a message to one more member allocates nothing.
func TestOfferAllocatesNothing(t *testing.T) {
	l := newLayer(t)
	conns := run(t, l, forwarding, newFakeSocket(), newFakeSocket())
	b := &layer.Batch{Messages: []*layer.Message{{Type: "text", Data: []byte(`{"type":"text","text":"hi"}`)}}}
	if !(*tap)(conns[0]).Offer(b) {
		t.Fatal("the batch was declined")
	}
	got := testing.AllocsPerRun(1000, func() { (*tap)(conns[1]).Offer(b) })
	if got != 0 {
		t.Errorf("%v allocations for each further member, want 0", got)
	}
}

// A batch of several messages goes out as one write, in order.
func TestOfferJoinsABatch(t *testing.T) {
	l := newLayer(t)
	s := newFakeSocket()
	s.keep = true
	conns := run(t, l, forwarding, s)
	b := &layer.Batch{}
	want := ""
	for i := range 3 {
		data := fmt.Sprintf(`{"type":"text","text":"%d"}`, i)
		b.Messages = append(b.Messages, &layer.Message{Type: "text", Data: []byte(data)})
		want += string(Prepare(TextFrame(data)).Bytes())
	}
	b.Messages = append(b.Messages, &layer.Message{Type: "unknown", Data: []byte(`{"type":"unknown"}`)})
	if !(*tap)(conns[0]).Offer(b) {
		t.Fatal("the batch was declined")
	}
	if len(s.got) != 1 || string(s.got[0].Bytes()) != want {
		t.Errorf("got %d writes, want one of all frames", len(s.got))
	}
}

// A batch of several senders is looked at message by message, so that each hears
// the others and not itself.
func TestOfferWithSenders(t *testing.T) {
	l := newLayer(t)
	conns := run(t, l, forwarding, newFakeSocket(), newFakeSocket())
	me, other := conns[0].ChannelName(), conns[1].ChannelName()
	message := func(sender string) *layer.Message {
		return &layer.Message{Type: "text", Data: []byte(`{"type":"text"}`), Header: layer.Header{Sender: sender}}
	}
	for _, test := range []struct {
		senders []string
		taken   bool
		offers  int // to me
	}{
		{[]string{me}, true, 0},
		{[]string{other}, true, 1},
		{[]string{other, other}, true, 1},
		{[]string{me, me}, true, 0},
		{[]string{me, other}, false, 0},
		{[]string{"", other}, false, 0},
		{[]string{""}, true, 1},
	} {
		b := &layer.Batch{}
		for _, s := range test.senders {
			b.Messages = append(b.Messages, message(s))
		}
		socket := conns[0].setup.Socket.(*fakeSocket)
		before := socket.offers
		taken := (*tap)(conns[0]).Offer(b)
		if offers := socket.offers - before; taken != test.taken || offers != test.offers {
			t.Errorf("%q: got %v and %d offers, want %v and %d", test.senders, taken, offers, test.taken, test.offers)
		}
	}
}

// The log of messages that come to nothing is bounded, whatever types a sender
// makes up.
func TestTellingIsBounded(t *testing.T) {
	tab, now := newTable(), time.Now()
	told := 0
	for i := range 3 * maxTold {
		if tab.due(fmt.Sprint("type", i), now) {
			told++
		}
	}
	if told != maxTold || len(tab.told) != maxTold {
		t.Errorf("%d lines and %d types kept, want %d of each", told, len(tab.told), maxTold)
	}
	if tab.due("type1", now.Add(59*time.Second)) {
		t.Error("the same type is due again after 59 s")
	}
	if !tab.due("new", now.Add(tellInterval)) || len(tab.told) != 1 {
		t.Errorf("a minute later %d types are kept, want the new one alone", len(tab.told))
	}
}

// The request of an open connection goes to the collector: it would cost more
// than the connection itself.
func TestRequestIsLetGo(t *testing.T) {
	s := newFakeSocket()
	defer s.Close(1000, "")
	r := httptest.NewRequest("GET", "/?"+strings.Repeat("x", 1000), nil)
	gone := weak.Make(r)
	started, done := make(chan *Conn, 1), make(chan struct{})
	go func(r *http.Request) {
		Run(context.Background(), Type[struct{}]{}, Setup{
			Socket: s, Request: r, User: User{ID: "ann"}, Header: http.Header{}, Logger: slog.Default(),
			Started: func(c *Conn) { started <- c },
		}, func(Result) { close(done) })
	}(r)
	r = nil
	c := <-started
	for deadline := time.Now().Add(time.Minute); gone.Value() != nil; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("the request is kept")
		}
		runtime.Gosched()
	}
	if c.User().ID != "ann" {
		t.Errorf("the user is %+v, want ann", c.User())
	}
	s.Close(1000, "")
	<-done
}

func BenchmarkForward(b *testing.B) {
	for _, members := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			l := newLayer(b)
			sockets := make([]*fakeSocket, members)
			for i := range sockets {
				sockets[i] = newFakeSocket()
			}
			conns := run(b, l, forwarding, sockets...)
			data := []byte(`{"type":"text","text":"` + strings.Repeat("x", 100) + `"}`)
			b.ReportAllocs()
			for b.Loop() {
				batch := &layer.Batch{Messages: []*layer.Message{{Type: "text", Data: data}}}
				for _, c := range conns {
					(*tap)(c).Offer(batch)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(members), "ns/member")
		})
	}
}

func BenchmarkReceive(b *testing.B) {
	s := newFakeSocket()
	handled := make(chan struct{})
	run(b, nil, Type[struct{}]{
		Receive: func(*struct{}, context.Context, *Conn, Frame) error { handled <- struct{}{}; return nil },
	}, s)
	f := TextFrame(strings.Repeat("x", 100))
	b.ReportAllocs()
	for b.Loop() {
		s.frames <- f
		<-handled
	}
}
