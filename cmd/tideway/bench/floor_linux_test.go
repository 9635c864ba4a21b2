package bench

import (
	"os"
	"testing"
	"time"
)

func TestFloorAndSlowClients(t *testing.T) {
	s := small()
	s.Floor, s.Slow = true, []int{4}
	r, err := Run(t.Context(), "broadcast", s)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"floor_latency_p50", "slow_closed", "lost"} {
		if _, ok := r.Points[0].figure(key); !ok {
			t.Errorf("no figure %s in %v", key, r.Points[0].Figures)
		}
	}
}

// A run gives back what it took: descriptors here, and the child.
func TestRunLeavesNothing(t *testing.T) {
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	s := small()
	if _, err := Run(t.Context(), "storm", s); err != nil { // what the runtime opens once is open then
		t.Fatal(err)
	}
	before := open()
	if _, err := Run(t.Context(), "storm", s); err != nil {
		t.Fatal(err)
	}
	after := open()
	for deadline := time.Now().Add(10 * time.Second); after > before && time.Now().Before(deadline); after = open() {
		time.Sleep(10 * time.Millisecond)
	}
	if after > before {
		t.Errorf("%d descriptors before a run, %d after it", before, after)
	}
}

func TestClocks(t *testing.T) {
	before, err := processTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for now := before; now-before < 5*time.Millisecond; {
		if now, err = processTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if rss, err := residentBytes(os.Getpid()); err != nil || rss < 1<<20 {
		t.Errorf("resident: %d bytes (%v)", rss, err)
	}
	if busy, err := machineBusy(); err != nil || busy <= 0 {
		t.Errorf("busy: %v (%v)", busy, err)
	}
	if _, err := processTime(1 << 22); err == nil {
		t.Error("a process that cannot be has a clock")
	}
}
