package consumer_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// sayers join a group and at once send three lines to it, from Connect: they are
// members by then, so they get all three, though nothing was replayed yet.
var sayers = consumer.Type[struct{}]{
	Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
		group, join := c.PathValue("group"), c.Join
		var o consumer.JoinOptions
		switch query := c.Request().URL.RawQuery; query {
		case "add":
			join = func(ctx context.Context, group string, _ *consumer.JoinOptions) error { return c.GroupAdd(ctx, group) }
		case "last":
			o.Last = 1
		case "again": // what is on its way meanwhile is for a member, too
			if err := c.GroupAdd(ctx, group); err != nil {
				return err
			}
		}
		if err := join(ctx, group, &o); err != nil {
			return err
		}
		for n := 2; n <= 4; n++ {
			if err := c.Layer().GroupSend(ctx, group, line{n}); err != nil {
				return err
			}
		}
		return nil
	},
	Messages: consumer.Table(consumer.Forward[struct{}, line]()),
}

// What is sent to a durable group after a join returned reaches the newcomer,
// however soon it was sent: also before the store is asked where the group stands.
func TestNothingIsLostBehindAJoin(t *testing.T) {
	for _, how := range []string{"", "add", "last", "again"} {
		synctest.Test(t, func(t *testing.T) {
			s := newStation(t, membus.New(), router.Table{"/{group}/": sayers}, nil)
			s.publish("job.1", 1, 1)
			plain := consumertest.Dial(t, s, "/job.1/?"+how, nil)
			for n := 2; n <= 4; n++ {
				if got, want := plain.ReceiveText(), fmt.Sprintf(`{"type":"line","n":%d}`, n); got != want {
					t.Errorf("%q, plain: got %s, want %s", how, got, want)
				}
			}
			s.publish("job.2", 1, 1)
			p := s.dial("/job.2/?"+how, client.Resume{})
			if e := p.next(); e.Joined == nil || e.Joined.Outcome != "live" {
				t.Errorf("%q: got %s, want joined", how, show(e))
			}
			p.lines("job.2", 2, 4)
			p.Vanish()
		})
	}
}
