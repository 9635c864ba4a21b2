package jobapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router/httpapi"
)

// Options are the settings of [Add]. A nil *Options and the zero Options mean the
// defaults.
type Options struct {
	// Lease is how long a worker that took a job may be silent before another
	// gets it. Default 1 minute, at least 1 s.
	Lease time.Duration

	// Heartbeat is how often a stream without events gets a comment, so that
	// proxies keep it. Default 20 s.
	Heartbeat time.Duration

	// Logger takes what nobody can be told by an answer. Default slog.Default().
	Logger *slog.Logger
}

// Jobs is the routes for jobs:
//
//	POST   /api/v1/jobs/{kind}        submit; 202 {"job":ID}
//	GET    /api/v1/jobs               the jobs, the newest first
//	GET    /api/v1/jobs/{id}          a job's status
//	GET    /api/v1/jobs/{id}/events   its events, as server-sent events
//	DELETE /api/v1/jobs/{id}          cancel it
//	POST   /api/v1/jobs/{id}/retry    submit again what failed
//	POST   /api/v1/jobs/{kind}/take   for a worker: a job to work on, or 204
//	PATCH  /api/v1/jobs/{id}          for a worker: what there is to report
type Jobs struct {
	api    *httpapi.API
	l      *layer.Layer
	o      Options
	remote *job.Remote
}

// Add adds the routes for jobs to an API. Call it before the first request, and
// Close in the end.
func Add(api *httpapi.API, l *layer.Layer, opts *Options) (*Jobs, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	o.Heartbeat = cmp.Or(o.Heartbeat, 20*time.Second)
	if o.Heartbeat < 0 {
		return nil, errors.New("jobapi: Options.Heartbeat is less than 0")
	}
	remote, err := job.NewRemote(l, &job.RemoteOptions{Lease: o.Lease, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	j := &Jobs{api, l, o, remote}
	for pattern, f := range map[string]httpapi.HandlerFunc{
		"POST /api/v1/jobs/{kind}":      j.submit,
		"GET /api/v1/jobs":              j.list,
		"GET /api/v1/jobs/{id}":         j.get,
		"GET /api/v1/jobs/{id}/events":  j.events,
		"DELETE /api/v1/jobs/{id}":      j.cancel,
		"POST /api/v1/jobs/{id}/retry":  j.retry,
		"POST /api/v1/jobs/{kind}/take": j.take,
		"PATCH /api/v1/jobs/{id}":       j.report,
	} {
		api.Handle(pattern, func(w http.ResponseWriter, r *http.Request, c *httpapi.Caller) error {
			return explain(f(w, r, c))
		})
	}
	return j, nil
}

// Close hands back the jobs that workers have taken here.
func (j *Jobs) Close(ctx context.Context) error { return j.remote.Close(ctx) }

// explain makes an answer of what package job returned. What the layer returned
// the API explains.
func explain(err error) error {
	if err == nil {
		return nil
	}
	text := strings.TrimPrefix(err.Error(), "job: ")
	var name *job.NameError
	var ended *job.EndedError
	var report *job.ReportError
	var option *job.OptionError
	switch {
	case errors.As(err, &name):
		return httpapi.Errorf(http.StatusBadRequest, "name", "%s", text)
	case errors.As(err, &report), errors.As(err, &option):
		return httpapi.Errorf(http.StatusBadRequest, "body", "%s", text)
	case errors.As(err, &ended):
		e := httpapi.Errorf(http.StatusConflict, "ended", "the job is %s", ended.State)
		e.Reason = string(ended.State)
		return e
	case errors.Is(err, job.ErrNoJob):
		return httpapi.Errorf(http.StatusNotFound, "no_job", "%s", text)
	case errors.Is(err, job.ErrStale):
		return httpapi.Errorf(http.StatusConflict, "stale", "the attempt of this token is over: stop")
	case errors.Is(err, job.ErrFull):
		return httpapi.Errorf(http.StatusConflict, "full_log", "%s", text)
	}
	return err
}

// read decodes the body of a request into v, a pointer.
func (j *Jobs) read(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := j.api.ReadBody(w, r)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err = d.Decode(v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is something behind the JSON value")
		}
	}
	if err != nil {
		return httpapi.Errorf(http.StatusBadRequest, "body", "the body is not the JSON object that is wanted: %v", err)
	}
	return nil
}

// submission is the body of a submit.
type submission struct {
	Payload  json.RawMessage `json:"payload"`
	Targets  []string        `json:"targets"`
	Title    string          `json:"title"`
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

func (j *Jobs) submit(w http.ResponseWriter, r *http.Request, c *httpapi.Caller) error {
	kind := r.PathValue("kind")
	if err := c.May(httpapi.WriteJobs, kind); err != nil {
		return err
	}
	key, err := httpapi.IdempotencyKey(r)
	if err != nil {
		return err
	}
	var s submission
	if err := j.read(w, r, &s); err != nil {
		return err
	}
	by := c.Name()
	if s.By != "" {
		by = s.By + " (" + by + ")"
	}
	id, err := job.Submit(r.Context(), j.l, kind, s.Payload, &job.SubmitOptions{
		Key: key, Title: s.Title, By: by, Targets: s.Targets, Attempts: s.Attempts, Timeout: time.Duration(s.Timeout), Delay: time.Duration(s.Delay),
	})
	if err != nil {
		return err
	}
	accepted(w, id)
	return nil
}

// accepted answers with the id of a job that was submitted.
func accepted(w http.ResponseWriter, id string) {
	w.Header().Set("Location", "/api/v1/jobs/"+id)
	httpapi.WriteJSON(w, http.StatusAccepted, map[string]string{"job": id})
}

func (j *Jobs) list(w http.ResponseWriter, r *http.Request, c *httpapi.Caller) error {
	q := r.URL.Query()
	o := &job.ListOptions{Kind: q.Get("kind")}
	for _, s := range q["state"] {
		o.States = append(o.States, job.State(s))
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			return httpapi.Errorf(http.StatusBadRequest, "query", "limit is %.20q; want 1 to 1000", text)
		}
		o.Limit = n
	}
	if o.Kind != "" {
		if err := c.May(httpapi.ReadJobs, o.Kind); err != nil {
			return err
		}
	}
	o.Only = func(kind string) bool { return c.May(httpapi.ReadJobs, kind) == nil }
	all, err := job.List(r.Context(), j.l, o)
	if err != nil {
		return err
	}
	if all == nil {
		all = []job.Summary{}
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string][]job.Summary{"jobs": all})
	return nil
}

// find returns the job that a path names, if the caller may do that to it.
func (j *Jobs) find(r *http.Request, c *httpapi.Caller, do httpapi.Action) (job.Status, error) {
	s, err := job.Get(r.Context(), j.l, r.PathValue("id"))
	if err != nil {
		return s, err
	}
	return s, c.May(do, s.Kind)
}

func (j *Jobs) get(w http.ResponseWriter, r *http.Request, c *httpapi.Caller) error {
	s, err := j.find(r, c, httpapi.ReadJobs)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, s)
	return nil
}

func (j *Jobs) cancel(w http.ResponseWriter, r *http.Request, c *httpapi.Caller) error {
	s, err := j.find(r, c, httpapi.WriteJobs)
	if err != nil {
		return err
	}
	if err := job.Cancel(r.Context(), j.l, s.ID, c.Name()); err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusAccepted, map[string]string{"job": s.ID})
	return nil
}

func (j *Jobs) retry(w http.ResponseWriter, r *http.Request, c *httpapi.Caller) error {
	s, err := j.find(r, c, httpapi.WriteJobs)
	if err != nil {
		return err
	}
	id, err := job.Retry(r.Context(), j.l, s.ID, c.Name())
	if err != nil {
		return err
	}
	accepted(w, id)
	return nil
}
