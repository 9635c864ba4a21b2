package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tideway-go/tideway/cmd/tideway/bench"
)

// TestMain makes children of the test binary: under bench's own name Tideway,
// and with an argument a peer.
func TestMain(m *testing.M) {
	_, peer := servers[os.Args[len(os.Args)-1]]
	var err error
	switch {
	case filepath.Base(os.Args[0]) == bench.ProgramName:
		err = bench.Serve(context.Background(), os.Stdin, os.Stdout, startNATS)
	case peer:
		err = run(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}

// Each peer passes on every message of every benchmark.
func TestPeers(t *testing.T) {
	for _, kind := range []string{"broadcast", "connect", "idle", "storm"} {
		t.Run(kind, func(t *testing.T) {
			s := settings()
			for _, name := range []string{"coder", "coder-nats", "gorilla", "gws", "centrifuge"} {
				s.Peers = append(s.Peers, bench.Peer{Name: name, Command: []string{os.Args[0], name}})
			}
			check(t, kind, s)
		})
	}
}

func TestOutside(t *testing.T) {
	s := settings()
	s.Publisher = bench.Outside
	for _, name := range []string{"coder-nats", "centrifuge-redis"} {
		s.Peers = append(s.Peers, bench.Peer{Name: name, Command: []string{os.Args[0], name}})
	}
	check(t, "broadcast", s)
}

func settings() *bench.Settings {
	return &bench.Settings{
		Clients: []int{20}, Groups: []int{2}, Rate: []int{100}, Size: []int{600}, Deflate: true,
		Duration: 150 * time.Millisecond, Runs: 1, Staying: 5, Window: 16, Workers: 4, Nap: 100 * time.Microsecond,
	}
}

func check(t *testing.T, kind string, s *bench.Settings) {
	t.Helper()
	r, err := bench.Run(t.Context(), kind, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, peer := range r.Points[0].Peers {
		if len(peer.Figures) < 3 {
			t.Errorf("%s has the figures %v", peer.Name, peer.Figures)
		}
		for _, f := range peer.Figures {
			if f.Key == "lost" && f.Max > 0 {
				t.Errorf("%s lost %v messages", peer.Name, f.Max)
			}
		}
	}
}
