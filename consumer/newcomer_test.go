package consumer_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/layer"
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

// What a newcomer gets begins at the place that it is told, though messages come
// while it joins: the first one is the first behind that place.
func TestNewcomerMissesNothingBehindItsPlace(t *testing.T) {
	s := watch(t)
	s.publish("job.1", 0, 0)
	s.dial("/job.1/", client.Resume{}).joined(client.Joined{Group: "job.1", Outcome: "live"})
	var stop atomic.Bool
	var talk sync.WaitGroup
	places := make([]layer.Position, 1) // behind each line
	talk.Go(func() {
		for n := 1; !stop.Load(); n++ {
			r, err := s.layer.Publish(t.Context(), "job.1", line{n}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			places = append(places, r.Position)
			time.Sleep(50 * time.Microsecond) // or what is kept is older than a handshake takes
		}
	})
	defer talk.Wait()
	defer stop.Store(true)
	type start struct {
		at    layer.Position
		first line
	}
	var starts []start
	for range 200 {
		p := s.dial("/job.1/", client.Resume{})
		e := p.next()
		if e.Joined == nil || e.Joined.Outcome != "live" {
			t.Fatalf("got %s, want joined", show(e))
		}
		at, err := consumer.OpenCursor(t.Context(), s.layer, "job.1", e.Joined.At)
		if err != nil {
			t.Fatal(err)
		}
		c := start{at: at}
		switch e = p.next(); {
		case e.Gap != nil: // the machine is slower than the talk: it is told
		case json.Unmarshal(e.Data, &c.first) != nil:
			t.Fatalf("got %s, want a line", show(e))
		default:
			starts = append(starts, c)
		}
		p.Vanish()
	}
	stop.Store(true)
	talk.Wait()
	if len(starts) == 0 {
		t.Error("every newcomer was told of a gap")
	}
	for _, c := range starts {
		want := slices.IndexFunc(places, func(p layer.Position) bool { return !p.IsZero() && !c.at.Reaches(p) })
		if c.first.N != want {
			t.Errorf("the first line behind %v is %d, want %d", c.at, c.first.N, want)
		}
	}
}
