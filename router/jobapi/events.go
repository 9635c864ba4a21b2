package jobapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router/httpapi"
)

// events sends a job's events as server-sent events, until the verdict. The id of
// each is the place behind it, with which a client comes back.
func (j *Jobs) events(w http.ResponseWriter, r *http.Request, c *httpapi.Caller) error {
	from, err := layer.ParsePosition(r.Header.Get("Last-Event-ID"))
	if err != nil {
		return httpapi.Errorf(http.StatusBadRequest, "position", "the Last-Event-ID is not one of this server")
	}
	s, err := j.find(r, c, httpapi.ReadJobs)
	if err != nil {
		return err
	}
	done, err := j.api.Stream(c)
	if err != nil {
		return err
	}
	defer done()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx
	w.WriteHeader(http.StatusOK)
	out := &stream{w: w, c: http.NewResponseController(w)}
	out.write(": the events of a job\n\n")
	out.follow(r.Context(), j, s.ID, from)
	return nil
}

// stream writes server-sent events.
type stream struct {
	w   http.ResponseWriter
	c   *http.ResponseController
	err error // the first; the client has left
}

// follow writes a job's events until the verdict, the end of ctx, or the drain.
func (s *stream) follow(ctx context.Context, j *Jobs, id string, from layer.Position) {
	ctx, cancel := context.WithCancel(ctx)
	events, watched := make(chan job.Event), make(chan error, 1)
	defer func() {
		cancel()
		for range events { // until the watch has ended
		}
	}()
	go func() {
		defer close(events)
		watched <- watch(ctx, j.l, id, from, events)
	}()
	beat := time.NewTicker(j.o.Heartbeat)
	defer beat.Stop()
	for s.err == nil {
		select {
		case e, more := <-events:
			if !more {
				s.end(<-watched)
				return
			}
			s.event(&e)
		case <-beat.C:
			s.write(": still here\n\n")
		case <-j.api.Draining():
			s.write("retry: 2000\n\n")
			return
		case <-ctx.Done():
			return
		}
	}
}

func watch(ctx context.Context, l *layer.Layer, id string, from layer.Position, events chan<- job.Event) error {
	for e, err := range job.Watch(ctx, l, id, from) {
		if err != nil {
			return err
		}
		select {
		case events <- e:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// writeWait is how long a client may take nothing.
const writeWait = 10 * time.Second

func (s *stream) write(text string) {
	if s.err != nil {
		return
	}
	_ = s.c.SetWriteDeadline(time.Now().Add(writeWait)) // not every writer has one
	if _, s.err = s.w.Write([]byte(text)); s.err == nil {
		s.err = s.c.Flush()
	}
}

func (s *stream) event(e *job.Event) {
	data, err := json.Marshal(e)
	if err != nil {
		s.err = err
		return
	}
	s.write("id: " + e.Position.String() + "\ndata: " + string(data) + "\n\n")
}

// end says why no more comes: the verdict was sent, or something is missing.
func (s *stream) end(err error) {
	var gap *layer.GapError
	switch {
	case err == nil:
		s.write("event: end\ndata: {}\n\n")
	case errors.As(err, &gap):
		s.write("event: gap\ndata: {\"reason\":\"" + string(gap.Reason) + "\"}\n\n")
	}
}
