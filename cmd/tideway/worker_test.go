package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// jobWorker is a program of the scripts: a worker of a site, at $NATS_URL.
func jobWorker() {
	if err := workOnJobs(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func workOnJobs() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	bus, err := natsbus.New(ctx, &natsbus.Options{URL: os.Getenv("NATS_URL")})
	if err != nil {
		return err
	}
	defer bus.Close(context.Background())
	l, err := layer.New(bus, &layer.Options{Groups: job.Groups(), Queues: job.Queues()})
	if err != nil {
		return err
	}
	defer l.Close(context.Background())
	fmt.Println("at work")
	return job.Work(ctx, l, map[string]job.Handler{
		"update": func(ctx context.Context, r *job.Run) error {
			return r.Each(ctx, update, &job.EachOptions{Concurrency: 1})
		},
		"forever": func(ctx context.Context, _ *job.Run) error { <-ctx.Done(); return context.Cause(ctx) },
	}, &job.WorkOptions{Name: "worker", Grace: -1, Backoff: 10 * time.Millisecond})
}

func update(ctx context.Context, t *job.Target) error {
	if err := t.Log(ctx, "copying"); err != nil {
		return err
	}
	if err := t.Progress(ctx, 2, 2); err != nil {
		return err
	}
	if t.Name() == "bad" {
		return errors.New("no disk")
	}
	return nil
}
