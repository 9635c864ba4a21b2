package bench

import (
	"encoding/json"
	"strings"
	"testing"
)

// A histogram survives the way to another process.
func TestHistogramTravels(t *testing.T) {
	var h, got Histogram
	for _, ns := range []int64{0, 7, 1234, 1 << 40} {
		h.Add(ns)
	}
	b, err := json.Marshal(gathered{Latency: h})
	if err != nil {
		t.Fatal(err)
	}
	var g gathered
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	if got = g.Latency; got != h {
		t.Errorf("got %d durations up to %d, want %d up to %d", got.Count(), got.Max(), h.Count(), h.Max())
	}
	for _, bad := range []string{`{"buckets":{"-1":1}}`, `{"buckets":{"99999":1}}`, `{"buckets":{"x":1}}`, `{"buckets":{"1":-1}}`, `7`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestDrivers(t *testing.T) {
	for _, tt := range []struct{ clients, nodes, want int }{{30, 2, 1}, {30_000, 2, 1}, {30_001, 2, 2}, {45_000, 1, 3}} {
		if got := driversFor(tt.clients, tt.nodes); got != tt.want {
			t.Errorf("%d clients on %d nodes: got %d drivers for each, want %d", tt.clients, tt.nodes, got, tt.want)
		}
	}
	s := small()
	s.Nodes = []int{3}
	s.Clients = []int{2}
	if _, err := Run(t.Context(), "scale", s); err == nil || !strings.Contains(err.Error(), "--clients is 2") {
		t.Errorf("got %v", err)
	}
}
