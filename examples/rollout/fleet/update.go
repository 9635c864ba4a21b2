package fleet

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/examples/rollout/gameserver"
	"github.com/tideway-go/tideway/layer"
)

// Update is what a job of the kind [Kind] is about: its payload. Its targets are
// the names of the servers.
type Update struct {
	Version   string `json:"version"`
	AtOnce    int    `json:"at_once"`    // servers at the same time
	StopAfter int    `json:"stop_after"` // failures after which no other server is begun; 0 is never
}

// WorkOptions are the settings of [Work].
type WorkOptions struct {
	// Servers is the URL of the game servers. Required.
	Servers string

	// Timeout bounds one try of one server. Default 15 s.
	Timeout time.Duration

	// Grace is how long updates may go on after the worker was told to stop.
	// Default 5 s: what is not done by then, another worker goes on with.
	Grace time.Duration

	// Logger is for what nobody can be told by an error. Default slog.Default().
	Logger *slog.Logger
}

// Work updates servers until ctx ends: see [job.Work].
func Work(ctx context.Context, l *layer.Layer, opts *WorkOptions) error {
	if opts == nil || opts.Servers == "" {
		return errors.New("fleet: WorkOptions need Servers, the address of the game servers")
	}
	w := &worker{newServers(opts.Servers), cmp.Or(opts.Timeout, 15*time.Second)}
	return job.Work(ctx, l, map[string]job.Handler{Kind: w.run},
		&job.WorkOptions{Logger: opts.Logger, Grace: cmp.Or(opts.Grace, 5*time.Second)})
}

// worker does the jobs.
type worker struct {
	servers *servers
	timeout time.Duration
}

// run makes one attempt of an update. What an earlier attempt has done is not
// done again.
func (w *worker) run(ctx context.Context, r *job.Run) error {
	var u Update
	if err := r.Decode(&u); err != nil {
		return job.Fail(err)
	}
	return r.Each(ctx, func(ctx context.Context, t *job.Target) error { return w.update(ctx, t, u.Version) }, &job.EachOptions{
		Concurrency: u.AtOnce,
		StopAfter:   u.StopAfter,
		Timeout:     w.timeout,
		Tries:       2,
		Lock:        func(server string) string { return "gameserver." + server },
	})
}

// update takes a server through the steps that it has not done.
func (w *worker) update(ctx context.Context, t *job.Target, version string) error {
	done := 0
	if _, err := t.Restore(&done); err != nil {
		return err
	}
	for total := len(gameserver.Steps); done < total; {
		name := gameserver.Steps[done]
		text, err := w.servers.step(ctx, t.Name(), name, version)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		done++
		if err := t.Log(ctx, name+": "+text); err != nil {
			return err
		}
		if err := t.Progress(ctx, int64(done), int64(total)); err != nil {
			return err
		}
		if err := t.Checkpoint(ctx, done); err != nil {
			return err
		}
	}
	return nil
}

// step asks a server for one step of an update, and returns what it says.
func (s *servers) step(ctx context.Context, server, step, version string) (text string, err error) {
	body, err := json.Marshal(gameserver.Request{Version: version})
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost,
		fmt.Sprintf("%s/servers/%s/steps/%s", s.url, url.PathEscape(server), step), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	var reply gameserver.Reply
	status, err := s.do(r, &reply)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil:
		return "", err
	case status != http.StatusOK:
		return "", errors.New(reply.Text)
	}
	return reply.Text, nil
}
