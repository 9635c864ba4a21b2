package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// resize is a message of the queue "thumbnails".
type resize struct {
	Picture string `json:"picture"`
}

// MessageType implements layer.Payload.
func (resize) MessageType() string { return "thumbnails.resize" }

// workshop has a worker at the queue "thumbnails" on $NATS_URL, who knows no
// picture but cat.png, and puts the named pictures into the queue.
func (s *stage) workshop(ts *testscript.TestScript, args []string) error {
	ctx, cancel := context.WithCancel(context.Background())
	bus, err := natsbus.New(ctx, &natsbus.Options{URL: ts.Getenv("NATS_URL"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		cancel()
		return err
	}
	ts.Defer(func() {
		cancel()
		ended, stop := context.WithTimeout(context.Background(), 20*time.Second)
		defer stop()
		_ = bus.Close(ended) // its server may be gone
	})
	l, err := layer.New(bus, &layer.Options{
		Queues: []layer.QueuePolicy{{Pattern: "thumbnails", Attempts: 2, Backoff: time.Millisecond, BackoffMax: time.Millisecond}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	app := consumer.Type[struct{}]{Messages: consumer.Table(
		consumer.On(func(_ *struct{}, _ context.Context, _ *consumer.Conn, m resize) error {
			if m.Picture != "cat.png" {
				return errors.New("no such picture: " + m.Picture)
			}
			return nil
		}),
	)}
	go func() {
		_ = router.Work(ctx, l, router.Queues{"thumbnails": app}, &router.WorkOptions{Logger: slog.New(slog.DiscardHandler)})
	}()
	for _, picture := range args {
		if err := l.Send(ctx, "thumbnails", resize{picture}); err != nil {
			return err
		}
	}
	return nil
}
