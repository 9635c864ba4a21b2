package layertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/tideway-go/tideway/layer"
)

// messageRows are about names and about what a message may be.
var messageRows = []row{
	{"a message arrives as it was sent", "A message arrives as the bytes that its sender wrote.", asSent},
	{"headers travel beside the data", "Header is what travelled beside the data.", headers},
	{"large messages arrive", "A message arrives as the bytes that its sender wrote.", large},
	{"a message over the limit is refused before it is sent", "A message over [Options].MaxMessage is refused with [ErrTooLarge] before it is sent; headers count.", tooLarge},
	{"members do not share bytes", "Members of a group do not share bytes: what Receive returns is the receiver's own.", ownBytes},
	{"junk reaches nobody", "What arrives and is no message reaches nobody: it is counted, and logged at a limited rate.", junk},
	{"names that break the rules are refused", "the error shows the kind, the name, the rule and the first character that breaks it.", badNames},
	{"odd names work and differ", "Names are compared byte by byte.", oddNames},
}

// case 1, case 6, case 33
func asSent(t *trial) {
	a, b := t.pair(nil)
	own, member, shared := t.channel(b), t.member(b, "as.sent"), t.listen(b, "as.sent")
	for _, data := range []string{
		`{"type":"t"}`,
		`{"type":"chat.message","text":"ä \" € 𝄞 </script>","n":-1.5,"ok":true,"none":null}`,
		`{"type":"deep","a":[[[{"b":[{}]}]],[]],"":""}`,
	} {
		m, err := layer.ParseMessage([]byte(data))
		t.must(err)
		t.must(a.Send(t.ctx, own.Name(), m))
		t.must(a.Send(t.ctx, shared.Name(), m))
		t.must(a.GroupSend(t.ctx, "as.sent", m))
		for group, c := range map[string]*layer.Channel{"": own, "as.sent": member} {
			t.same(c, m, group)
		}
		t.same(shared, m, "")
	}
}

// same checks that the next message of c is m, of this group.
func (t *trial) same(c *layer.Channel, want layer.Message, group string) {
	t.Helper()
	got, err := c.Receive(t.ctx)
	if err != nil || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) || got.Group != group || got.Header != want.Header {
		t.Fatalf("got %q %s group %q %+v, error %v\nwant %q %s group %q %+v",
			got.Type, got.Data, got.Group, got.Header, err, want.Type, want.Data, group, want.Header)
	}
}

func headers(t *trial) {
	a, b := t.pair(nil)
	own, member, shared := t.channel(b), t.member(b, "headers"), t.listen(b, "headers")
	m := layer.Message{Data: []byte(`{"type":"t"}`), Type: "t", Header: layer.Header{
		Sender:      "session-7",
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		TraceState:  "vendor=a:b, other=c",
	}}
	for i := range 3 { // an ID is for once only
		m.Header.ID = fmt.Sprint("id-", i)
		send := []func() error{
			func() error { return a.Send(t.ctx, own.Name(), m) },
			func() error { return a.GroupSend(t.ctx, "headers", &m) },
			func() error { return a.Send(t.ctx, "headers", m) },
		}[i]
		t.must(send())
		c := []*layer.Channel{own, member, shared}[i]
		t.same(c, m, []string{"", "headers", ""}[i])
	}
	evil := layer.Message{Data: m.Data, Header: layer.Header{Sender: "a\r\nChannel: b"}}
	var bad *layer.MessageError
	if err := a.GroupSend(t.ctx, "headers", evil); !errors.As(err, &bad) {
		t.Errorf("a header with a line break: got error %v, want a MessageError", err)
	}
	t.nothing(member)
}

// blob is a message of any size.
type blob struct {
	Bytes string `json:"bytes"`
}

// MessageType returns the type of a blob.
func (blob) MessageType() string { return "layertest.blob" }

// case 45
func large(t *trial) {
	a, b := t.pair(nil)
	own, member, shared := t.channel(b), t.member(b, "large"), t.listen(b, "large")
	for _, size := range []int{7_999, 8_000, 8_001, 70_000, 1_000_000} {
		p := blob{strings.Repeat("x", size)}
		t.must(a.Send(t.ctx, own.Name(), p))
		t.must(a.GroupSend(t.ctx, "large", p))
		t.must(a.Send(t.ctx, "large", p))
		for _, c := range []*layer.Channel{own, member, shared} {
			m, err := c.Receive(t.ctx)
			var got blob
			if err == nil {
				err = m.Decode(&got)
			}
			if err != nil || got != p {
				t.Fatalf("%d bytes: %d arrived, error %v", size, len(got.Bytes), err)
			}
		}
	}
}

// case 54
func tooLarge(t *trial) {
	a, b := t.pair(func(o *layer.Options) { o.MaxMessage = 1000 })
	own, member, shared := t.channel(b), t.member(b, "g"), t.listen(b, "s")
	fits := layer.Message{Data: fmt.Appendf(nil, `{"type":"t","x":%q}`, strings.Repeat("x", 900))}
	over := fits
	over.Header.Sender = strings.Repeat("s", 200)
	for _, m := range []layer.Payload{over, blob{strings.Repeat("x", 1000)}} {
		t.is("Send", a.Send(t.ctx, own.Name(), m), layer.ErrTooLarge)
		t.is("Send to a shared channel", a.Send(t.ctx, "s", m), layer.ErrTooLarge)
		t.is("GroupSend", a.GroupSend(t.ctx, "g", m), layer.ErrTooLarge)
	}
	// The connection has survived it.
	t.must(a.Send(t.ctx, own.Name(), note{N: 1}))
	t.must(a.Send(t.ctx, "s", note{N: 1}))
	t.must(a.GroupSend(t.ctx, "g", note{N: 1}))
	for _, c := range []*layer.Channel{own, member, shared} {
		t.gets(c, 1)
	}
}

// case 51
func ownBytes(t *trial) {
	a, b := t.pair(nil)
	members := []*layer.Channel{t.member(a, "g"), t.member(a, "g"), t.member(b, "g"), t.member(b, "g")}
	m, err := layer.ParseMessage([]byte(`{"type":"t","text":"original"}`))
	t.must(err)
	want := string(m.Data)
	t.must(a.GroupSend(t.ctx, "g", m))
	t.must(a.Send(t.ctx, members[0].Name(), m))
	copy(m.Data, `{"type":"t","text":"scribble"}`) // the sender's bytes are its own again
	for _, c := range append(members, members[0]) {
		got, err := c.Receive(t.ctx)
		if err != nil || string(got.Data) != want {
			t.Fatalf("got %s, %v; want %s", got.Data, err, want)
		}
		copy(got.Data, `{"type":"x"`)
	}
}

// mute is a process that only sends.
type mute struct{}

func (mute) Deliver([]layer.Inbound)              {}
func (mute) DeliverTo(string, layer.Packet) error { return layer.ErrNoChannel }
func (mute) Call(context.Context, []byte) []byte  { return nil }
func (mute) Report(layer.LinkEvent)               {}
func (t *trial) raw(process string) (link layer.Link) {
	t.Helper()
	link, err := t.dial(t).Attach(t.ctx, process, mute{})
	t.must(err)
	t.Cleanup(func() {
		if err := link.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return link
}

func junk(t *trial) {
	l := t.layer(nil)
	member, own, shared := t.member(l, "g"), t.channel(l), t.listen(l, "s")
	link := t.raw("twstranger")
	for _, data := range []string{`{"text":"no type"}`, `{"type":7}`, `[1]`, `{"type":"t"`, "\xff", ""} {
		// A bus may refuse what it cannot carry; what it carries counts nowhere.
		p := &layer.Packet{Data: []byte(data)}
		link.Publish(t.ctx, "g", p)
		link.SendTo(t.ctx, own.Name(), p)
		link.Push(t.ctx, "s", p, layer.Limits{Capacity: 100, Ceiling: 100, Expiry: layerExpiry})
	}
	t.must(link.Publish(t.ctx, "g", &layer.Packet{Data: []byte(`{"type":"layertest.note","n":1}`)}))
	t.must(link.SendTo(t.ctx, own.Name(), &layer.Packet{Data: []byte(`{"type":"layertest.note","n":2}`)}))
	t.must(link.Push(t.ctx, "s", &layer.Packet{Data: []byte(`{"type":"layertest.note","n":3}`)}, layer.Limits{Capacity: 100, Ceiling: 100, Expiry: layerExpiry}))
	t.gets(member, 1)
	t.gets(own, 2)
	t.gets(shared, 3)
	if l.Stats().Malformed == 0 {
		t.Error("Stats().Malformed is 0")
	}
}

// case 8, case 40
func badNames(t *trial) {
	l := t.layer(nil)
	long := strings.Repeat("x", 400)
	for _, x := range []struct{ name, why string }{
		{"", "it is empty"},
		{`¯\_(ツ)_/¯`, `'¯' at byte 0`},
		{"a b", `' ' at byte 1`},
		{"a*", `'*' at byte 1`},
		{"a>", `'>' at byte 1`},
		{"$SYS", `'$' at byte 0`},
		{"a\r\nPUB x", `'\r' at byte 1`},
		{"a\x00", `'\x00' at byte 1`},
		{"chat/1", `'/' at byte 4`},
		{strings.Repeat("x", 100), "it has 100 bytes; 99 is the most"},
		{long, "it has 400 bytes; 99 is the most"},
		{strings.Repeat("x", 5000), "it has 5000 bytes"},
	} {
		_, listen := l.Listen(t.ctx, x.name)
		for kind, errs := range map[string][]error{
			"channel": {l.Send(t.ctx, x.name, note{}), listen, l.GroupAdd(t.ctx, "g", x.name), l.GroupDiscard(t.ctx, "g", x.name)},
			"group":   {l.GroupSend(t.ctx, x.name, note{}), l.GroupAdd(t.ctx, x.name, "c"), l.GroupDiscard(t.ctx, x.name, "c")},
		} {
			for i, err := range errs {
				var bad *layer.NameError
				if !errors.As(err, &bad) || bad.Kind != kind || bad.Name != x.name || !strings.Contains(err.Error(), kind) || !strings.Contains(err.Error(), x.why) {
					t.Errorf("%s %.20q, call %d: got error %v, want a NameError that says %s", kind, x.name, i, err, x.why)
				}
			}
		}
	}
	var bad *layer.NameError
	if err := l.GroupSend(t.ctx, "a!b", note{}); !errors.As(err, &bad) {
		t.Errorf("a group named a!b: got error %v, want a NameError", err)
	}
	if err := l.Send(t.ctx, "a!b!c", note{}); !errors.As(err, &bad) {
		t.Errorf("a channel named a!b!c: got error %v, want a NameError", err)
	}
}

// Dots are tokens on some wires; these are names that differ all the same.
func oddNames(t *trial) {
	a, b := t.pair(nil)
	names := []string{"chat", "Chat", "chat.", ".chat", "chat..", "ch.at", "ch..at", "ch...at", ".", "..", "-", "_", "0", "a.b.c.d", strings.Repeat("x", 99), strings.Repeat(".", 99)}
	members := map[string]*layer.Channel{}
	for _, n := range names {
		members[n] = t.member(b, n)
	}
	var sent sync.WaitGroup
	for i, n := range names {
		sent.Go(func() {
			if err := a.GroupSend(t.ctx, n, note{N: i}); err != nil {
				t.Errorf("group %q: %v", n, err)
			}
			if err := a.Send(t.ctx, n, note{N: 1000 + i}); err != nil {
				t.Errorf("channel %q: %v", n, err)
			}
		})
	}
	sent.Wait()
	for i, n := range names {
		t.gets(members[n], i)
		t.gets(t.listen(b, n), 1000+i)
	}
}
