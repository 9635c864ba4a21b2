package bench

import (
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
