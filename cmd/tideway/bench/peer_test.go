package bench

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
)

// A peer stands in a column of its own; here it is this program itself.
func TestPeers(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// As its own child the test binary goes by the program's name.
	link := t.TempDir() + "/" + ProgramName
	if err := os.Symlink(exe, link); err != nil {
		t.Fatal(err)
	}
	s := small()
	s.Peers = []Peer{{"twin", []string{link}}, {"other", []string{link, "with", "arguments"}}}
	r, err := Run(t.Context(), "broadcast", s)
	if err != nil {
		t.Fatal(err)
	}
	peers := r.Points[0].Peers
	if len(peers) != 2 || peers[0].Name != "twin" || peers[1].Name != "other" {
		t.Fatalf("got %v", peers)
	}
	for _, key := range []string{"deliveries_per_s", "latency_p99", "lost"} {
		if _, ok := find(peers[1].Figures, key); !ok {
			t.Errorf("the second peer has no %s", key)
		}
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if head := strings.Split(text.String(), "\n")[3]; strings.Join(strings.Fields(head), " ") != "tideway twin other" {
		t.Errorf("the table's head is %q", head)
	}
}

func TestPeerThatIsNone(t *testing.T) {
	s := small()
	s.Peers = []Peer{{"none", []string{"/nowhere/to/be/found"}}}
	if _, err := Run(t.Context(), "broadcast", s); err == nil || !strings.Contains(err.Error(), "none: ") {
		t.Errorf("got %v", err)
	}
	for _, text := range []string{"", "gws", "=x", "gws="} {
		var settings *SettingsError
		if _, err := ParsePeer(text); !errors.As(err, &settings) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// Servers take turns to be first, and a peer that fails may be left out of a run.
func TestPeersTakeTurns(t *testing.T) {
	var order string
	failing := false
	k := Kind{"fake", func(_ context.Context, s *Settings, _ Point) (*sample, error) {
		name := "t"
		if s.peer != nil {
			name = s.peer.Name
		}
		order += name
		if failing && name == "b" {
			return nil, errors.New("no")
		}
		out := &sample{}
		out.add("cpu_us", "CPU", "us", map[string]float64{"t": 1, "a": 2, "b": 3}[name])
		return out, nil
	}}
	s := small()
	s.Peers = []Peer{{Name: "a"}, {Name: "b"}}
	var runs []*sample
	for run := range 4 {
		failing = run == 3
		s.KeepGoing = failing
		one, err := k.withPeers(t.Context(), s, Point{}, run)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, one)
	}
	if want := "tab" + "abt" + "bta" + "tab"; order != want {
		t.Errorf("got the order %s, want %s", order, want)
	}
	res := newResult(Point{}, runs, s.Peers)
	ratio, _ := find(res.Peers[1].Figures, "ratio_ours")
	if len(ratio.Runs) != 3 || ratio.Median != 3 || len(runs[3].remarks) != 1 || runs[3].remarks[0] != "b: a run failed: no" {
		t.Errorf("got %v and the remarks %q", ratio, runs[3].remarks)
	}
	s.KeepGoing = false
	if _, err := k.withPeers(t.Context(), s, Point{}, 0); err == nil {
		t.Error("a peer that fails is no error")
	}
}
