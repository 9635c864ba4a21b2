package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// A process that the site starts is the game servers.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "-role" {
		main()
		return
	}
	os.Exit(m.Run())
}

// All of it in one command: the page is there, and all ends when it is told to.
func TestRun(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		s := settings{role: "all", addr: "127.0.0.1:0"}
		done <- s.run(ctx, nil, out)
		out.Close()
	}()
	lines := bufio.NewScanner(read)
	page := ""
	for password := false; !password && lines.Scan(); {
		if at, found := strings.CutPrefix(lines.Text(), "The page is at "); found {
			page = at
		}
		password = strings.HasPrefix(lines.Text(), "Log in as bob (viewer)")
	}
	r, err := http.Get(strings.TrimSuffix(page, "rollout/")) // which leads there
	if err != nil {
		t.Fatal(err, <-done)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(body), "Log in") {
		t.Errorf("got %s %s, %v", r.Status, body, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRefusedSettings(t *testing.T) {
	for _, s := range []settings{{role: "king"}, {role: "web", nats: "nats://127.0.0.1:4222"}, {role: "worker", servers: "http://127.0.0.1:1"}} {
		if err := s.run(t.Context(), nil, io.Discard); err == nil || !strings.HasPrefix(err.Error(), "rollout: -role ") {
			t.Errorf("%+v: got %v", s, err)
		}
	}
}
