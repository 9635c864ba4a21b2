package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/tideway-go/tideway/layer"
)

const (
	soonestReturn = 500 * time.Millisecond // for clients that are sent away
	latestReturn  = 8 * time.Second
	usualReturn   = 2 * time.Second // for those whose connection breaks

	tryAgainFirst = 50 * time.Millisecond // while the network is out of reach
	tryAgainMost  = 2 * time.Second
)

// events answers with the messages of a group as server-sent events (WHATWG HTML,
// section 9.2), from a position on if the group is durable.
func (a *API) events(w http.ResponseWriter, r *http.Request, c *Caller) error {
	group, err := groupOf(r, c, ReadGroups)
	if err != nil {
		return err
	}
	from, err := placeOf(r)
	if err != nil {
		return err
	}
	s := &stream{api: a, group: group, durable: a.layer.Durable(group), from: from, wake: make(chan struct{}, 1), out: newEventWriter(w, a.opts.WriteTimeout)}
	if from.given && !s.durable {
		return fmt.Errorf("group %s: %w", group, layer.ErrNotDurable)
	}
	if err := s.resume(r.Header.Values("Last-Event-ID")); err != nil {
		return err
	}
	done, err := a.Stream(c)
	if err != nil {
		return err
	}
	defer done()
	ctx := r.Context()
	if !c.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.until)
		defer cancel()
	}
	if err := s.out.begin(); err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		return nil
	}
	s.serve(ctx, r)
	return nil
}

// resume takes the header with which an EventSource comes back. It is what the
// client saw last, so it counts more than the query, which is as it was at first.
func (s *stream) resume(values []string) error {
	switch {
	case len(values) == 0 || values[0] == "":
		return nil
	case !s.durable:
		s.gapped = layer.GapReset // it was durable when the client saw it
		return nil
	}
	at, err := layer.ParsePosition(values[0])
	if err != nil {
		return Errorf(http.StatusBadRequest, "position", "Last-Event-ID: %s", bare(err))
	}
	s.from = place{given: true, at: at}
	return nil
}

// serve sends events until the client goes, or is too slow, or the server ends.
func (s *stream) serve(ctx context.Context, r *http.Request) {
	err := s.run(ctx)
	switch {
	case errors.Is(err, errDraining), errors.Is(err, layer.ErrClosed):
		s.out.farewell()
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.api.refusals.tell(s.api.opts.Logger, "httpapi: a stream's client was too slow, and was dropped", "group", s.group, "remote", r.RemoteAddr)
	case ctx.Err() == nil && !errors.Is(err, errGone):
		s.api.opts.Logger.Error("httpapi: a stream ended", "group", s.group, "err", err)
	}
}

var errDraining = errors.New("httpapi: the server shuts down")

// stream is one response with the events of a group. It is the tap of a channel
// that is a member: what arrives while it is busy waits there. In a durable group
// a message that did not fit there is read from the store like those that were
// sent before the stream began, so that nothing is missing.
type stream struct {
	api     *API
	group   string
	durable bool
	from    place
	channel *layer.Channel
	out     *eventWriter
	at      layer.Position // behind what the client has got
	behind  bool           // the store is to be read before what waits in the channel
	wake    chan struct{}  // capacity 1: something waits

	gaps
}

// run joins the group and sends what comes.
func (s *stream) run(ctx context.Context) (err error) {
	s.out.retry(usualReturn)
	if err := s.out.flush(); err != nil {
		return err
	}
	if s.channel, err = s.api.layer.Tap(ctx, s); err != nil {
		return err
	}
	defer s.channel.Close()
	if err := s.insist(ctx, func() error { return s.api.layer.GroupAdd(ctx, s.group, s.channel.Name()) }); err != nil {
		return err
	}
	if s.durable {
		if err := s.begin(ctx); err != nil {
			return err
		}
	}
	for {
		if err := s.turn(ctx); err != nil {
			return err
		}
		if err := s.pause(ctx, s.out.quiet(s.api.opts.Heartbeat)); err != nil {
			return err
		}
	}
}

// begin finds the place from which the client gets messages. Its id goes out at
// once: who is cut off before the first message comes back to it.
func (s *stream) begin(ctx context.Context) error {
	s.at, s.behind = s.from.at, s.from.given
	err := s.insist(ctx, func() (err error) {
		switch {
		case s.from.last > 0:
			s.at, err = s.api.layer.Before(ctx, s.group, s.from.last)
		case !s.from.given:
			s.at, err = s.api.layer.Position(ctx, s.group)
		}
		return err
	})
	if err == nil && !s.at.IsZero() {
		s.out.id(s.at.String())
		err = s.out.flush()
	}
	return err
}

// turn sends all that there is, and returns when the client has taken it.
func (s *stream) turn(ctx context.Context) error {
	for {
		if s.behind {
			if err := s.catchUp(ctx); err != nil {
				return err
			}
		}
		if err := s.drain(); err != nil {
			return err
		}
		if !s.behind {
			return s.out.flush()
		}
	}
}

// drain sends what waits in the channel, up to a gap that the store may fill.
func (s *stream) drain() error {
	for {
		m, more := s.channel.Next()
		if reason := s.takeGap(); reason != "" {
			if s.behind = s.durable; !s.durable {
				s.out.gap(reason, layer.Position{})
			}
		}
		stored := more && !m.Position.IsZero() // others are about presence
		switch {
		case stored && (s.behind || s.at.Reaches(m.Position)):
			// The store has it, too, or the client.
		case more:
			if err := s.send(&m); err != nil {
				return err
			}
		}
		if !more || s.behind {
			return nil
		}
	}
}

// catchUp sends what the store has behind the client's place. What is gone for
// good is told as a gap, behind which the client goes on with what comes now.
func (s *stream) catchUp(ctx context.Context) error {
	return s.insist(ctx, func() error {
		for m, err := range s.api.layer.History(ctx, s.group, s.at, 0) {
			if err == nil {
				err = s.send(&m)
			}
			if gap := (*layer.GapError)(nil); errors.As(err, &gap) {
				return s.jump(ctx, gap.Reason)
			}
			if err != nil {
				return err
			}
		}
		s.behind = false
		return nil
	})
}

// jump tells the client of a gap, and goes on behind the newest message.
func (s *stream) jump(ctx context.Context, reason layer.GapReason) error {
	at, err := s.api.layer.Position(ctx, s.group)
	if err != nil {
		return err
	}
	s.at, s.behind = at, false
	s.out.gap(reason, at)
	return s.out.flush()
}

// send writes a message, and waits for the client when much has been written.
func (s *stream) send(m *layer.Message) error {
	s.out.message(m)
	if !m.Position.IsZero() {
		s.at = m.Position
	}
	return s.out.flushMuch()
}

// insist calls f until it succeeds, or fails for another reason than that the
// network is out of reach: to an EventSource, an error in place of a stream is
// final.
func (s *stream) insist(ctx context.Context, f func() error) error {
	for wait := tryAgainFirst; ; wait = min(2*wait, tryAgainMost) {
		err := f()
		if err == nil || !errors.Is(err, layer.ErrUnavailable) {
			return err
		}
		for end := time.Now().Add(wait); time.Now().Before(end); {
			if err := s.pause(ctx, min(time.Until(end), s.out.quiet(s.api.opts.Heartbeat))); err != nil {
				return err
			}
		}
	}
}

// pause waits for something to do, for d at most, and sends a heartbeat if the
// stream has been quiet for long.
func (s *stream) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.wake:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.api.draining:
		return errDraining
	case <-t.C:
	}
	if s.out.quiet(s.api.opts.Heartbeat) > 0 {
		return nil
	}
	s.out.comment("")
	return s.out.flush()
}
