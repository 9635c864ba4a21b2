package bench

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// small are settings of a run that takes no time.
func small() *Settings {
	return &Settings{
		Clients: []int{20}, Groups: []int{2}, Rate: []int{100}, Size: []int{100}, Members: []int{2}, Nodes: []int{1}, Missed: []int{10},
		Duration: 150 * time.Millisecond, Runs: 1, Staying: 5, Window: 16, Workers: 4, Nap: 100 * time.Microsecond,
	}
}

// Every benchmark, with the child in a process of its own.
func TestKinds(t *testing.T) {
	for _, k := range Kinds {
		t.Run(k.Name, func(t *testing.T) {
			r, err := Run(t.Context(), k.Name, small())
			if err != nil {
				t.Fatal(err)
			}
			if lost, ok := r.Points[0].figure("lost"); ok && lost.Max != 0 {
				t.Errorf("%v messages are lost", lost.Max)
			}
			if len(r.Points[0].Figures) < 3 {
				t.Errorf("got the figures %v", r.Points[0].Figures)
			}
		})
	}
}

// startSite serves the bench's consumers in the test's own process.
func startSite(t *testing.T, start func(*httptest.Server)) *httptest.Server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l, err := layer.New(membus.New(), &layer.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	r, err := router.New(l, table(), &router.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(r)
	start(s)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(r.Shutdown(ctx), l.Close(ctx)); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return s
}

// A server that a URL names, over TLS, which goes by way of goroutines.
func TestURLWithTLS(t *testing.T) {
	site := startSite(t, (*httptest.Server).StartTLS)
	s := small()
	s.URL = strings.Replace(site.URL, "https", "wss", 1) + pathRoom
	s.PIDs = []int{os.Getpid()}
	r, err := Run(t.Context(), "broadcast", s)
	if err != nil {
		t.Fatal(err)
	}
	if lost, ok := r.Points[0].figure("lost"); !ok || lost.Max != 0 {
		t.Errorf("lost: %v (%v)", lost.Max, ok)
	}
	if r.Server != s.URL || r.Setup.Publisher != Client {
		t.Errorf("got the server %q and the publisher %q", r.Server, r.Setup.Publisher)
	}
}

// Clients of a foreign server may have to say something first.
func TestHello(t *testing.T) {
	site := startSite(t, (*httptest.Server).Start)
	s := small()
	s.URL, s.Hello, s.Replies = strings.Replace(site.URL, "http", "ws", 1)+pathEcho, `{"subscribe":%d}`, 1
	s.Groups = []int{20}
	if _, err := Run(t.Context(), "broadcast", s); err != nil {
		t.Error(err)
	}
}

func TestInterruptEndsAll(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := small()
	s.Duration = time.Minute
	s.Progress = func(Step) { time.AfterFunc(300*time.Millisecond, cancel) }
	start := time.Now()
	if _, err := Run(ctx, "broadcast", s); err == nil || err.Error() != "interrupted" {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Settings)
		want   string
	}{
		{"size", func(s *Settings) { s.Size = []int{1} }, "--size is 1"},
		{"clients", func(s *Settings) { s.Clients = []int{0} }, "--clients is 0"},
		{"two axes", func(s *Settings) { s.Size, s.Rate = []int{64, 65}, []int{1, 2} }, "--rate and --size have several values"},
		{"runs", func(s *Settings) { s.Runs = 0 }, "--runs is 0"},
		{"duration", func(s *Settings) { s.Duration = time.Hour }, "--duration is 1h"},
		{"nap", func(s *Settings) { s.Nap = time.Second }, "--nap"},
		{"window", func(s *Settings) { s.Window = 0 }, "--window"},
		{"slow", func(s *Settings) { s.Slow = []int{20} }, "--slow is 20 of 20 clients"},
		{"publisher", func(s *Settings) { s.Publisher = "x" }, "--publisher is"},
		{"inside a URL", func(s *Settings) { s.URL, s.Publisher = "ws://127.0.0.1/", Inside }, "--publisher inside"},
		{"missed", func(s *Settings) { s.Missed = []int{0} }, "--missed is 0"},
		{"nodes of a URL", func(s *Settings) { s.URL, s.Nodes = "ws://127.0.0.1/", []int{3} }, "--nodes is for"},
		{"hello without a URL", func(s *Settings) { s.Hello = "x" }, "--hello"},
		{"message", func(s *Settings) { s.Message = "x" }, "%s once"},
	} {
		s := small()
		tt.change(s)
		_, err := Run(t.Context(), "broadcast", s)
		var settings *SettingsError
		if !errors.As(err, &settings) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.want)
		}
	}
	if _, err := Run(t.Context(), "lunch", small()); err == nil {
		t.Error("there is a benchmark lunch")
	}
}

func TestSweep(t *testing.T) {
	s := small()
	s.Size = []int{64, 128, 256}
	points, swept := s.points()
	if swept != "size" || len(points) != 3 || points[1].Size != 128 || points[1].Clients != 20 {
		t.Errorf("got %v over %q", points, swept)
	}
}
