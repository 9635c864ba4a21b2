package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Lock is a lock that an attempt holds.
type Lock struct {
	run   *Run
	key   string
	token uint64
	at    layer.Position
}

// holder is who has a lock: the newest message in the lock's group.
type holder struct {
	Lock    string    `json:"lock"`
	Job     string    `json:"job,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Token   uint64    `json:"token"`
	Free    bool      `json:"free,omitempty"`
	At      time.Time `json:"at"`
}

// MessageType implements layer.Payload.
func (holder) MessageType() string { return "job.lock" }

// lockGlance is how often a waiting attempt looks whether the holder is gone.
const lockGlance = time.Second

// Lock waits until no other attempt holds the lock of that name and takes it: one
// update per game server at a time, over all processes. Names are letters,
// digits, hyphens, underscores and periods, 1 to 90 characters. A lock is bound
// to its attempt: it is free as soon as that has ended, was overtaken by the
// job's next attempt, or called [Lock.Unlock].
//
// An attempt that was frozen does not know that it has lost its locks until it
// writes into its log, which is refused. What must not be touched by such a one
// has to check [Lock.Token]. Errors: the cause of ctx's end, *[NameError],
// [layer.ErrUnavailable].
func (r *Run) Lock(ctx context.Context, key string) (*Lock, error) {
	if err := checkName("lock", key, maxLock); err != nil {
		return nil, err
	}
	l, group := r.journal.l, lockPrefix+key
	var woken <-chan struct{}
	for {
		now, at, err := readLock(ctx, l, group)
		if err != nil {
			return nil, fmt.Errorf("job: lock %s: %w", key, err)
		}
		free, err := r.mayTake(ctx, now)
		if err != nil {
			return nil, fmt.Errorf("job: lock %s: %w", key, err)
		}
		if free {
			token := max(now.Token+1, uint64(time.Now().UnixMilli()))
			mine := holder{Lock: key, Job: r.spec.ID, Attempt: r.attempt, Token: token, At: time.Now().UTC()}
			receipt, err := l.Publish(ctx, group, mine, &layer.PublishOptions{After: &at})
			if err == nil {
				return &Lock{run: r, key: key, token: token, at: receipt.Position}, nil
			}
			if !errors.Is(err, layer.ErrConflict) {
				return nil, fmt.Errorf("job: lock %s: %w", key, err)
			}
			continue
		}
		if woken == nil { // and look again, since it may be free by now
			var leave func()
			if woken, leave, err = wake(ctx, l, group); err != nil {
				return nil, fmt.Errorf("job: lock %s: %w", key, err)
			}
			defer leave()
			continue
		}
		if err := await(ctx, woken, lockGlance); err != nil {
			return nil, err
		}
	}
}

// readLock returns the newest message of a lock's group, and the place behind it.
func readLock(ctx context.Context, l *layer.Layer, group string) (now holder, at layer.Position, err error) {
	for m, err := range l.History(ctx, group, layer.Position{}, 0) {
		if err != nil {
			return now, at, err
		}
		at = m.Position
		var h holder
		if m.Type == h.MessageType() && m.Decode(&h) == nil {
			now = h
		}
	}
	return now, at, nil
}

// mayTake reports whether the lock is free, or held by an attempt that is over.
func (r *Run) mayTake(ctx context.Context, now holder) (bool, error) {
	if now.Job == "" || now.Free {
		return true, nil
	}
	if now.Job == r.spec.ID {
		return now.Attempt != r.attempt, nil
	}
	s, err := Get(ctx, r.journal.l, now.Job)
	if errors.Is(err, ErrNoJob) {
		return true, nil
	}
	return err == nil && (!s.open || s.Attempt != now.Attempt), err
}

// Token returns a number that is higher than that of every earlier holder, for
// whatever the lock protects: it should remember the highest it has seen, and
// refuse lower ones.
func (k *Lock) Token() uint64 { return k.token }

// Unlock frees the lock. If the word is lost on the way, the lock is free when
// the attempt ends.
func (k *Lock) Unlock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enterPatience)
	defer cancel()
	free := holder{Lock: k.key, Job: k.run.spec.ID, Attempt: k.run.attempt, Token: k.token, Free: true, At: time.Now().UTC()}
	_, _ = k.run.journal.l.Publish(ctx, lockPrefix+k.key, free, &layer.PublishOptions{After: &k.at})
}
