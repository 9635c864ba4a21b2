package door

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
)

// TokenHeader is the request header in which a worker that took a job says that
// it is its own: the token of the answer.
const TokenHeader = "Tideway-Token"

// How long a worker waits for a job: proxies cut requests off that take longer
// than a minute.
const (
	takeWait = 20 * time.Second
	mostWait = 50 * time.Second
)

// assignment is the answer to a worker that takes a job.
type assignment struct {
	Job         string                     `json:"job"`
	Attempt     int                        `json:"attempt"`
	Token       string                     `json:"token"`
	Payload     json.RawMessage            `json:"payload,omitempty"`
	Targets     []string                   `json:"targets,omitempty"` // those that have not ended
	Checkpoint  json.RawMessage            `json:"checkpoint,omitempty"`
	Checkpoints map[string]json.RawMessage `json:"checkpoints,omitempty"` // of targets
}

func (d *JobsDoor) take(w http.ResponseWriter, r *http.Request) {
	kind, ok := d.kind(w, r)
	if !ok {
		return
	}
	wait := takeWait
	if text := r.URL.Query().Get("wait"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > int(mostWait.Seconds()) {
			Fail(w, http.StatusBadRequest, "bad_query", fmt.Sprintf("wait is %.20q; want 0 to %.0f seconds", text, mostWait.Seconds()))
			return
		}
		wait = time.Duration(n) * time.Second
	}
	ctx, cancel := context.WithTimeout(r.Context(), max(wait, 100*time.Millisecond))
	defer cancel()
	a, err := d.remote.Take(ctx, kind, Caller(r))
	switch {
	case err != nil && r.Context().Err() == nil && errors.Is(err, context.DeadlineExceeded):
		w.WriteHeader(http.StatusNoContent)
		return
	case err != nil:
		d.fail(w, r, err)
		return
	}
	answer := assignment{Job: a.ID, Attempt: a.Attempt, Token: a.Token, Payload: a.Payload, Checkpoint: a.Checkpoints[""]}
	delete(a.Checkpoints, "")
	answer.Checkpoints = a.Checkpoints
	for _, t := range a.Progress {
		if t.Ended.IsZero() {
			answer.Targets = append(answer.Targets, t.Name)
		}
	}
	Reply(w, http.StatusOK, answer)
}

func (d *JobsDoor) report(w http.ResponseWriter, r *http.Request) {
	var p job.Report
	if !Decode(w, r, &p) {
		return
	}
	s, err := d.remote.Report(r.Context(), r.PathValue("id"), r.Header.Get(TokenHeader), p)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	Reply(w, http.StatusOK, map[string]any{"job": s.ID, "state": s.State, "attempt": s.Attempt})
}

// comment is how often a stream without events says that it lives.
const comment = 20 * time.Second

// events sends a job's events as server-sent events, until the verdict. The id of
// each is the place behind it, with which a client comes back.
func (d *JobsDoor) events(w http.ResponseWriter, r *http.Request) {
	from, err := layer.ParsePosition(r.Header.Get("Last-Event-ID"))
	if err != nil {
		Fail(w, http.StatusBadRequest, "bad_position", err.Error())
		return
	}
	id := r.PathValue("id")
	if _, err := job.Get(r.Context(), d.l, id); err != nil {
		d.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := &stream{w: w, c: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx
	w.WriteHeader(http.StatusOK)
	events, failed := make(chan job.Event), make(chan error, 1)
	done := make(chan struct{})
	defer func() { cancel(); <-done }()
	go func() {
		defer close(done)
		defer close(events)
		for e, err := range job.Watch(ctx, d.l, id, from) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	for out.err == nil {
		timer := time.NewTimer(comment)
		select {
		case e, more := <-events:
			timer.Stop()
			if !more {
				out.end(failed)
				return
			}
			out.event(&e)
		case <-timer.C:
			out.write(": still here\n\n")
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// stream writes server-sent events.
type stream struct {
	w   http.ResponseWriter
	c   *http.ResponseController
	err error // the first; who asked has left
}

func (s *stream) write(text string) {
	_ = s.c.SetWriteDeadline(time.Now().Add(comment)) // not every writer has one
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
func (s *stream) end(failed <-chan error) {
	select {
	case err := <-failed:
		var gap *layer.GapError
		code := "unavailable"
		if errors.As(err, &gap) {
			code = "gap"
		}
		s.write("event: error\ndata: {\"code\":\"" + code + "\"}\n\n")
	default:
		s.write("event: end\ndata: {}\n\n")
	}
}
