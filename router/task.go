package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
)

// task is one message that is being handled.
type task struct {
	*worker
	app      consumer.App
	delivery *layer.Delivery
	log      *slog.Logger
}

var (
	errTimeout = errors.New("router: the handler took longer than WorkOptions.Timeout")
	errHung    = errors.New("router: the handler took longer than WorkOptions.Timeout, and did not return when its context ended")
	errGoexit  = errors.New("router: the handler ended its goroutine (runtime.Goexit)")
)

// run handles the message on a goroutine of its own, and stays with it until the
// handler has returned or is given up.
func (t *task) run(handling context.Context) {
	ctx, cancel := context.WithCancelCause(handling)
	defer cancel(nil)
	t.opts.Stats.Running.Add(1)
	defer t.opts.Stats.Running.Add(-1)
	done := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { done <- err }()
		err = consumer.Handle(ctx, t.app, consumer.Work{
			Delivery: t.delivery, Layer: t.layer, Logger: t.opts.Logger, Stopping: t.taking.Done(),
		})
	}()
	err, returned := t.watch(ctx, cancel, done)
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, layer.ErrStale):
		t.opts.Stats.Lost.Add(1)
		t.log.Error("router: another worker may have the message by now; what its handler did here does not count", "err", err)
	case err == nil && returned:
		t.settle(t.acknowledge)
	case errors.Is(cause, errStopped), errors.Is(err, consumer.ErrHandBack):
		t.settle(t.handBack)
	default:
		t.fail(err)
	}
}

// watch keeps the lease while the handler runs. It reports false when it gave
// the handler up.
func (t *task) watch(ctx context.Context, cancel context.CancelCauseFunc, done <-chan error) (err error, returned bool) {
	wait := t.delivery.Policy().AckWait
	beat := time.NewTimer(wait / 3)
	defer beat.Stop()
	var timeout, giveUp <-chan time.Time
	if t.opts.Timeout > 0 {
		limit := time.NewTimer(t.opts.Timeout)
		defer limit.Stop()
		timeout = limit.C
	}
	ended := ctx.Done()
	for {
		select {
		case err := <-done:
			if cause := context.Cause(ctx); err != nil && errors.Is(cause, errTimeout) {
				err = fmt.Errorf("%w (%w)", errTimeout, err)
			}
			return err, true
		case <-beat.C:
			beat.Reset(t.extend(ctx, cancel, wait))
		case <-timeout:
			cancel(errTimeout)
		case <-ended:
			ended = nil
			notice := stopNotice
			if errors.Is(context.Cause(ctx), errTimeout) {
				notice = hangNotice
			}
			last := time.NewTimer(notice)
			defer last.Stop()
			giveUp = last.C
		case <-giveUp:
			t.abandon(done)
			return errHung, false
		}
	}
}

// extend renews the lease, and returns when to do so again.
func (t *task) extend(ctx context.Context, cancel context.CancelCauseFunc, wait time.Duration) time.Duration {
	err := t.delivery.Extend(context.WithoutCancel(ctx))
	switch {
	case err == nil:
		return wait / 3
	case errors.Is(err, layer.ErrStale):
		cancel(err)
	}
	return wait / 20
}

// abandon leaves a handler to itself. When there are many of them, the process
// is better started anew.
func (t *task) abandon(done <-chan error) {
	t.log.Error("router: a handler does not return though its context has ended; it is left to itself")
	if n := t.hung.Add(1); n > t.most {
		t.stop(fmt.Errorf("router: %d handlers hang: start the process anew", n))
	}
	go func() {
		<-done
		t.hung.Add(-1)
	}()
}

// fail says what becomes of a message whose attempt failed.
func (t *task) fail(err error) {
	var dead *consumer.DeadError
	var retry *consumer.RetryError
	var panicked *consumer.PanicError
	log := t.log
	if errors.As(err, &panicked) {
		log = log.With("stack", string(panicked.Stack))
	}
	t.opts.Stats.Failed.Add(1)
	if errors.As(err, &dead) || t.delivery.Final() {
		log.Error("router: a message goes to the dead letters", "err", err)
		t.settle(func(ctx context.Context) error { return t.bury(ctx, err) })
		return
	}
	after := time.Duration(0)
	if errors.As(err, &retry) {
		after = retry.After
	}
	log.Warn("router: an attempt failed; another one follows", "err", err)
	t.settle(func(ctx context.Context) error { return t.delivery.Retry(ctx, after, err.Error()) })
}

func (t *task) acknowledge(ctx context.Context) error {
	err := t.delivery.Ack(ctx)
	if err == nil {
		t.opts.Stats.Done.Add(1)
	}
	return err
}

func (t *task) handBack(ctx context.Context) error {
	err := t.delivery.Release(ctx)
	if err == nil {
		t.opts.Stats.Returned.Add(1)
	}
	return err
}

func (t *task) bury(ctx context.Context, why error) error {
	err := t.delivery.Bury(ctx, why.Error())
	if err == nil {
		t.opts.Stats.Dead.Add(1)
	}
	return err
}

// settlePause is the time between two attempts to say what became of a message.
const settlePause = 100 * time.Millisecond

// settle says what became of the message, again and again while the network is
// out of reach: then until the lease is over.
func (t *task) settle(f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), t.delivery.Policy().AckWait)
	defer cancel()
	for {
		err := f(ctx)
		switch {
		case err == nil:
			return
		case errors.Is(err, layer.ErrUnavailable) && pause(ctx, settlePause):
			continue
		case errors.Is(err, layer.ErrStale):
			t.opts.Stats.Lost.Add(1)
		}
		t.log.Error("router: the queue does not know what became of a message; it comes again", "err", err)
		return
	}
}

// pause waits for d and reports whether it did so to the end.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
