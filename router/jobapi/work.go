package jobapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/router/httpapi"
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

func (j *Jobs) take(w http.ResponseWriter, r *http.Request, c *httpapi.Caller) error {
	kind := r.PathValue("kind")
	if err := c.May(httpapi.WorkJobs, kind); err != nil {
		return err
	}
	wait := takeWait
	if text := r.URL.Query().Get("wait"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > int(mostWait.Seconds()) {
			return httpapi.Errorf(http.StatusBadRequest, "query", "wait is %.20q; want 0 to %.0f seconds", text, mostWait.Seconds())
		}
		wait = time.Duration(n) * time.Second
	}
	ctx, cancel := context.WithTimeout(r.Context(), max(wait, 100*time.Millisecond))
	defer cancel()
	go func() { // the server's end is not to wait for a job that may never come
		select {
		case <-j.api.Draining():
			cancel()
		case <-ctx.Done():
		}
	}()
	a, err := j.remote.Take(ctx, kind, c.Name())
	switch {
	case err != nil && r.Context().Err() == nil && errors.Is(err, context.Canceled):
		w.Header().Set("Retry-After", "2")
		return httpapi.Errorf(http.StatusServiceUnavailable, "shutting_down", "this server is shutting down; another one may be up")
	case err != nil && r.Context().Err() == nil && errors.Is(err, context.DeadlineExceeded):
		w.WriteHeader(http.StatusNoContent)
		return nil
	case err != nil:
		return err
	}
	answer := assignment{Job: a.ID, Attempt: a.Attempt, Token: a.Token, Payload: a.Payload, Checkpoint: a.Checkpoints[""]}
	delete(a.Checkpoints, "")
	answer.Checkpoints = a.Checkpoints
	for _, t := range a.Progress {
		if t.Ended.IsZero() {
			answer.Targets = append(answer.Targets, t.Name)
		}
	}
	httpapi.WriteJSON(w, http.StatusOK, answer)
	return nil
}

func (j *Jobs) report(w http.ResponseWriter, r *http.Request, c *httpapi.Caller) error {
	if _, err := j.find(r, c, httpapi.WorkJobs); err != nil {
		return err
	}
	var p job.Report
	if err := j.read(w, r, &p); err != nil {
		return err
	}
	s, err := j.remote.Report(r.Context(), r.PathValue("id"), r.Header.Get(TokenHeader), p)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string]any{"job": s.ID, "state": s.State, "attempt": s.Attempt})
	return nil
}
