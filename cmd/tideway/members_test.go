package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/examples/chat/room"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/auth"
)

// site serves a chat for members at the address that it puts into a variable. A
// member is whoever says so: who closes whose connections is what the scripts
// try.
func (s *stage) site(ts *testscript.TestScript, args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	bus, err := natsbus.New(ctx, &natsbus.Options{URL: ts.Getenv("NATS_URL"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	l, err := layer.New(bus, &layer.Options{
		Presence: []layer.Presence{{Pattern: "chat.>", Quiet: true}}, // the chat has no handlers for more
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return errors.Join(err, bus.Close(ctx))
	}
	r, err := router.New(l, router.Table{"/ws/chat/{room}/{$}": room.Consumer}, &router.Options{
		Authenticate: auth.Func(func(r *http.Request) (consumer.User, error) {
			q := r.URL.Query()
			return consumer.User{ID: q.Get("user"), Session: q.Get("session")}, nil
		}),
	})
	if err != nil {
		return errors.Join(err, l.Close(ctx), bus.Close(ctx))
	}
	server := httptest.NewServer(r)
	ts.Setenv(args[0], strings.TrimPrefix(server.URL, "http://"))
	ts.Defer(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := r.Shutdown(ctx)
		server.Close()
		if err := errors.Join(err, l.Close(ctx), bus.Close(ctx)); err != nil {
			ts.Logf("the end of the site: %v", err)
		}
	})
	return nil
}
