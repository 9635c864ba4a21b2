package job

import (
	"context"
	"errors"
	"net/http"

	"github.com/tideway-go/tideway/consumer"
)

// WatcherOptions are the settings of [Watcher]. A nil *WatcherOptions and the
// zero WatcherOptions mean the defaults.
type WatcherOptions struct {
	// Watch decides who may see a job: an error refuses the connection, with 403
	// unless it is a *[consumer.DenyError]. Default: everybody who gets as far.
	Watch func(ctx context.Context, c *consumer.Conn, s *Status) error

	// Control decides who may cancel a job, or retry it: an error refuses it. It
	// returns who it is, for the audit trail. It may be asked again and again,
	// with the status of that moment. Default: nobody may.
	Control func(ctx context.Context, c *consumer.Conn, s *Status) (by string, err error)
}

// Command is what a page asks of a [Watcher], as a message of the client:
// {"do":"cancel"} or {"do":"retry"}.
type Command struct {
	Do string `json:"do"`
}

// Answer is the answer to a [Command]: the reply, for a client that speaks
// tideway.v1 and asked for one, and otherwise a message of type "job.answer".
type Answer struct {
	Do    string `json:"do"`
	Job   string `json:"job,omitempty"`   // the new job's id, after a retry
	State State  `json:"state,omitempty"` // where the job stood that was too late to cancel, or is not over yet
	Error string `json:"error,omitempty"` // "forbidden", "ended", "unavailable" or "unknown_command"
}

// MessageType implements layer.Payload.
func (Answer) MessageType() string { return "job.answer" }

// Watcher returns a consumer for pages that show a job: at a path with {id} in
// it, such as "/ws/jobs/{id}/". A page gets every event of the job from the first
// on, as messages of type [EventType], and then each as it comes; one that comes
// back, with clientjs, gets those that it missed. Without tideway.v1 a page that
// falls behind is not told that it missed something.
func Watcher(opts *WatcherOptions) consumer.App {
	var o WatcherOptions
	if opts != nil {
		o = *opts
	}
	return consumer.Type[watcher]{
		New:      func() *watcher { return &watcher{o: &o} },
		Connect:  (*watcher).connect,
		Receive:  consumer.JSON((*watcher).receive),
		Messages: consumer.Table(consumer.Forward[watcher, Event]()),
	}
}

// watcher is the connection of one page.
type watcher struct {
	o  *WatcherOptions
	id string
}

func (w *watcher) connect(ctx context.Context, c *consumer.Conn) error {
	w.id = c.PathValue("id")
	s, err := Get(ctx, c.Layer(), w.id)
	var name *NameError
	switch {
	case errors.Is(err, ErrNoJob), errors.As(err, &name):
		return &consumer.DenyError{Status: http.StatusNotFound, Reason: "no such job"}
	case err != nil:
		return err
	}
	if w.o.Watch != nil {
		if err := w.o.Watch(ctx, c, &s); err != nil {
			var deny *consumer.DenyError
			if errors.As(err, &deny) {
				return err
			}
			return &consumer.DenyError{Status: http.StatusForbidden, Reason: "you may not see this job"}
		}
	}
	return c.Join(ctx, Group(w.id), &consumer.JoinOptions{FromStart: true})
}

func (w *watcher) receive(ctx context.Context, c *consumer.Conn, m Command) error {
	a := Answer{Do: m.Do}
	if m.Do != "cancel" && m.Do != "retry" {
		a.Error = "unknown_command"
		return c.Reply(ctx, a)
	}
	s, err := Get(ctx, c.Layer(), w.id)
	by := ""
	if err == nil {
		if w.o.Control == nil {
			a.Error = "forbidden"
			return c.Reply(ctx, a)
		}
		if by, err = w.o.Control(ctx, c, &s); err != nil {
			a.Error = "forbidden"
			return c.Reply(ctx, a)
		}
		if m.Do == "cancel" {
			err = Cancel(ctx, c.Layer(), w.id, by)
		} else {
			a.Job, err = Retry(ctx, c.Layer(), w.id, by)
		}
	}
	var ended *EndedError
	switch {
	case errors.As(err, &ended):
		a.Error, a.State = "ended", ended.State
	case err != nil:
		c.Logger().Warn("job: a command could not be carried out", "job", w.id, "do", m.Do, "error", err)
		a.Error = "unavailable"
	}
	return c.Reply(ctx, a)
}
