package natsbus

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// recorder is a layer.Receiver that keeps what it is given.
type recorder struct {
	mu     sync.Mutex // guards what follows
	groups []layer.Inbound
	direct map[string][]layer.Packet
	events []layer.LinkEvent
	batch  int // the largest

	deliverTo func(channel string) error    // nil: accept
	call      func([]byte) []byte           // nil: echo
	onDeliver func(batch []layer.Inbound)   // nil: record
	changed   chan struct{}                 // holds a token after each change
	callCtx   func(context.Context, []byte) // nil: nothing
}

func newRecorder() *recorder {
	return &recorder{direct: map[string][]layer.Packet{}, changed: make(chan struct{}, 1)}
}

func (r *recorder) Deliver(batch []layer.Inbound) {
	if r.onDeliver != nil {
		r.onDeliver(batch)
		return
	}
	r.mu.Lock()
	r.groups = append(r.groups, batch...)
	r.batch = max(r.batch, len(batch))
	r.mu.Unlock()
	r.signal()
}

func (r *recorder) DeliverTo(channel string, p layer.Packet) error {
	if r.deliverTo != nil {
		if err := r.deliverTo(channel); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.direct[channel] = append(r.direct[channel], p)
	r.mu.Unlock()
	r.signal()
	return nil
}

func (r *recorder) Call(ctx context.Context, request []byte) []byte {
	if r.callCtx != nil {
		r.callCtx(ctx, request)
	}
	if r.call != nil {
		return r.call(request)
	}
	return request
}

func (r *recorder) Report(e layer.LinkEvent) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	r.signal()
}

func (r *recorder) signal() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// await waits until ok, which is called with the recorder locked, returns true.
func (r *recorder) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		done := ok()
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-r.changed:
		case <-deadline:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("%s did not happen; got %d group messages, %v direct, events %v", what, len(r.groups), r.direct, r.events)
		}
	}
}

func (r *recorder) awaitGroups(t *testing.T, n int) []layer.Inbound {
	t.Helper()
	r.await(t, fmt.Sprintf("the arrival of %d messages", n), func() bool { return len(r.groups) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]layer.Inbound(nil), r.groups...)
}

func (r *recorder) awaitEvent(t *testing.T, kind layer.LinkEventKind) layer.LinkEvent {
	t.Helper()
	var found layer.LinkEvent
	r.await(t, fmt.Sprintf("event %d", kind), func() bool {
		for _, e := range r.events {
			if e.Kind == kind {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// testLog is where the tests' buses log.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelError}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func openBus(t testing.TB, o *Options) *Bus {
	t.Helper()
	var c Options
	if o != nil {
		c = *o
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	b, err := New(t.Context(), &c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func attach(t testing.TB, b *Bus, r layer.Receiver) layer.Link {
	t.Helper()
	l, err := b.Attach(t.Context(), newProcess(), r)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newProcess() string { return "tw" + strings.ToLower(rand.Text()) }

func subscribe(t testing.TB, l layer.Link, group string) {
	t.Helper()
	if err := l.Subscribe(t.Context(), layer.Subscription{Group: group}); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, l layer.Link, group, data string) {
	t.Helper()
	if err := l.Publish(t.Context(), group, &layer.Packet{Data: []byte(data)}); err != nil {
		t.Fatal(err)
	}
}

// startNATS runs a server as an external one would be. Port -1 takes a free one.
func startNATS(t testing.TB, port int, configure func(*server.Options)) *server.Server {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true, StoreDir: t.TempDir()}
	if configure != nil {
		configure(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server did not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func TestGroupMessages(t *testing.T) {
	b := openBus(t, nil)
	r1, r2 := newRecorder(), newRecorder()
	l1, l2 := attach(t, b, r1), attach(t, b, r2)
	subscribe(t, l1, "chat.lobby")
	subscribe(t, l2, "chat.lobby")
	subscribe(t, l2, "other")
	for i := range 100 {
		publish(t, l1, "chat.lobby", fmt.Sprintf(`{"type":"t","n":%d}`, i))
	}
	for _, r := range []*recorder{r1, r2} {
		for i, in := range r.awaitGroups(t, 100) {
			want := fmt.Sprintf(`{"type":"t","n":%d}`, i)
			if got := string(in.Packet.Data); got != want || in.Subscription.Group != "chat.lobby" {
				t.Fatalf("message %d: got %s in %q, want %s", i, got, in.Subscription.Group, want)
			}
		}
	}
	if err := l1.Unsubscribe(layer.Subscription{Group: "chat.lobby"}); err != nil {
		t.Fatal(err)
	}
	publish(t, l1, "chat.lobby", `{"type":"last"}`)
	r2.awaitGroups(t, 101)
	if n := len(r1.awaitGroups(t, 100)); n != 100 {
		t.Errorf("after Unsubscribe: got %d messages, want 100", n)
	}
}

func TestHeaders(t *testing.T) {
	b := openBus(t, nil)
	r := newRecorder()
	l := attach(t, b, r)
	subscribe(t, l, "g")
	want := layer.Header{ID: "id-1", Sender: "s-1", TraceParent: "00-abc", TraceState: "a=b"}
	if err := l.Publish(t.Context(), "g", &layer.Packet{Data: []byte(`{}`), Header: want}); err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: "channels.grp.g", Data: []byte(`{}`), Header: nats.Header{
		"nats-msg-id": {"id-1"}, "TIDEWAY-SENDER": {"s-1"}, "Traceparent": {"00-abc"}, "TraceState": {"a=b"},
		"Other": {"x"},
	}}
	if err := b.Conn().PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	for _, in := range r.awaitGroups(t, 2) {
		if in.Packet.Header != want {
			t.Errorf("got header %+v, want %+v", in.Packet.Header, want)
		}
	}
}

// case 53
func TestRelay(t *testing.T) {
	b := openBus(t, nil)
	var all []*recorder
	s := layer.Subscription{Group: "g", Relay: "worker"}
	for range 3 {
		r := newRecorder()
		if err := attach(t, b, r).Subscribe(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	plain := newRecorder()
	l := attach(t, b, plain)
	subscribe(t, l, "g")
	const n = 300
	for i := range n {
		publish(t, l, "g", fmt.Sprintf(`{"n":%d}`, i))
	}
	plain.awaitGroups(t, n)
	seen := map[string]int{}
	for i := 0; len(seen) < n; i++ {
		if i == 1000 {
			t.Fatalf("%d of %d messages arrived", len(seen), n)
		}
		clear(seen)
		for _, r := range all {
			r.mu.Lock()
			for _, in := range r.groups {
				seen[string(in.Packet.Data)]++
				if in.Subscription != s {
					t.Errorf("got subscription %v, want %v", in.Subscription, s)
				}
			}
			r.mu.Unlock()
		}
		time.Sleep(5 * time.Millisecond) // between looks, until all is there
	}
	for m, count := range seen {
		if count != 1 {
			t.Errorf("%s arrived %d times", m, count)
		}
	}
}

// What is no message reaches nobody, is told with its subject, and hurts
// nothing.
func TestMalformed(t *testing.T) {
	b := openBus(t, nil)
	r := newRecorder()
	l := attach(t, b, r)
	subscribe(t, l, "g")
	for _, bad := range []string{"", "hello", "[1]", "\x82\xa1", "\x81\x01\x02", "\xc0"} {
		if err := b.Conn().Publish("channels.grp.g", []byte(bad)); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, l, "g", `{"type":"good"}`)
	if got := r.awaitGroups(t, 1); len(got) != 1 {
		t.Errorf("got %d messages, want 1", len(got))
	}
	r.await(t, "six reports", func() bool { return len(r.events) == 6 })
	for _, e := range r.events {
		if e.Kind != layer.Malformed || e.Count != 1 || e.Group != "g" || !strings.Contains(e.Err.Error(), "channels.grp.g") {
			t.Errorf("got %+v", e)
		}
	}
}

// A program with nothing but a socket can publish.
func TestRawSocket(t *testing.T) {
	b := openBus(t, &Options{Embedded: &Embedded{Listen: "127.0.0.1:0"}})
	r := newRecorder()
	l := attach(t, b, r)
	subscribe(t, l, "chat.lobby")
	subscribe(t, l, "a..b.")
	c, err := net.Dial("tcp", strings.TrimPrefix(b.ClientURL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil { // INFO
		t.Fatal(err)
	}
	fmt.Fprintf(c, "CONNECT {\"verbose\":false}\r\nPUB channels.grp.chat.lobby 38\r\n%s\r\n", `{"type":"chat.message","text":"hello"}`)
	fmt.Fprintf(c, "PUB channels.grp.a.~.b.~ 2\r\n{}\r\n")
	got := r.awaitGroups(t, 2)
	byGroup := map[string]string{}
	for _, in := range got {
		byGroup[in.Subscription.Group] = string(in.Packet.Data)
	}
	want := map[string]string{"chat.lobby": `{"type":"chat.message","text":"hello"}`, "a..b.": "{}"}
	for g, w := range want {
		if byGroup[g] != w {
			t.Errorf("group %q: got %q, want %q", g, byGroup[g], w)
		}
	}
}

func TestSendTo(t *testing.T) {
	b := openBus(t, nil)
	r := newRecorder()
	r.deliverTo = func(channel string) error {
		switch {
		case strings.HasSuffix(channel, "!full"):
			return fmt.Errorf("wrapped: %w", layer.ErrChannelFull)
		case strings.HasSuffix(channel, "!none"):
			return layer.ErrNoChannel
		}
		return nil
	}
	owner := newProcess()
	if _, err := b.Attach(t.Context(), owner, r); err != nil {
		t.Fatal(err)
	}
	l := attach(t, b, newRecorder())
	for _, c := range []struct {
		channel string
		want    error
	}{
		{owner + "!one", nil},
		{owner + "!full", layer.ErrChannelFull},
		{owner + "!none", layer.ErrNoChannel},
		{"twgone!x", layer.ErrNoChannel},
		{"specific.django!x", nil}, // nobody can know
	} {
		err := l.SendTo(t.Context(), c.channel, &layer.Packet{Data: []byte(`{"n":1}`), Header: layer.Header{Sender: "me"}})
		if !errors.Is(err, c.want) {
			t.Errorf("SendTo(%s): got %v, want %v", c.channel, err, c.want)
		}
	}
	if err := l.SendTo(t.Context(), "shared", &layer.Packet{}); err == nil {
		t.Error("SendTo of a shared channel: got no error")
	}
	// As Django sends: no reply subject.
	m := &nats.Msg{Subject: "channels.pc." + owner, Data: []byte(`{"n":2}`), Header: nats.Header{"Channel": {owner + "!one"}}}
	if err := b.Conn().PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	r.await(t, "two messages", func() bool { return len(r.direct[owner+"!one"]) == 2 })
	for i, p := range r.direct[owner+"!one"] {
		if got, want := string(p.Data), fmt.Sprintf(`{"n":%d}`, i+1); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := r.direct[owner+"!one"][0].Header.Sender; got != "me" {
		t.Errorf("got sender %q, want me", got)
	}
	// Without a channel it is for nobody.
	if err := b.Conn().Publish("channels.pc."+owner, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	r.awaitEvent(t, layer.Malformed)
}

// What goes to a Django process is as channels-nats has it.
func TestSendToDjango(t *testing.T) {
	b := openBus(t, &Options{Encoding: MessagePack})
	sub, err := b.Conn().SubscribeSync("channels.pc.specific.abc")
	if err != nil {
		t.Fatal(err)
	}
	l := attach(t, b, newRecorder())
	if err := l.SendTo(t.Context(), "specific.abc!xyz", &layer.Packet{Data: []byte(`{"type":"a","n":[1,2.5,null]}`)}); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	want := "\x82\xa4type\xa1a\xa1n\x93\x01\xcb\x40\x04\x00\x00\x00\x00\x00\x00\xc0"
	if got := string(m.Data); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := m.Header.Get("Channel"); got != "specific.abc!xyz" || m.Reply != "" {
		t.Errorf("got Channel %q, reply %q", got, m.Reply)
	}
}

func TestMessagePackGroups(t *testing.T) {
	b := openBus(t, &Options{Encoding: MessagePack})
	r := newRecorder()
	l := attach(t, b, r)
	subscribe(t, l, "g")
	publish(t, l, "g", `{"type":"a","x":{"y":[true,"é"]}}`)
	if got, want := string(r.awaitGroups(t, 1)[0].Packet.Data), `{"type":"a","x":{"y":[true,"é"]}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCall(t *testing.T) {
	b := openBus(t, nil)
	names := []string{newProcess(), newProcess(), newProcess()}
	var links []layer.Link
	for _, name := range names {
		r := newRecorder()
		r.call = func(request []byte) []byte { return []byte(name + " heard " + string(request)) }
		l, err := b.Attach(t.Context(), name, r)
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	answers, err := links[0].Call(t.Context(), names[1], []byte("hi"))
	if err != nil || len(answers) != 1 || string(answers[0]) != names[1]+" heard hi" {
		t.Errorf("got %q, %v", answers, err)
	}
	if _, err := links[0].Call(t.Context(), "twgone", nil); !errors.Is(err, layer.ErrNoChannel) {
		t.Errorf("call of a process that is gone: got %v, want ErrNoChannel", err)
	}
	all, err := links[0].Call(t.Context(), "", []byte("all"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range all {
		seen[string(a)] = true
	}
	for _, name := range names {
		if !seen[name+" heard all"] {
			t.Errorf("no answer of %s in %q", name, all)
		}
	}
}

func TestErrors(t *testing.T) {
	b := openBus(t, &Options{Embedded: &Embedded{MaxPayload: 1000}})
	l := attach(t, b, newRecorder())
	big := &layer.Packet{Data: []byte(`{"x":"` + strings.Repeat("x", 1000) + `"}`)}
	if err := l.Publish(t.Context(), "g", big); !errors.Is(err, layer.ErrTooLarge) {
		t.Errorf("Publish: got %v, want ErrTooLarge", err)
	}
	if err := l.SendTo(t.Context(), "tw!x", big); !errors.Is(err, layer.ErrTooLarge) {
		t.Errorf("SendTo: got %v, want ErrTooLarge", err)
	}
	// case 54: headers count, and the connection stays.
	p := &layer.Packet{Data: []byte(`{"x":"` + strings.Repeat("x", 900) + `"}`), Header: layer.Header{Sender: strings.Repeat("s", 200)}}
	if err := l.Publish(t.Context(), "g", p); !errors.Is(err, layer.ErrTooLarge) {
		t.Errorf("Publish with headers: got %v, want ErrTooLarge", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Publish(ended, "g", &layer.Packet{Data: []byte("{}")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish with an ended context: got %v", err)
	}
	if err := l.Subscribe(ended, layer.Subscription{Group: "g"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Subscribe with an ended context: got %v", err)
	}
	if !b.Connected() {
		t.Error("the connection is lost")
	}
	if _, err := b.Attach(t.Context(), "x", newRecorder()); err == nil {
		t.Error("Attach of process x: got no error")
	}
}

// case 47
func TestClosed(t *testing.T) {
	b := openBus(t, nil)
	r := newRecorder()
	l := attach(t, b, r)
	subscribe(t, l, "g")
	limits := layer.Limits{Capacity: 10, Ceiling: 10, Expiry: time.Minute}
	waiting := make(chan error, 1)
	go func() {
		_, err := l.Pull(context.Background(), "c", limits)
		waiting <- err
	}()
	if err := l.Push(t.Context(), "other", &layer.Packet{Data: []byte("{}")}, limits); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, layer.ErrClosed) {
		t.Errorf("Pull: got %v, want ErrClosed", err)
	}
	p := &layer.Packet{Data: []byte("{}")}
	_, pullErr := l.Pull(t.Context(), "c", limits)
	_, callErr := l.Call(t.Context(), "", nil)
	_, attachErr := b.Attach(t.Context(), "twx", r)
	for what, err := range map[string]error{
		"Subscribe": l.Subscribe(t.Context(), layer.Subscription{Group: "g"}),
		"Publish":   l.Publish(t.Context(), "g", p),
		"SendTo":    l.SendTo(t.Context(), "tw!x", p),
		"Push":      l.Push(t.Context(), "c", p, limits),
		"Pull":      pullErr,
		"Call":      callErr,
		"Attach":    attachErr,
		"Err":       b.Err(),
	} {
		if !errors.Is(err, layer.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", what, err)
		}
	}
	if len(r.events) > 0 {
		t.Errorf("Close was reported: %v", r.events)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// until waits for a condition that nothing announces, ten seconds at most.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, 10*time.Second, what, ok)
}

func within(t testing.TB, most time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}
