package job_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// A page that opens later sees every event once, in order, and the verdict.
func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		web, worker := open(t, bus, 30*time.Second), open(t, bus, 30*time.Second)
		control := func(_ context.Context, c *consumer.Conn, _ *job.Status) (string, error) {
			if user := c.Query().Get("user"); user != "" {
				return user, nil
			}
			return "", errors.New("who are you?")
		}
		r, err := router.New(web, router.Table{
			"/ws/jobs/{id}/":   job.Watcher(&job.WatcherOptions{Control: control}),
			"/ws/secret/{id}/": job.Watcher(&job.WatcherOptions{Watch: func(context.Context, *consumer.Conn, *job.Status) error { return errors.New("no") }}),
		}, &router.Options{Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Shutdown(t.Context())
		work(t, worker, map[string]job.Handler{"k": func(ctx context.Context, r *job.Run) error {
			for i := range 20 {
				if err := r.Log(ctx, fmt.Sprint(i)); err != nil {
					return err
				}
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		}}, nil)
		id := submit(t, web, "k", nil)
		time.Sleep(10500 * time.Millisecond)
		pages := []*consumertest.Client{
			consumertest.Dial(t, r, "/ws/jobs/"+id+"/", nil),
			consumertest.Dial(t, r, "/ws/jobs/"+id+"/?user=ann", nil),
		}
		time.Sleep(time.Minute)
		pages = append(pages, consumertest.Dial(t, r, "/ws/jobs/"+id+"/", nil)) // when all is over
		for n, page := range pages {
			for i := -2; i <= 20; i++ {
				var e job.Event
				page.ReceiveJSON(&e)
				want := job.Event{Event: job.Logged, Text: fmt.Sprint(i)}
				switch i {
				case -2:
					want = job.Event{Event: job.Queued}
				case -1:
					want = job.Event{Event: job.Started}
				case 20:
					want = job.Event{Event: job.Ended, State: job.StateSucceeded}
				}
				if e.Event != want.Event || e.Text != want.Text || e.State != want.State {
					t.Fatalf("page %d: got %+v, want %+v", n, e, want)
				}
			}
		}
		for _, c := range []struct {
			page int
			do   string
			want job.Answer
		}{
			{0, "cancel", job.Answer{Do: "cancel", Error: "forbidden"}},
			{1, "dance", job.Answer{Do: "dance", Error: "unknown_command"}},
			{1, "cancel", job.Answer{Do: "cancel", Error: "ended", State: job.StateSucceeded}},
			{1, "retry", job.Answer{Do: "retry", Error: "ended", State: job.StateSucceeded}},
		} {
			pages[c.page].SendJSON(job.Command{Do: c.do})
			var got job.Answer
			if pages[c.page].ReceiveJSON(&got); got != c.want {
				t.Errorf("%s on page %d: got %+v, want %+v", c.do, c.page, got, c.want)
			}
		}
		running := submit(t, web, "k", nil)
		time.Sleep(time.Second)
		page := consumertest.Dial(t, r, "/ws/jobs/"+running+"/?user=ann", nil)
		page.SendJSON(job.Command{Do: "cancel"})
		if s := verdict(t, web, running, job.StateCancelled); s.CancelledBy != "ann" {
			t.Errorf("cancelled by %q", s.CancelledBy)
		}
		if refused := consumertest.Refused(t, r, "/ws/jobs/nosuchjob/", nil); refused.Status != 404 {
			t.Errorf("no such job: got %d", refused.Status)
		}
		if refused := consumertest.Refused(t, r, "/ws/secret/"+id+"/", nil); refused.Status != 403 {
			t.Errorf("a job that one may not see: got %d", refused.Status)
		}
	})
}
