package fleet

import (
	"context"
	"net/http"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
)

// watcher is a page that somebody has open. It has nothing to say: what an
// operator wants goes by HTTP.
type watcher struct{}

// watchers serve the sockets: of the list of rollouts, and of one rollout.
func (s *Site) watchers() consumer.App {
	return consumer.Type[watcher]{
		Connect: s.watch,
		Messages: consumer.Table(
			consumer.Render[watcher](line),
			consumer.Forward[watcher, job.Summary](),
		),
	}
}

// watch joins a page to what it shows: the rollout from the start, or behind what
// it has, and the newest of what became of others.
func (s *Site) watch(_ *watcher, ctx context.Context, c *consumer.Conn) error {
	if c.User().Anonymous() {
		return consumer.Deny(http.StatusUnauthorized, "log in first")
	}
	if id := c.PathValue("id"); id != "" {
		known, err := s.isRollout(ctx, id)
		if err != nil {
			return err
		}
		if !known {
			return consumer.Deny(http.StatusNotFound, "there is no such rollout")
		}
		if err := c.Join(ctx, job.Group(id), &consumer.JoinOptions{FromStart: true}); err != nil {
			return err
		}
	}
	return c.Join(ctx, job.IndexGroup, &consumer.JoinOptions{Last: 50})
}

// isRollout reports whether there is a rollout of that id: its first event says
// so.
func (s *Site) isRollout(ctx context.Context, id string) (bool, error) {
	if job.CheckID(id) != nil {
		return false, nil
	}
	for m, err := range s.layer.History(ctx, job.Group(id), layer.Position{}, 1) {
		if err != nil {
			return false, err
		}
		e, err := job.ParseEvent(m)
		return err == nil && e.Job != nil && e.Job.Kind == Kind, nil
	}
	return false, nil
}

// line is what a page is told of an event: all but what is the workers' own.
func line(e job.Event) (any, error) {
	e.Job, e.Value, e.Token = nil, nil, ""
	return e, nil
}
