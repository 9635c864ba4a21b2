package job

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// RemoteOptions are the settings of [NewRemote]. A nil *RemoteOptions and the
// zero RemoteOptions mean the defaults.
type RemoteOptions struct {
	// Lease is how long a worker may be silent before its attempt has failed.
	// Default 1 minute, at least 1 s.
	Lease time.Duration

	// Logger takes what nobody can be told by an error. Default slog.Default().
	Logger *slog.Logger
}

// Remote hands out attempts to workers that are no part of this program and
// report from elsewhere, such as a script with curl: package router/jobapi puts it
// behind HTTP. While an attempt is made, the process that handed it out keeps the
// job's message; if it dies, the job goes to another worker, and the old one is
// refused. Reports may go to any process.
type Remote struct {
	w        worker
	lease    time.Duration
	attempts sync.WaitGroup

	mu     sync.Mutex // guards what follows, and that attempts grows no more after closed
	closed bool
	ends   map[*Run]context.CancelCauseFunc // of the attempts that are under way
}

// NewRemote makes a Remote. Call Close in the end.
func NewRemote(l *layer.Layer, opts *RemoteOptions) (*Remote, error) {
	var o RemoteOptions
	if opts != nil {
		o = *opts
	}
	o.Lease = orDefault(o.Lease, time.Minute)
	if o.Lease < time.Second {
		return nil, fmt.Errorf("job: RemoteOptions.Lease is %v; 1s is the least", o.Lease)
	}
	work, err := (&WorkOptions{Logger: o.Logger, Timeout: -1}).resolve()
	if err != nil {
		return nil, err
	}
	return &Remote{w: worker{l: l, o: work}, lease: o.Lease, ends: map[*Run]context.CancelCauseFunc{}}, nil
}

// Assignment is an attempt that a worker elsewhere is to make.
type Assignment struct {
	Status

	// Token is the secret with which the worker reports.
	Token string

	// Checkpoints are where earlier attempts have got to: the job's under "",
	// and those of its targets under their names.
	Checkpoints map[string]json.RawMessage
}

// Take waits for a job of a kind and begins an attempt. When ctx ends first, it
// returns its error, and nothing has begun. Worker is who makes the attempt, for
// the log. Errors: *[NameError], [layer.ErrNotQueue], [layer.ErrUnavailable],
// [layer.ErrClosed].
func (m *Remote) Take(ctx context.Context, kind, who string) (*Assignment, error) {
	if err := CheckKind(kind); err != nil {
		return nil, err
	}
	w := m.w
	w.o.Name = clip(orDefault(who, w.o.Name), maxName)
	for {
		d, err := w.l.Take(ctx, queueOf(kind))
		if err != nil {
			return nil, err
		}
		token := rand.Text()
		beginning, cancel := context.WithTimeout(context.WithoutCancel(ctx), settlePatience)
		r, err := w.begin(beginning, d, hashOf(token))
		cancel()
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		a := &Assignment{Status: r.journal.status.clone(), Token: token, Checkpoints: r.journal.status.checkpointsNow()}
		if err := m.attend(ctx, d, r, &w); err != nil {
			return nil, err
		}
		return a, nil
	}
}

func (s *Status) checkpointsNow() map[string]json.RawMessage {
	all := make(map[string]json.RawMessage, len(s.checkpoints))
	for k, v := range s.checkpoints {
		all[k] = v
	}
	return all
}

// attend has an attempt looked after until it ends. One that nobody waits for
// any more is handed back, and the error says why.
func (m *Remote) attend(ctx context.Context, d *layer.Delivery, r *Run, w *worker) error {
	running, end := context.WithCancelCause(context.WithoutCancel(ctx))
	work := func() {
		defer end(nil)
		w.attend(running, d, r, m.wait)
	}
	err := ctx.Err()
	if err == nil && m.start(r, end, work) {
		return nil
	}
	end(ErrStopping)
	work()
	return cmp.Or(err, layer.ErrClosed)
}

// start does the work of an attempt on a goroutine that Close waits for, unless
// it was called.
func (m *Remote) start(r *Run, end context.CancelCauseFunc, work func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.ends[r] = end
	m.attempts.Go(func() {
		defer m.forget(r)
		work()
	})
	return true
}

func (m *Remote) forget(r *Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ends, r)
}

// wait is the handler of an attempt that is made elsewhere: it returns when
// nothing was heard of it for too long, or when the attempt ended.
func (m *Remote) wait(ctx context.Context, r *Run) error {
	tick := time.NewTicker(m.lease / 8)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if r.silence() > m.lease {
			return fmt.Errorf("nothing was heard of the worker for %v", m.lease)
		}
	}
}

// Close hands back the attempts that are under way and returns when that is
// done.
func (m *Remote) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	for _, end := range m.ends {
		end(ErrStopping)
	}
	m.mu.Unlock()
	done := make(chan struct{})
	go func() { m.attempts.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("job: attempts are still being handed back: %w", context.Cause(ctx))
	}
}

// Report is what a worker elsewhere says about its attempt. The zero Report says
// that it goes on.
type Report struct {
	// Log is a line, about Target if that is set.
	Log    string `json:"log,omitempty"`
	Target string `json:"target,omitempty"`

	// Done of Total is how far the job, or Target, is; both or neither.
	Done  *int64 `json:"done,omitempty"`
	Total *int64 `json:"total,omitempty"`

	// Checkpoint is where the next attempt goes on, with the job or with Target.
	Checkpoint json.RawMessage `json:"checkpoint,omitempty"`

	// TargetState is how Target stands: running, succeeded or failed.
	TargetState State `json:"target_state,omitempty"`

	// State ends the attempt: succeeded, failed, or "retry" for another attempt.
	State State `json:"state,omitempty"`

	// Error belongs to State or TargetState, Result to State.
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// StateRetry in a [Report] ends the attempt as failed, and another follows.
const StateRetry State = "retry"

// Report writes what a worker says. It may be called in any process. The status
// that it returns says whether the job is to be ended: then it is [ErrStale]
// from the next report on. Errors: [ErrStale] when the token is not that of the
// newest attempt or the job has ended, [ErrNoJob], [ErrFull], *[ReportError].
func (m *Remote) Report(ctx context.Context, id, token string, p Report) (Status, error) {
	j, err := load(ctx, m.w.l, id)
	if err != nil {
		return Status{}, err
	}
	s := &j.status
	if !s.open || subtle.ConstantTimeCompare([]byte(s.token), []byte(hashOf(token))) != 1 {
		return j.status, fmt.Errorf("%w: %s is %s in attempt %d, and the token is not that of it", ErrStale, id, s.State, s.Attempt)
	}
	events, err := p.events(s)
	if err != nil {
		return j.status, err
	}
	r := newRun(j)
	r.result = p.Result
	if len(events) == 0 && time.Since(s.Last) > m.lease/4 {
		events = []Event{{Event: Alive}}
	}
	for _, e := range events {
		if e.Event == Ended || e.Event == Retrying {
			written, err := r.end(ctx, e)
			if err == nil && written.Event == Ended {
				enter(ctx, m.w.l, &j.status)
			}
			return j.status, err
		}
		if err := r.writeNow(ctx, e); err != nil {
			return j.status, err
		}
	}
	return j.status, nil
}

// ReportError reports a [Report] that makes no sense.
type ReportError struct{ Why string }

func (e *ReportError) Error() string { return "job: a report " + e.Why }

// events are what a report writes, in order.
func (p *Report) events(s *Status) ([]Event, error) {
	wrong := func(format string, args ...any) error { return &ReportError{fmt.Sprintf(format, args...)} }
	var all []Event
	switch {
	case p.Target != "" && !s.known(p.Target):
		return nil, wrong("is about %.60q, which is no target of the job", p.Target)
	case (p.Done == nil) != (p.Total == nil):
		return nil, wrong("has done or total; want both")
	case len(p.Checkpoint) > maxValue || len(p.Result) > maxValue:
		return nil, wrong("has a checkpoint or a result of more than %d bytes", maxValue)
	case p.TargetState != "" && p.Target == "":
		return nil, wrong("has a target_state and no target")
	}
	if p.TargetState == StateRunning {
		all = append(all, Event{Event: Targeted, Target: p.Target, State: StateRunning})
	}
	if p.Log != "" {
		all = append(all, Event{Event: Logged, Target: p.Target, Text: clip(p.Log, maxText)})
	}
	if p.Done != nil {
		all = append(all, Event{Event: Progressed, Target: p.Target, Done: *p.Done, Total: *p.Total})
	}
	if p.Checkpoint != nil {
		all = append(all, Event{Event: Checkpoint, Target: p.Target, Value: p.Checkpoint})
	}
	text := clip(p.Error, maxText)
	switch p.TargetState {
	case "", StateRunning:
	case StateSucceeded, StateFailed:
		e := Event{Event: Targeted, Target: p.Target, State: p.TargetState}
		if p.TargetState == StateFailed {
			e.Error = text
		}
		all = append(all, e)
	default:
		return nil, wrong("has the target_state %.30q; want running, succeeded or failed", p.TargetState)
	}
	switch p.State {
	case "":
	case StateSucceeded:
		all = append(all, Event{Event: Ended, State: StateSucceeded})
	case StateFailed:
		all = append(all, Event{Event: Ended, State: StateFailed, Error: text})
	case StateRetry:
		all = append(all, Event{Event: Retrying, Error: text})
	default:
		return nil, wrong("has the state %.30q; want succeeded, failed or retry", p.State)
	}
	return all, nil
}

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
