package consumer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// What is sent once GroupAdd or Join has returned reaches a newcomer, too, though
// its handshake, its first frame and the question for the group's position are yet
// to come.
func TestNewcomerGetsWhatFollowsItsJoin(t *testing.T) {
	for name, join := range map[string]func(context.Context, *consumer.Conn) error{
		"GroupAdd": func(ctx context.Context, c *consumer.Conn) error { return c.GroupAdd(ctx, "job.1") },
		"Join":     func(ctx context.Context, c *consumer.Conn) error { return c.Join(ctx, "job.1", nil) },
	} {
		for _, before := range []int{0, 3} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newStation(t, membus.New(), router.Table{"/": consumer.Type[watcher]{
						Connect: func(_ *watcher, ctx context.Context, c *consumer.Conn) error {
							if err := join(ctx, c); err != nil {
								return err
							}
							return c.GroupSend(ctx, "job.1", line{before + 1})
						},
						Messages: consumer.Table(consumer.Forward[watcher, line]()),
					}}, nil)
					s.publish("job.1", 1, before)
					p := s.dial("/", client.Resume{})
					p.joined(client.Joined{Group: "job.1", Outcome: "live"})
					p.lines("job.1", before+1, before+1)
					at := p.Resume()
					s.publish("job.1", before+2, before+300)
					p.lines("job.1", before+2, before+300)
					p.nothing(time.Minute)
					if name == "Join" {
						p = s.dial("/", at) // whose Connect sends one more
						p.joined(client.Joined{Group: "job.1", Outcome: "resumed", Replayed: 300})
						p.lines("job.1", before+2, before+300)
					}
				})
			})
		}
	}
}
