package job

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Submission is what a job was submitted with. It travels in the queue, and in
// the job's first event.
type Submission struct {
	ID      string          `json:"id"`
	Kind    string          `json:"kind"`
	Key     string          `json:"key,omitempty"`
	Title   string          `json:"title,omitempty"`
	By      string          `json:"by,omitempty"`
	Payload json.RawMessage `json:"payload,omitempty"`
	Targets []string        `json:"targets,omitempty"`

	Attempts  int       `json:"attempts"`
	Timeout   int64     `json:"timeout,omitempty"` // milliseconds
	RetryOf   string    `json:"retry_of,omitempty"`
	Submitted time.Time `json:"submitted"`
	NotBefore time.Time `json:"not_before,omitzero"` // with a delay
}

// Decode unmarshals the payload into v, a pointer.
func (s *Submission) Decode(v any) error {
	if err := json.Unmarshal(s.Payload, v); err != nil {
		return fmt.Errorf("job: payload of %s: %w", s.ID, err)
	}
	return nil
}

// SubmitOptions are the settings of [Submit]. A nil *SubmitOptions and the zero
// SubmitOptions mean the defaults.
type SubmitOptions struct {
	// Key makes submitting idempotent: the same kind and key are the same job,
	// for as long as the job is kept. At most 255 bytes. Default: every Submit
	// makes a job.
	Key string

	// Title says in a few words what the job is about, for those who look at a
	// list of jobs. At most 255 bytes. Default none.
	Title string

	// By is who submits, for the audit trail. At most 255 bytes.
	By string

	// Targets are what the job is about, such as the servers to be updated; see
	// [Run.Each]. At most 1,000 names of at most 255 bytes, none twice. Default
	// none.
	Targets []string

	// Attempts is how many attempts in a row may end without the job having got
	// on, by a checkpoint or a target that ended, before it is dead. Default 5,
	// at most 100.
	Attempts int

	// Timeout bounds one attempt. Default: the worker's, see [WorkOptions].
	Timeout time.Duration

	// Delay is how long the job waits before it may start. Default 0.
	Delay time.Duration

	retryOf string
}

const (
	defaultAttempts = 5
	mostAttempts    = 100
)

// ticket is a job's message in its queue. Of those that are there for one job,
// the one with the highest number counts.
type ticket struct {
	Submission
	Ticket int `json:"ticket,omitempty"`
}

// MessageType implements layer.Payload.
func (ticket) MessageType() string { return "job.run" }

// Submit accepts a job and returns its id at once. With a nil error the job
// reaches exactly one of succeeded, failed, cancelled and dead, whatever happens
// to this process or to ctx. The payload is encoded as JSON, at most 256 KiB.
//
// After an error there is no job, or, if it wraps [layer.ErrUnknown], there may
// be one: submit it again with the same key, and there is one. Other errors:
// *[NameError] for the kind, *[OptionError], [layer.ErrChannelFull] if too many jobs of the kind
// wait, [layer.ErrNotQueue] and [layer.ErrNotDurable] if the layer was made
// without [Queues] and [Groups], [layer.ErrUnavailable].
func Submit(ctx context.Context, l *layer.Layer, kind string, payload any, opts *SubmitOptions) (id string, err error) {
	var o SubmitOptions
	if opts != nil {
		o = *opts
	}
	s, err := o.submission(kind, payload)
	if err != nil {
		return "", err
	}
	j := newJournal(l, s.ID)
	if s.Key != "" {
		if err := j.catchUp(ctx); err != nil {
			return "", err
		}
		if j.status.State != "" {
			return s.ID, nil
		}
	}
	// The queue first: whoever takes the message writes down what is missing, so
	// that a crash between the two leaves a job that runs.
	_, err = l.Enqueue(ctx, queueOf(kind), ticket{Submission: *s}, &layer.EnqueueOptions{ID: s.ID, Delay: o.Delay})
	if err != nil {
		return "", fmt.Errorf("job: submit %s: %w", kind, err)
	}
	if err := j.create(ctx, s); err != nil {
		return s.ID, fmt.Errorf("job: submit %s: %w: it is in the queue, but not in its log yet (%w)", kind, layer.ErrUnknown, err)
	}
	enter(ctx, l, &j.status)
	return s.ID, nil
}

// submission checks the options.
func (o *SubmitOptions) submission(kind string, payload any) (*Submission, error) {
	if err := CheckKind(kind); err != nil {
		return nil, err
	}
	data, err := raw("the payload of a "+kind, payload, maxPayload)
	if err != nil {
		return nil, &OptionError{strings.TrimPrefix(err.Error(), "job: ")}
	}
	s := &Submission{
		ID: idOf(kind, o.Key), Kind: kind, Key: o.Key, Title: o.Title, By: o.By, Payload: data, Targets: o.Targets,
		Attempts: o.Attempts, Timeout: o.Timeout.Milliseconds(), RetryOf: o.retryOf, Submitted: time.Now().UTC(),
	}
	if o.Delay > 0 {
		s.NotBefore = s.Submitted.Add(o.Delay)
	}
	if s.Attempts == 0 {
		s.Attempts = defaultAttempts
	}
	seen := map[string]bool{}
	for _, t := range o.Targets {
		switch {
		case t == "" || len(t) > maxName:
			return nil, badOption("Targets has the name %.60q; want 1 to %d bytes", t, maxName)
		case seen[t]:
			return nil, badOption("Targets has %.60q twice", t)
		}
		seen[t] = true
	}
	switch {
	case len(o.Targets) > maxTargets:
		return nil, badOption("Targets has %d names; %d is the most", len(o.Targets), maxTargets)
	case s.Attempts < 1 || s.Attempts > mostAttempts:
		return nil, badOption("Attempts is %d; want 1 to %d", o.Attempts, mostAttempts)
	case o.Timeout < 0 || o.Delay < 0:
		return nil, badOption("Timeout or Delay is less than 0")
	case len(o.Key) > maxName || len(o.Title) > maxName || len(o.By) > maxName:
		return nil, badOption("Key, Title or By has more than %d bytes", maxName)
	}
	return s, nil
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// idOf makes the id of a job: of its key, or a fresh one.
func idOf(kind, key string) string {
	if key == "" {
		return strings.ToLower(rand.Text())
	}
	sum := sha256.Sum256([]byte(kind + "\x00" + key))
	return idEncoding.EncodeToString(sum[:16])
}
