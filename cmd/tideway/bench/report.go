package bench

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Report is what a benchmark found. It is what `-o json` prints.
type Report struct {
	Bench    string    `json:"bench"`
	Started  time.Time `json:"started"`
	Machine  Machine   `json:"machine"`
	Runs     int       `json:"runs"`
	Duration float64   `json:"seconds"` // of each run
	Server   string    `json:"server"`  // its URL, or "embedded"
	Setup    Setup     `json:"setup"`
	Swept    string    `json:"swept,omitempty"`
	Points   []Result  `json:"points"`
	Growth   []Growth  `json:"growth,omitempty"`
	Remarks  []string  `json:"remarks,omitempty"` // what makes figures doubtful
}

// Setup is what the settings say beside sizes.
type Setup struct {
	Publisher string `json:"publisher,omitempty"`
	Durable   bool   `json:"durable,omitempty"`
	Handled   bool   `json:"handled,omitempty"`
	Deflate   bool   `json:"deflate,omitempty"`
	Staying   int    `json:"staying,omitempty"`
	Window    int    `json:"window,omitempty"`
	Workers   int    `json:"workers,omitempty"`
}

// Machine is where a benchmark ran.
type Machine struct {
	Cores int    `json:"cores"`
	OS    string `json:"os"`
	Arch  string `json:"arch"`
	Go    string `json:"go"`
}

// Result is what all runs of one point found.
type Result struct {
	Point   Point           `json:"point"`
	Figures []Figure        `json:"figures"`
	Latency []QuantilePoint `json:"latency,omitempty"` // of all runs together
	Peers   []PeerResult    `json:"peers,omitempty"`
}

// PeerResult is what all runs of one point found of another server.
type PeerResult struct {
	Name    string   `json:"name"`
	Figures []Figure `json:"figures"`
}

// Figure is one metric over all runs.
type Figure struct {
	Key    string    `json:"key"`
	Title  string    `json:"title"`
	Unit   string    `json:"unit,omitempty"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Runs   []float64 `json:"runs"`
}

// Growth is how a figure grows over the swept size: as its power with that
// exponent. 0 is flat, 1 is in proportion.
type Growth struct {
	Key      string  `json:"key"`
	Over     string  `json:"over"`
	Exponent float64 `json:"exponent"`
}

func newReport(name string, s *Settings, points []Point, swept string, samples [][]*sample, started time.Time) *Report {
	r := &Report{
		Bench: name, Started: started.UTC().Truncate(time.Second), Runs: s.Runs, Duration: s.Duration.Seconds(),
		Machine: Machine{runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()},
		Server:  "embedded", Swept: swept,
		Setup: Setup{Durable: s.Durable, Handled: s.Handled, Deflate: s.Deflate, Staying: s.Staying, Window: s.Window, Workers: s.Workers},
	}
	if name == "broadcast" {
		r.Setup.Publisher = s.publisher()
	}
	if s.URL != "" {
		r.Server = s.URL
	}
	for i, p := range points {
		r.Points = append(r.Points, newResult(p, samples[i], s.Peers))
		for _, one := range samples[i] {
			for _, text := range one.remarks {
				if swept != "" {
					text = doing(p, swept) + ": " + text
				}
				if !slices.Contains(r.Remarks, text) {
					r.Remarks = append(r.Remarks, text)
				}
			}
		}
	}
	if swept != "" {
		r.Growth = growth(r.Points, swept)
	}
	return r
}

func newResult(p Point, runs []*sample, peers []Peer) Result {
	res := Result{Point: p, Figures: newFigures(runs)}
	all := &Histogram{}
	for _, one := range runs {
		if one.latency != nil {
			all.Merge(one.latency)
		}
	}
	res.Latency = all.Curve()
	for i, peer := range peers {
		var theirs []*sample
		for _, one := range runs {
			theirs = append(theirs, one.peers[i])
		}
		res.Peers = append(res.Peers, PeerResult{peer.Name, newFigures(theirs)})
	}
	return res
}

// newFigures returns the metrics of one server over all runs that have them.
func newFigures(runs []*sample) []Figure {
	var all []Figure
	for _, one := range runs {
		for _, m := range one.metrics {
			i := slices.IndexFunc(all, func(f Figure) bool { return f.Key == m.Key })
			if i < 0 {
				i = len(all)
				all = append(all, Figure{Key: m.Key, Title: m.Title, Unit: m.Unit})
			}
			all[i].Runs = append(all[i].Runs, round(m.Value))
		}
	}
	for i := range all {
		f := &all[i]
		f.Median, f.Min, f.Max = median(f.Runs), slices.Min(f.Runs), slices.Max(f.Runs)
	}
	return all
}

// figure returns the figure of that key.
func (r Result) figure(key string) (Figure, bool) { return find(r.Figures, key) }

func find(all []Figure, key string) (Figure, bool) {
	i := slices.IndexFunc(all, func(f Figure) bool { return f.Key == key })
	if i < 0 {
		return Figure{}, false
	}
	return all[i], true
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// round keeps six digits: more is noise, and hard to read in JSON. What is no
// number becomes 0, since JSON has none for it.
func round(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0
	}
	scale := math.Pow(10, 5-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// circumstances are figures that say how far to trust the others: how they grow
// is of no interest.
var circumstances = []string{"client_cpu_us", "client_busy", "server_cores", "other_cores"}

// growth fits a power of the swept size to each figure's medians.
func growth(points []Result, swept string) []Growth {
	var all []Growth
	for _, f := range points[0].Figures {
		if slices.Contains(circumstances, f.Key) {
			continue
		}
		var x, y []float64
		for _, res := range points {
			if other, ok := res.figure(f.Key); ok && other.Median > 0 && *res.Point.at(swept) > 0 {
				x = append(x, math.Log(float64(*res.Point.at(swept))))
				y = append(y, math.Log(other.Median))
			}
		}
		if e, ok := slope(x, y); ok && len(x) == len(points) {
			all = append(all, Growth{f.Key, swept, math.Round(e*100)/100 + 0})
		}
	}
	return all
}

// slope returns that of the line with the least squares through the points.
func slope(x, y []float64) (float64, bool) {
	n, sx, sy := float64(len(x)), 0.0, 0.0
	for i := range x {
		sx, sy = sx+x[i], sy+y[i]
	}
	up, down := 0.0, 0.0
	for i := range x {
		up += (x[i] - sx/n) * (y[i] - sy/n)
		down += (x[i] - sx/n) * (x[i] - sx/n)
	}
	if down == 0 {
		return 0, false
	}
	return up / down, true
}

// Title says in one line what was measured.
func (r *Report) Title() string {
	p := r.Points[0].Point
	var parts []string
	for _, a := range []string{"client", "group", "member", "node"} {
		if v := *p.at(a + "s"); v > 0 && r.Swept != a+"s" && (a != "node" || v > 1 || r.Bench == "layer") {
			parts = append(parts, plural(v, a))
		}
	}
	if p.Missed > 0 && r.Swept != "missed" {
		parts = append(parts, number(float64(p.Missed))+" missed")
	}
	if r.Setup.Staying > 0 {
		parts = append(parts, number(float64(r.Setup.Staying))+" that stay")
	}
	if p.Slow > 0 && r.Swept != "slow" {
		parts = append(parts, number(float64(p.Slow))+" that never read")
	}
	if p.Size > 0 && r.Swept != "rate" && p.Rate == 0 && p.Missed == 0 {
		parts = append(parts, "flat out")
	} else if p.Rate > 0 && r.Swept != "rate" {
		parts = append(parts, number(float64(p.Rate))+"/s")
	}
	if p.Size > 0 && r.Swept != "size" {
		parts = append(parts, number(float64(p.Size))+" B")
	}
	if r.Setup.Publisher != "" {
		parts = append(parts, "publisher "+r.Setup.Publisher)
	}
	if r.Setup.Durable {
		parts = append(parts, "durable")
	}
	if r.Setup.Handled {
		parts = append(parts, "handled")
	}
	if r.Setup.Deflate {
		parts = append(parts, "deflate")
	}
	title := r.Bench + ": " + strings.Join(parts, ", ")
	if r.Swept != "" {
		title += "; over " + r.Swept
	}
	return title
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return number(float64(n)) + " " + noun
}
