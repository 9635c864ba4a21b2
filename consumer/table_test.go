package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
)

// member is a Type that joins the group "g" and has the given handlers.
func member(handlers ...consumer.Handler[struct{}]) consumer.Type[struct{}] {
	return consumer.Type[struct{}]{Groups: []string{"g"}, Messages: consumer.Table(handlers...)}
}

// Cases 66, 106 and 116: a type that the table does not name reaches nothing. It
// is counted, logged once, and ends no connection.
func TestUnknownTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, member(consumer.Forward[struct{}, note]()), nil)
		a, b := s.dial("a"), s.dial("b")
		types := []string{"close", "Close", "send", "disconnect", "connect", "receive", "_x", ".x", "note.x", "websocket.close"}
		for range 3 {
			for _, typ := range types {
				s.send("g", `{"type":"`+typ+`"}`)
			}
		}
		s.send("g", `{"type":"note","text":"1"}`)
		receiveNotes(t, a, 1, 1)
		receiveNotes(t, b, 1, 1)
		if got, want := s.Stats().Unknown, int64(2*3*len(types)); got != want {
			t.Errorf("Stats().Unknown: got %d, want %d", got, want)
		}
		if got, want := s.log.count("nobody handles this type"), len(types); got != want {
			t.Errorf("%d lines, want %d: one for each type\n%s", got, want, s.log)
		}
		time.Sleep(time.Minute)
		s.send("g", `{"type":"close"}`)
		synctest.Wait()
		if got, want := s.log.count("nobody handles this type"), len(types)+1; got != want {
			t.Errorf("%d lines a minute later, want %d", got, want)
		}
	})
}

// untold numbers types that were not logged yet.
var untold atomic.Int64

// The same where messages are handled one by one, and where there is no table.
func TestUnknownTypesBesideHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := open(t, member(consumer.On(func(*struct{}, context.Context, *consumer.Conn, act) error { <-release; return nil })), nil)
		c := s.dial("x")
		s.send("g", `{"type":"act"}`)
		synctest.Wait()
		s.send("g", `{"type":"close"}`)
		close(release)
		c.ReceiveNothing(time.Second)
		if got := s.Stats().Unknown; got != 1 {
			t.Errorf("Stats().Unknown: got %d, want 1", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := open(t, consumer.Type[struct{}]{Groups: []string{"g"}}, nil)
		c := s.dial("x")
		// All Types without a table log together, whatever test they are of.
		s.send("g", fmt.Sprintf(`{"type":"to no table %d"}`, untold.Add(1)))
		c.ReceiveNothing(time.Second)
		if got, logged := s.Stats().Unknown, s.log.count("nobody handles this type"); got != 1 || logged != 1 {
			t.Errorf("Stats().Unknown: got %d, with %d lines, want 1 and 1", got, logged)
		}
	})
}

// Case 106.
func TestOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, member(
			consumer.Forward[struct{}, note](),
			consumer.Otherwise(func(_ *struct{}, ctx context.Context, c *consumer.Conn, m layer.Message) error {
				return c.Send(ctx, consumer.TextFrame("what is "+m.Type+" in "+m.Group+"? "+string(m.Data)))
			})), nil)
		c := s.dial("x")
		s.send("g", `{"type":"_x","n": 1}`)
		if got, want := c.ReceiveText(), `what is _x in g? {"type":"_x","n": 1}`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		s.send("g", `{"type":"note","text":"1"}`)
		receiveNotes(t, c, 1, 1)
		if got := s.Stats().Unknown; got != 0 {
			t.Errorf("Stats().Unknown: got %d, want 0", got)
		}
	})
}

// counted is a message whose fields cannot be misread.
type counted struct {
	N    int   `json:"n"`
	List []int `json:"list,omitempty"`
}

func (counted) MessageType() string { return "counted" }

// A message of the layer that does not fit comes from a program, not from the
// client: it ends nothing.
func TestUndecodableMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, member(consumer.On(func(_ *struct{}, ctx context.Context, c *consumer.Conn, m counted) error {
			return c.SendJSON(ctx, m)
		})), nil)
		c := s.dial("x")
		for range 3 {
			s.send("g", `{"type":"counted","n":"one"}`)
		}
		s.send("g", `{"type":"counted","n":2}`)
		if got, want := c.ReceiveText(), `{"type":"counted","n":2}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := s.log.count("counted does not fit into *consumer_test.counted"); got != 1 {
			t.Errorf("%d lines, want 1:\n%s", got, s.log)
		}
	})
}

// Case 51: what On decodes is the connection's own.
func TestOnSharesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sums []int
		s := open(t, member(consumer.On(func(_ *struct{}, _ context.Context, _ *consumer.Conn, m counted) error {
			sum := 0
			for i, v := range m.List {
				sum += v
				m.List[i] = 100
			}
			mu.Lock()
			defer mu.Unlock()
			sums = append(sums, sum)
			return nil
		})), nil)
		for range 5 {
			s.dial("x")
		}
		s.send("g", `{"type":"counted","list":[1,2,3]}`)
		synctest.Wait()
		if got, want := fmt.Sprint(sums), "[6 6 6 6 6]"; got != want {
			t.Errorf("sums: got %v, want %v", got, want)
		}
	})
}

// Forward passes on what the sender wrote, byte for byte.
func TestForwardIsByteIdentical(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, member(consumer.Forward[struct{}, note]()), nil)
		c := s.dial("x")
		for _, want := range []string{
			`{"type":"note","text":"plain"}`,
			` { "text" : "\u00fc <b>" , "more" : [ 1.0, 1e3, null ], "type":"note" } `,
			`{"text":"grüß","type":"no\u0074e"}`,
			`{"type":"note","text":"` + strings.Repeat("long ", 20_000) + `"}`,
		} {
			s.send("g", want)
			if got := c.ReceiveText(); got != want {
				t.Errorf("got %.100s, want %.100s", got, want)
			}
		}
	})
}

// rendered becomes something else on its way to a client.
type rendered struct {
	Text string `json:"text"`
}

func (rendered) MessageType() string { return "rendered" }

// Render runs once for all connections of a process, and each gets the same.
func TestRender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		s := open(t, member(
			consumer.Render[struct{}](func(m rendered) (any, error) {
				runs.Add(1)
				switch m.Text {
				case "as payload":
					return note(m), nil
				case "fails":
					return nil, errBroken
				case "panics":
					panic("broken")
				case "no JSON":
					return func() {}, nil
				}
				return map[string]string{"html": "<b>" + m.Text + "</b>"}, nil
			}),
			consumer.On(func(*struct{}, context.Context, *consumer.Conn, act) error { time.Sleep(time.Second); return nil }),
		), nil)
		clients := []*consumertest.Client{s.dial("a"), s.dial("b"), s.dial("c")}
		send := func(text string) { s.send("g", `{"type":"rendered","text":"`+text+`"}`) }
		expect := func(want string, ran int32) {
			t.Helper()
			for _, c := range clients {
				if got := c.ReceiveText(); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			if got := runs.Swap(0); got != ran {
				t.Errorf("Render ran %d times, want %d", got, ran)
			}
		}
		send("hi")
		expect(`{"html":"\u003cb\u003ehi\u003c/b\u003e"}`, 1)
		send("as payload")
		expect(`{"type":"note","text":"as payload"}`, 1)

		s.send("g", `{"type":"act"}`) // what follows queues behind it
		synctest.Wait()
		send("queued")
		expect(`{"html":"\u003cb\u003equeued\u003c/b\u003e"}`, 1)

		for _, text := range []string{"fails", "panics", "no JSON"} {
			send(text)
			synctest.Wait()
			time.Sleep(time.Minute)
		}
		s.send("g", `{"type":"rendered","text":5}`)
		send("still here")
		expect(`{"html":"\u003cb\u003estill here\u003c/b\u003e"}`, 4)
		if got := s.log.count("came to nothing"); got != 4 {
			t.Errorf("%d lines, want 4:\n%s", got, s.log)
		}
	})
}

// untyped has no type.
type untyped struct{}

func (untyped) MessageType() string { return "" }

// A mistake in a table is found when the program starts.
func TestTablePanics(t *testing.T) {
	handle := func(*struct{}, context.Context, *consumer.Conn, layer.Message) error { return nil }
	for _, test := range []struct {
		name string
		make func()
		want string
	}{
		{"the same type twice", func() {
			consumer.Table(consumer.Forward[struct{}, note](), consumer.On(func(*struct{}, context.Context, *consumer.Conn, note) error { return nil }))
		}, `two handlers for the type "note"`},
		{"two Otherwise", func() { consumer.Table(consumer.Otherwise(handle), consumer.Otherwise(handle)) }, "two Otherwise"},
		{"a zero Handler", func() { consumer.Table(consumer.Handler[struct{}]{}) }, "zero Handler"},
		{"no type, On", func() {
			consumer.On(func(*struct{}, context.Context, *consumer.Conn, untyped) error { return nil })
		}, "On[consumer_test.untyped]"},
		{"no type, Forward", func() { consumer.Forward[struct{}, untyped]() }, "Forward[consumer_test.untyped]"},
		{"no type, Render", func() { consumer.Render[struct{}](func(untyped) (any, error) { return nil, nil }) }, "Render[consumer_test.untyped]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, test.want) {
					t.Errorf("panicked with %q, want %q in it", got, test.want)
				}
			}()
			test.make()
		})
	}
}

// Case 65.
func TestJSON(t *testing.T) {
	for _, test := range []struct {
		name  string
		frame consumer.Frame
		want  string // the answer
		code  consumer.StatusCode
	}{
		{"a message", consumer.TextFrame(`{"n":3}`), `{"type":"counted","n":4}`, 0},
		{"not JSON", consumer.TextFrame(`{"n":`), "", 1007},
		{"nothing", consumer.TextFrame(``), "", 1007},
		{"another type", consumer.TextFrame(`{"n":"three"}`), "", 1007},
		{"32 deep", consumer.TextFrame(`{"x":"]}[\"{","y":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `,"n":1}`), `{"type":"counted","n":2}`, 0},
		{"33 deep", consumer.TextFrame(`{"x":"]}[\"{","y":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `,"n":1}`), "", 1007},
		{"binary", consumer.BinaryFrame([]byte(`{"n":3}`)), "", 1003},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, consumer.Type[struct{}]{
					Receive: consumer.JSON(func(_ *struct{}, ctx context.Context, c *consumer.Conn, m counted) error {
						m.N++
						return c.SendJSON(ctx, m)
					}),
				}, nil)
				c := s.dial("x")
				c.Send(test.frame)
				if test.code != 0 {
					if code, _ := c.ReceiveClose(); code != test.code {
						t.Errorf("closed with %d, want %d", code, test.code)
					}
					return
				}
				if got := c.ReceiveText(); got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			})
		})
	}
}

// What cannot be sent is an error that says why.
func TestSendJSONErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := make(chan error, 3)
		s := open(t, consumer.Type[struct{}]{
			Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
				errs <- c.SendJSON(ctx, func() {})
				errs <- c.SendJSON(ctx, untyped{})
				errs <- c.Send(ctx, consumer.Frame{})
				return nil
			},
		}, nil)
		s.dial("x")
		for range 3 {
			if err := wait(t, errs); err == nil || errors.Is(err, consumer.ErrNotOpen) {
				t.Errorf("got %v, want an error that says what is wrong", err)
			}
		}
	})
}
