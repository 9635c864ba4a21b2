package door

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
)

// JobsOptions are the settings of [Jobs]. A nil *JobsOptions and the zero
// JobsOptions mean the defaults.
type JobsOptions struct {
	// Kinds are the kinds of jobs that may be submitted and taken. Default: all.
	Kinds []string

	// Lease is how long a worker that took a job may be silent before another
	// gets it. Default 1 minute, at least 1 s.
	Lease time.Duration

	// Logger takes what nobody can be told by an answer. Default slog.Default().
	Logger *slog.Logger
}

// JobsDoor is the door for jobs. It is an http.Handler for /api/v1/jobs and
// everything below it, which is to stand behind [Guard] or a guard of one's own:
//
//	POST   /api/v1/jobs/{kind}        submit; 202 {"job":ID}
//	GET    /api/v1/jobs               the jobs, the newest first
//	GET    /api/v1/jobs/{id}          a job's status
//	GET    /api/v1/jobs/{id}/events   its events, as server-sent events
//	DELETE /api/v1/jobs/{id}          cancel it
//	POST   /api/v1/jobs/{id}/retry    submit again what failed
//	POST   /api/v1/jobs/{kind}/take   for a worker: a job to work on, or 204
//	PATCH  /api/v1/jobs/{id}          for a worker: what there is to report
//
// docs/reference/jobs.md has the bodies and the codes of errors.
type JobsDoor struct {
	l      *layer.Layer
	o      JobsOptions
	remote *job.Remote
	mux    http.ServeMux
}

// Jobs makes the door for jobs. Call Close in the end.
func Jobs(l *layer.Layer, opts *JobsOptions) (*JobsDoor, error) {
	var o JobsOptions
	if opts != nil {
		o = *opts
	}
	for _, kind := range o.Kinds {
		if err := job.CheckKind(kind); err != nil {
			return nil, fmt.Errorf("door: JobsOptions.Kinds: %w", err)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	remote, err := job.NewRemote(l, &job.RemoteOptions{Lease: o.Lease, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	d := &JobsDoor{l: l, o: o, remote: remote}
	for pattern, h := range map[string]http.HandlerFunc{
		"POST /api/v1/jobs/{kind}":      d.submit,
		"GET /api/v1/jobs":              d.list,
		"GET /api/v1/jobs/{id}":         d.get,
		"GET /api/v1/jobs/{id}/events":  d.events,
		"DELETE /api/v1/jobs/{id}":      d.cancel,
		"POST /api/v1/jobs/{id}/retry":  d.retry,
		"POST /api/v1/jobs/{kind}/take": d.take,
		"PATCH /api/v1/jobs/{id}":       d.report,
		"/api/v1/jobs/":                 func(w http.ResponseWriter, _ *http.Request) { notFound(w) },
	} {
		d.mux.HandleFunc(pattern, h)
	}
	return d, nil
}

func notFound(w http.ResponseWriter) {
	Fail(w, http.StatusNotFound, "not_found", "there is nothing at this path, or not for this method")
}

// ServeHTTP implements http.Handler.
func (d *JobsDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.mux.ServeHTTP(w, r) }

// Close hands back the jobs that workers have taken here.
func (d *JobsDoor) Close(ctx context.Context) error { return d.remote.Close(ctx) }

// submission is the body of a submit.
type submission struct {
	Payload  json.RawMessage `json:"payload"`
	Targets  []string        `json:"targets"`
	By       string          `json:"by"`
	Attempts int             `json:"attempts"`
	Timeout  duration        `json:"timeout"`
	Delay    duration        `json:"delay"`
}

// duration is a time.Duration as "90s".
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

func (d *JobsDoor) submit(w http.ResponseWriter, r *http.Request) {
	kind, ok := d.kind(w, r)
	var s submission
	if !ok || !Decode(w, r, &s) {
		return
	}
	by := Caller(r)
	switch {
	case by == "":
		by = s.By
	case s.By != "":
		by = s.By + " (" + by + ")"
	}
	id, err := job.Submit(r.Context(), d.l, kind, s.Payload, &job.SubmitOptions{
		Key: r.Header.Get("Idempotency-Key"), By: by, Targets: s.Targets,
		Attempts: s.Attempts, Timeout: time.Duration(s.Timeout), Delay: time.Duration(s.Delay),
	})
	if err != nil {
		d.fail(w, r, err)
		return
	}
	w.Header().Set("Location", "/api/v1/jobs/"+id)
	Reply(w, http.StatusAccepted, map[string]string{"job": id})
}

// kind returns the kind that a path names, if it may be used here.
func (d *JobsDoor) kind(w http.ResponseWriter, r *http.Request) (string, bool) {
	kind := r.PathValue("kind")
	if len(d.o.Kinds) > 0 && !slices.Contains(d.o.Kinds, kind) {
		Fail(w, http.StatusNotFound, "no_kind", fmt.Sprintf("there are no jobs of the kind %.60q here", kind))
		return "", false
	}
	return kind, true
}

func (d *JobsDoor) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o := &job.ListOptions{Kind: q.Get("kind")}
	for _, s := range q["state"] {
		o.States = append(o.States, job.State(s))
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			Fail(w, http.StatusBadRequest, "bad_query", fmt.Sprintf("limit is %.20q; want 1 to 1000", text))
			return
		}
		o.Limit = n
	}
	all, err := job.List(r.Context(), d.l, o)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	if all == nil {
		all = []job.Summary{}
	}
	Reply(w, http.StatusOK, map[string][]job.Summary{"jobs": all})
}

func (d *JobsDoor) get(w http.ResponseWriter, r *http.Request) {
	s, err := job.Get(r.Context(), d.l, r.PathValue("id"))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	Reply(w, http.StatusOK, s)
}

func (d *JobsDoor) cancel(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if err := job.Cancel(r.Context(), d.l, id, Caller(r)); err != nil {
		d.fail(w, r, err)
		return
	}
	Reply(w, http.StatusAccepted, map[string]string{"job": id})
}

func (d *JobsDoor) retry(w http.ResponseWriter, r *http.Request) {
	id, err := job.Retry(r.Context(), d.l, r.PathValue("id"), Caller(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	w.Header().Set("Location", "/api/v1/jobs/"+id)
	Reply(w, http.StatusAccepted, map[string]string{"job": id})
}

// fail answers with what an error means. What is nobody's fault but ours goes to
// the log, and out as a code.
func (d *JobsDoor) fail(w http.ResponseWriter, r *http.Request, err error) {
	var name *job.NameError
	var ended *job.EndedError
	var report *job.ReportError
	var bad *job.OptionError
	status, code := http.StatusInternalServerError, "internal"
	switch {
	case r.Context().Err() != nil:
		return // nobody waits for the answer
	case errors.As(err, &name), errors.As(err, &report), errors.As(err, &bad):
		status, code = http.StatusBadRequest, "bad_request"
	case errors.As(err, &ended):
		status, code = http.StatusConflict, "ended"
	case errors.Is(err, job.ErrNoJob):
		status, code = http.StatusNotFound, "no_job"
	case errors.Is(err, job.ErrStale):
		status, code = http.StatusConflict, "stale"
	case errors.Is(err, job.ErrFull):
		status, code = http.StatusConflict, "full_log"
	case errors.Is(err, layer.ErrTooLarge):
		status, code = http.StatusRequestEntityTooLarge, "too_large"
	case errors.Is(err, layer.ErrChannelFull):
		status, code = http.StatusTooManyRequests, "full"
		w.Header().Set("Retry-After", "5")
	case errors.Is(err, layer.ErrUnknown):
		status, code = http.StatusServiceUnavailable, "unknown"
		w.Header().Set("Retry-After", "1")
	case errors.Is(err, layer.ErrUnavailable), errors.Is(err, layer.ErrClosed):
		status, code = http.StatusServiceUnavailable, "unavailable"
		w.Header().Set("Retry-After", "2")
	}
	message := err.Error()
	if status == http.StatusInternalServerError {
		d.o.Logger.Error("door: a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		message = "something is wrong on this side; the log says what"
	}
	Fail(w, status, code, message)
}
