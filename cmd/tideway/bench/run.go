package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Metric is one figure of one run.
type Metric struct {
	Key   string // for programs
	Title string
	Unit  string // "" for counts
	Value float64
}

// sample is what one run found.
type sample struct {
	metrics []Metric
	latency *Histogram // nil when nothing travelled
	remarks []string
	peers   []*sample // of other servers, in the settings' order
}

func (s *sample) add(key, title, unit string, value float64) {
	s.metrics = append(s.metrics, Metric{key, title, unit, value})
}

// metric returns the value of that key.
func (s *sample) metric(key string) (float64, bool) {
	for _, m := range s.metrics {
		if m.Key == key {
			return m.Value, true
		}
	}
	return 0, false
}

// latencies adds the quantiles of a distribution.
func (s *sample) latencies(key, title string, h *Histogram) {
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", .5}, {"p99", .99}, {"max", 1}} {
		s.add(key+"_"+q.name, title+" "+q.name, "ms", milliseconds(h.Quantile(q.at)))
	}
}

// Kind is a benchmark.
type Kind struct {
	Name string
	run  func(context.Context, *Settings, Point) (*sample, error)
}

// Kinds are all benchmarks.
var Kinds = []Kind{
	{"broadcast", broadcast},
	{"echo", echo},
	{"connect", connect},
	{"idle", idle},
	{"storm", storm},
	{"resume", resume},
	{"queue", queue},
	{"layer", inLayer},
	{"scale", scaling},
}

// Run carries out the benchmark of that name. A *SettingsError says that nothing
// was done.
func Run(ctx context.Context, name string, s *Settings) (*Report, error) {
	i := slices.IndexFunc(Kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return nil, settingsErrorf("there is no benchmark %q", name)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	points, swept := s.points()
	samples := make([][]*sample, len(points))
	started := time.Now()
	// The runs of all points take turns, so that what changes on the machine
	// meanwhile changes all of them.
	for r := range s.Runs {
		for p, point := range points {
			s.progress(Step{Done: r*len(points) + p, All: s.Runs * len(points), Doing: doing(point, swept)})
			one, err := Kinds[i].withPeers(ctx, s, point, r)
			if ctx.Err() != nil {
				return nil, errors.New("interrupted")
			}
			var settings *SettingsError
			if errors.As(err, &settings) {
				return nil, err
			}
			if err != nil {
				return nil, fmt.Errorf("%s, run %d: %w", name, r+1, err)
			}
			samples[p] = append(samples[p], one)
		}
	}
	s.progress(Step{Done: s.Runs * len(points), All: s.Runs * len(points)})
	return newReport(name, s, points, swept, samples, started), nil
}

func (s *Settings) progress(step Step) {
	if s.Progress != nil {
		s.Progress(step)
	}
}

// doing names a point by what tells it from the others.
func doing(p Point, swept string) string {
	if swept == "" {
		return ""
	}
	return swept + " " + strconv.Itoa(*p.at(swept))
}
