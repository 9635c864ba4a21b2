package consumer

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"log/slog"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// deaf is a socket that takes everything.
type deaf struct{ Socket }

func (deaf) Accept(string, http.Header) error      { return nil }
func (deaf) Send(context.Context, *Prepared) error { return nil }
func (deaf) Offer(*Prepared) error                 { return nil }
func (deaf) Err() error                            { return nil }
func (deaf) Close(StatusCode, string)              {}

type tick struct{}

func (tick) MessageType() string { return "tick" }

type nobody struct{}

// Reaching one more member that speaks tideway.v1 allocates nothing, also in a
// durable group, and beside members that speak plain frames.
func TestForwardAllocations(t *testing.T) {
	l, err := layer.New(membus.New(), &layer.Options{Groups: []layer.Retention{{Pattern: "job.>"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	position, err := layer.ParsePosition("a.7")
	if err != nil {
		t.Fatal(err)
	}
	typ := Type[nobody]{Messages: Table(Forward[nobody, tick]())}
	for _, protocol := range []string{"", Protocol} {
		c := newConn(t.Context(), Setup{
			Socket: deaf{}, Layer: l, Request: httptest.NewRequest("GET", "/", nil), Subprotocols: []string{Protocol},
			Header: http.Header{}, Logger: slog.New(slog.DiscardHandler),
		})
		if err := c.adopt(typ); err != nil {
			t.Fatal(err)
		}
		if protocol == "" {
			c.setup.Subprotocols = nil
		}
		if err := c.accept(protocol); err != nil {
			t.Fatal(err)
		}
		c.openInbox()
		if _, err := c.ownChannel(); err != nil {
			t.Fatal(err)
		}
		m := &layer.Message{Type: "tick", Data: []byte(`{"type":"tick"}`), Group: "job.1", Position: position}
		b := &layer.Batch{Messages: []*layer.Message{m}}
		if !(*tap)(c).Offer(b) {
			t.Fatal("the batch was not taken")
		}
		if n := testing.AllocsPerRun(100, func() { (*tap)(c).Offer(b) }); n != 0 {
			t.Errorf("%q: a member costs %v allocations, want none", protocol, n)
		}
	}
}

func FuzzParseClient(f *testing.F) {
	for _, s := range []string{
		`{"data":1}`, `{"id":7,"data":{"a":[1,2]}}`, `{"auth":"x"}`, `{"resume":{"a":"b"},"session":"c"}`, `{"ping":null}`, `{}`, `[]`, `null`, ` {"data":null} `,
		`{"id":1e3,"data":0}`, `{"id":9007199254740992,"data":0}`, `{"data":"\ud800"}`, `{"resume":{},"resume":{"a":"b"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		in, err := parseClient(text, 128)
		if err != nil {
			if errorFrame(codeFrame, err.Error()) == nil {
				t.Error("an error without words")
			}
			return
		}
		if !json.Valid(text) {
			t.Errorf("%q is no JSON", text)
		}
		if in.data != nil && !json.Valid(dataFrame(in.data)) {
			t.Errorf("%q: its data are no JSON: %q", text, in.data)
		}
		if in.id != "" && !json.Valid(replyFrame(in.id, []byte("1"))) {
			t.Errorf("%q: its id is no JSON: %q", text, in.id)
		}
		if in.ping != nil && !json.Valid(pongFrame(in.ping)) {
			t.Errorf("%q: its ping is no JSON: %q", text, in.ping)
		}
		if len(in.resume) > 128 {
			t.Errorf("%d groups", len(in.resume))
		}
	})
}
