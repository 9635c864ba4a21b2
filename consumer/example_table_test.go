package consumer_test

import (
	"context"
	"strings"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
)

// Headline is news that is shown to everybody in the same way.
type Headline struct {
	Text string `json:"text"`
}

// MessageType implements layer.Payload.
func (Headline) MessageType() string { return "headline" }

// Whisper is for those who asked for it.
type Whisper struct {
	To   string `json:"to"`
	Text string `json:"text"`
}

// MessageType implements layer.Payload.
func (Whisper) MessageType() string { return "whisper" }

// reader is the state of one connection.
type reader struct{ name string }

// The four kinds of handlers: what is the same for all is made once per process,
// by Forward as it is and by Render in another shape; On and Otherwise run for each
// connection.
func ExampleTable() {
	app := consumer.Type[reader]{
		Groups: []string{"news"},
		New:    func() *reader { return &reader{name: "ann"} },
		Messages: consumer.Table(
			consumer.Forward[reader, ChatMessage](),
			consumer.Render[reader](func(h Headline) (any, error) {
				return map[string]string{"html": "<h1>" + strings.ToUpper(h.Text) + "</h1>"}, nil
			}),
			consumer.On(func(r *reader, ctx context.Context, c *consumer.Conn, w Whisper) error {
				if w.To != r.name {
					return nil
				}
				return c.SendJSON(ctx, w)
			}),
			consumer.Otherwise(func(_ *reader, ctx context.Context, c *consumer.Conn, m layer.Message) error {
				return c.Send(ctx, consumer.TextFrame("what is "+m.Type+"?"))
			}),
		),
		Receive: func(_ *reader, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
			m, err := layer.ParseMessage(f.Data)
			if err != nil {
				return err
			}
			return c.GroupSend(ctx, "news", m)
		},
	}
	talk(app,
		`{"type":"chat.message","user":"bob","text":"hi"}`,
		`{"type":"headline","text":"It rains"}`,
		`{"type":"whisper","to":"ann","text":"psst"}`,
		`{"type":"close"}`,
	)
	// Output:
	// {"type":"chat.message","user":"bob","text":"hi"}
	// {"html":"\u003ch1\u003eIT RAINS\u003c/h1\u003e"}
	// {"type":"whisper","to":"ann","text":"psst"}
	// what is close?
}
