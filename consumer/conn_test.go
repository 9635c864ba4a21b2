package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// connecting is an App whose Connect is f.
func connecting(f func(ctx context.Context, c *consumer.Conn) error) consumer.App {
	return consumer.Type[struct{}]{
		Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error { return f(ctx, c) },
	}
}

// The zero Type accepts everybody and ignores what they say. Case 91.
func TestZeroType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, consumer.Type[struct{}]{}, nil)
		c := s.dial("x")
		c.SendText("hello")
		c.ReceiveNothing(time.Hour)
		c.Close(1000, "")
	})
}

// Cases 62 and 93.
func TestSubprotocols(t *testing.T) {
	for _, test := range []struct {
		name                    string
		ours, offered           []string
		accept                  string // in Connect; "-" is not
		send                    bool   // in Connect
		want                    string
		subprotocols, forbidden string
	}{
		{name: "ours decide", ours: []string{"b", "a"}, offered: []string{"x", "a", "b"}, accept: "-", want: "b"},
		{name: "none in common", ours: []string{"b"}, offered: []string{"a"}, accept: "-", want: ""},
		{name: "none offered", ours: []string{"b"}, accept: "-", want: ""},
		{name: "Connect decides", ours: []string{"b", "a"}, offered: []string{"a", "b"}, accept: "a", want: "a"},
		{name: "Connect declines", ours: []string{"b"}, offered: []string{"b"}, accept: "", want: ""},
		{name: "the first Send accepts", ours: []string{"b"}, offered: []string{"a", "b"}, accept: "-", send: true, want: "b"},
		{name: "a credential is none", ours: []string{"tideway.bearer.c2VjcmV0"}, offered: []string{"tideway.bearer.c2VjcmV0"}, accept: "-", want: ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := make(chan string, 1)
				s := open(t, consumer.Type[struct{}]{
					Subprotocols: test.ours,
					Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
						if test.send {
							return c.Send(ctx, consumer.TextFrame("hello"))
						}
						if test.accept != "-" {
							return c.Accept(test.accept)
						}
						return nil
					},
					Receive: func(_ *struct{}, _ context.Context, c *consumer.Conn, _ consumer.Frame) error {
						told <- fmt.Sprint(c.Subprotocol(), c.Subprotocols())
						return nil
					},
				}, nil)
				c := consumertest.Dial(t, s, "/ws/x/", &consumertest.Options{Subprotocols: test.offered})
				if got := c.Subprotocol(); got != test.want {
					t.Errorf("the client was told %q, want %q", got, test.want)
				}
				c.SendText("hello")
				offered := test.offered
				if test.name == "a credential is none" {
					offered = nil
				}
				if got, want := wait(t, told), fmt.Sprint(test.want, offered); got != want {
					t.Errorf("the consumer was told %q, want %q", got, want)
				}
			})
		})
	}
}

// A subprotocol that was not offered is a mistake of the program.
func TestAcceptWhatWasNotOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, connecting(func(_ context.Context, c *consumer.Conn) error { return c.Accept("soap") }), nil)
		if got := refuse(t, s, "x"); got != 500 {
			t.Errorf("refused with %d, want 500", got)
		}
		if s.log.count(`subprotocol \"soap\" was not offered`) != 1 {
			t.Errorf("the log does not say why:\n%s", s.log)
		}
	})
}

// Cases 67 and 109: headers go out with the 101. A refusal has its own.
func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, connecting(func(_ context.Context, c *consumer.Conn) error {
			c.Header().Set("X-Server", "tideway")
			c.Header().Add("Set-Cookie", "a=1")
			c.Header().Add("Set-Cookie", "b=2")
			if c.PathValue("name") == "refuse" {
				return &consumer.DenyError{Status: 402, Reason: `{"pay":1}`, Header: http.Header{"Content-Type": {"application/json"}, "X-Price": {"5"}}}
			}
			if err := c.Accept(""); err != nil {
				return err
			}
			c.Header().Set("X-Late", "nobody sees it")
			return nil
		}), nil)
		h := s.dial("x").Header()
		if got, want := h.Values("Set-Cookie"), []string{"a=1", "b=2"}; h.Get("X-Server") != "tideway" || !reflect.DeepEqual(got, want) || h.Get("X-Late") != "" {
			t.Errorf("got the headers %v", h)
		}
		no := consumertest.Refused(t, s, "/ws/refuse/", nil)
		if no.Status != 402 || no.Body != "{\"pay\":1}\n" || no.Header.Get("X-Price") != "5" ||
			no.Header.Get("Content-Type") != "application/json" || no.Header.Get("Set-Cookie") != "" {
			t.Errorf("got %+v", no)
		}
	})
}

// Case 95: what a consumer knows of its request, and how long.
func TestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type facts struct{ name, path, q, agent, remote string }
		connect, receive := make(chan facts, 1), make(chan facts, 1)
		know := func(c *consumer.Conn) facts {
			f := facts{c.PathValue("name"), c.Path(), c.Query().Get("q"), "", c.RemoteAddr()}
			if r := c.Request(); r != nil {
				f.agent = r.Header.Get("User-Agent")
			}
			return f
		}
		s := open(t, consumer.Type[struct{}]{
			Connect: func(_ *struct{}, _ context.Context, c *consumer.Conn) error { connect <- know(c); return nil },
			Receive: func(_ *struct{}, _ context.Context, c *consumer.Conn, _ consumer.Frame) error {
				receive <- know(c)
				return nil
			},
		}, nil)
		c := consumertest.Dial(t, s, "/ws/a%2Fb%20%C3%BC/?q=1%262&q=3", &consumertest.Options{Header: http.Header{"User-Agent": {"me"}}})
		c.SendText("hello")
		want := facts{"a/b ü", "/ws/a/b ü/", "1&2", "me", "127.0.0.1"}
		if got := wait(t, connect); got != want {
			t.Errorf("in Connect: got %q, want %q", got, want)
		}
		want.agent = ""
		if got := wait(t, receive); got != want {
			t.Errorf("in Receive: got %q, want %q", got, want)
		}
	})
}

// Case 61: each connection has a state of its own.
func TestStateIsTheConnectionsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type state struct{ name, prefix string }
		s := open(t, consumer.Type[state]{
			New: func() *state { return &state{prefix: "I am "} },
			Connect: func(st *state, _ context.Context, c *consumer.Conn) error {
				st.name = c.PathValue("name")
				return nil
			},
			Receive: func(st *state, ctx context.Context, c *consumer.Conn, _ consumer.Frame) error {
				return c.Send(ctx, consumer.TextFrame(st.prefix+st.name))
			},
		}, nil)
		a, b := s.dial("a"), s.dial("b")
		for _, x := range []struct {
			c    *consumertest.Client
			want string
		}{{b, "I am b"}, {a, "I am a"}} {
			x.c.SendText("who are you?")
			if got := x.c.ReceiveText(); got != x.want {
				t.Errorf("got %q, want %q", got, x.want)
			}
		}
	})
}

// Case 63: a declared group brings its messages, and is left at the end.
func TestDeclaredGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newActors()
		typ := b.consumer()
		typ.Groups = []string{"declared.1", "declared.2"}
		s := open(t, typ, nil)
		c := s.dial("x")
		s.send("declared.1", `{"type":"note","text":"1"}`)
		receiveNotes(t, c, 1, 1)
		s.send("declared.2", `{"type":"note","text":"2"}`)
		receiveNotes(t, c, 2, 2)
		c.Close(1000, "")
		time.Sleep(10 * time.Second) // a process stays subscribed for a moment
		if got := s.layer.Stats(); got.Channels != 0 || got.Groups != 0 {
			t.Errorf("%d channels in %d groups, want none", got.Channels, got.Groups)
		}
		b.ended(t, 1000)
	})
}

// A declared group that cannot be joined refuses the connection; Connect did not
// begin, so there is no Disconnect.
func TestDeclaredGroupThatCannotBeJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newActors()
		typ := b.consumer()
		typ.Groups = []string{"good", "not a name"}
		s := open(t, typ, nil)
		if got := refuse(t, s, "x"); got != 400 {
			t.Errorf("refused with %d, want 400", got)
		}
		synctest.Wait()
		if b.connects != 0 || len(b.disconnects) != 0 {
			t.Errorf("%d Connects and %d Disconnects, want none", b.connects, len(b.disconnects))
		}
	})
}

// Case 64.
func TestOtherLayer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := attach(t, membus.New())
		typ := member(consumer.Forward[struct{}, note]())
		typ.Layer = other
		s := open(t, typ, nil)
		c := s.dial("x")
		s.send("g", `{"type":"note","text":"on the router's layer"}`)
		c.ReceiveNothing(time.Second)
		if err := other.GroupSend(t.Context(), "g", note{"1"}); err != nil {
			t.Fatal(err)
		}
		receiveNotes(t, c, 1, 1)
	})
}

func TestGroupSendOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		typ := member(consumer.Forward[struct{}, note](),
			consumer.On(func(_ *struct{}, ctx context.Context, c *consumer.Conn, m counted) error { return c.SendJSON(ctx, m) }))
		typ.Receive = func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
			if string(f.Data) == "counted" {
				return c.GroupSendOthers(ctx, "g", counted{N: 1})
			}
			m, err := layer.ParseMessage(f.Data)
			if err != nil {
				return err
			}
			return c.GroupSendOthers(ctx, "g", m)
		}
		s := open(t, typ, nil)
		a, b := s.dial("a"), s.dial("b")
		a.SendText(`{"type":"note","text":"1"}`)
		receiveNotes(t, b, 1, 1)
		a.SendText("counted") // by a handler
		if got, want := b.ReceiveText(), `{"type":"counted","n":1}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		a.ReceiveNothing(time.Second)
		b.SendText(`{"type":"note","text":"2"}`)
		receiveNotes(t, a, 2, 2)
	})
}

// A client that has its consumer join whatever it names is bounded.
func TestTooManyGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, connecting(func(ctx context.Context, c *consumer.Conn) error {
			for i := range 128 {
				if err := c.GroupAdd(ctx, fmt.Sprint("g", i)); err != nil {
					return err
				}
			}
			if err := c.GroupAdd(ctx, "g5"); err != nil { // again
				return err
			}
			if err := c.GroupAdd(ctx, "more"); !errors.Is(err, consumer.ErrTooManyGroups) {
				return fmt.Errorf("the 129th group: %v", err)
			}
			if err := c.GroupDiscard(ctx, "g5"); err != nil {
				return err
			}
			if err := c.GroupAdd(ctx, "not a name"); !errors.As(err, new(*layer.NameError)) {
				return fmt.Errorf("a bad name: %v", err)
			}
			return c.GroupAdd(ctx, "more")
		}), nil)
		s.dial("x")
	})
}

// Without a layer a consumer may do what needs none, and is told otherwise.
func TestNoLayer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := make(chan error, 4)
		r, err := router.New(nil, router.Table{"/": connecting(func(ctx context.Context, c *consumer.Conn) error {
			errs <- c.GroupAdd(ctx, "g")
			errs <- c.GroupDiscard(ctx, "g")
			errs <- c.GroupSend(ctx, "g", note{})
			errs <- c.GroupSendOthers(ctx, "g", note{})
			if name := c.ChannelName(); name != "" {
				return fmt.Errorf("the channel is %q", name)
			}
			return c.Send(ctx, consumer.TextFrame("hello"))
		})}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Shutdown(t.Context())
		if got := consumertest.Dial(t, r, "/", nil).ReceiveText(); got != "hello" {
			t.Errorf("got %q, want hello", got)
		}
		for range 4 {
			if err := wait(t, errs); err == nil {
				t.Error("a group without a layer: got no error")
			}
		}
	})
}

// Calls on a connection that ended fail in a way that a program can tell, and are
// no failure of a handler.
func TestCallsAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		var conn *consumer.Conn
		s := open(t, consumer.Type[struct{}]{
			Groups: []string{"g"},
			Connect: func(_ *struct{}, _ context.Context, c *consumer.Conn) error {
				conn = c
				return nil
			},
			Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, _ consumer.Frame) error {
				time.Sleep(time.Second) // the client leaves meanwhile
				return c.GroupAdd(ctx, "h")
			},
			Disconnect: func(*struct{}, context.Context, *consumer.Conn, consumer.StatusCode) { close(done) },
		}, nil)
		c := s.dial("x")
		c.SendText("hello")
		synctest.Wait()
		c.Vanish()
		<-done
		synctest.Wait()
		ctx := t.Context()
		for what, err := range map[string]error{"GroupAdd": conn.GroupAdd(ctx, "g"), "GroupDiscard": conn.GroupDiscard(ctx, "g")} {
			if err != nil && !errors.Is(err, consumer.ErrNotOpen) {
				t.Errorf("%s: got %v, want ErrNotOpen", what, err)
			}
		}
		if err := conn.Send(ctx, consumer.TextFrame("x")); consumer.CloseStatus(err) != 1006 {
			t.Errorf("Send: got %v, want 1006", err)
		}
		conn.Close(1000, "") // does nothing
		if got := s.Stats().Failed; got != 0 {
			t.Errorf("Stats().Failed: got %d, want 0\n%s", got, s.log)
		}
	})
}

func TestSetUserAndRenewUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		result := make(chan error, 1)
		s := open(t, connecting(func(_ context.Context, c *consumer.Conn) error {
			result <- func() error {
				ann, bob := consumer.User{ID: "ann", Session: "1"}, consumer.User{ID: "bob"}
				if u := c.User(); !u.Same(ann) {
					return fmt.Errorf("the user is %+v", u)
				}
				if c.RenewUser(bob, bob) {
					return errors.New("renewed who is not there")
				}
				fresh := ann
				fresh.Data = "roles"
				if !c.RenewUser(ann, fresh) || c.User().Data != "roles" {
					return fmt.Errorf("not renewed: %+v", c.User())
				}
				c.SetUser(consumer.User{})
				if c.RenewUser(ann, ann) || !c.User().Anonymous() {
					return errors.New("a recheck undid a logout")
				}
				return nil
			}()
			return nil
		}), &router.Options{Authenticate: headerAuth{}})
		consumertest.Dial(t, s, "/ws/x/", as("ann", "1"))
		if err := wait(t, result); err != nil {
			t.Error(err)
		}
	})
}
