package consumer_test

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// guest is the state of one connection.
type guest struct{}

// lobby is a room whose members see each other come and go.
var lobby = consumer.Type[guest]{
	Groups: []string{"room.lobby"},
	Messages: consumer.Table(
		consumer.Forward[guest, layer.PresenceJoin](),
		consumer.Forward[guest, layer.PresenceLeave](),
	),
	Connect: func(_ *guest, ctx context.Context, c *consumer.Conn) error {
		members, err := c.Layer().Members(ctx, "room.lobby", nil)
		if err != nil {
			return err
		}
		return c.SendJSON(ctx, map[string]any{"type": "presence.members", "members": members})
	},
	Receive: func(_ *guest, _ context.Context, c *consumer.Conn, f consumer.Frame) error {
		c.SetUser(consumer.User{ID: string(f.Data)})
		return nil
	},
}

// presence is for groups like that room.
func presence() *layer.Options {
	return &layer.Options{
		Presence: []layer.Presence{{Pattern: "room.>"}},
	}
}

// seen is what the page of such a room gets.
type seen struct {
	Type, Group string
	Members     []layer.Member
}

func TestPresenceOfConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		dial := func() func(user, protocol string) *consumertest.Client {
			o := presence()
			o.Logger = slog.New(slog.DiscardHandler)
			l, err := layer.New(bus, o)
			if err != nil {
				t.Fatal(err)
			}
			r, err := router.New(l, router.Table{"/ws/": lobby}, &router.Options{Authenticate: headerAuth{}, Logger: o.Logger})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := r.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
				if err := l.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			return func(user, protocol string) *consumertest.Client {
				o := &consumertest.Options{Header: http.Header{"X-User": {user}}, Timeout: time.Minute}
				if protocol != "" {
					o.Subprotocols = []string{protocol}
				}
				return consumertest.Dial(t, r, "/ws/", o)
			}
		}
		here, there := dial(), dial()
		gets := func(c *consumertest.Client, typ string, want ...string) {
			t.Helper()
			var s seen
			c.ReceiveJSON(&s)
			var got []string
			for _, m := range s.Members {
				got = append(got, m.User)
			}
			if s.Type != typ || !slices.Equal(got, want) {
				t.Fatalf("got %+v, want %s of %q", s, typ, want)
			}
		}
		ann := here("ann", "")
		gets(ann, "presence.members", "ann")
		gets(ann, "presence.join", "ann")
		bob := there("bob", "")
		gets(bob, "presence.members", "ann", "bob")
		gets(ann, "presence.join", "bob")
		tab := here("bob", "")
		gets(tab, "presence.members", "ann", "bob")
		bob.Close(consumer.StatusNormalClosure, "")
		ann.ReceiveNothing(20 * time.Second)
		tab.SendText("eve") // a login
		gets(ann, "presence.join", "eve")
		gets(ann, "presence.leave", "bob")
		tab.Vanish()
		gets(ann, "presence.leave", "eve")

		v1 := here("zoe", "tideway.v1")
		if got := v1.ReceiveText(); got[:9] != `{"hello":` {
			t.Errorf("got %s", got)
		}
		if got, want := v1.ReceiveText(), `{"joined":"room.lobby","outcome":"live"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		var f struct{ Data seen }
		v1.ReceiveJSON(&f)
		v1.ReceiveJSON(&f)
		if f.Data.Type != "presence.join" || f.Data.Group != "room.lobby" {
			t.Errorf("got %+v", f)
		}
		v1.Close(consumer.StatusNormalClosure, "")
	})
}
