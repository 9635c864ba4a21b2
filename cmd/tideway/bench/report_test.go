package bench

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

// example is a report of made-up figures: one grows in proportion, one is flat.
func example(sizes ...int) *Report {
	s := &Settings{Size: sizes, Clients: []int{10}, Rate: []int{50}, Runs: 3, Duration: time.Second}
	points, swept := s.points()
	samples := make([][]*sample, len(points))
	for i, p := range points {
		for run := range s.Runs {
			one := &sample{latency: &Histogram{}}
			one.add("cpu_us", "server CPU per delivery", "us", float64(p.Size)/100*float64(1+run))
			one.add("rate", "deliveries", "1/s", 500)
			one.add("lost", "lost", "", 0)
			one.latency.Add(int64(p.Size) * 1000)
			one.latency.Add(int64(p.Size) * 2000)
			if run == 1 {
				one.remarks = []string{"a <remark>"}
			}
			samples[i] = append(samples[i], one)
		}
	}
	return newReport("broadcast", s, points, swept, samples, time.Unix(1e9, 0))
}

func TestText(t *testing.T) {
	for _, tt := range []struct {
		sizes []int
		want  []string
	}{
		{[]int{100}, []string{
			"broadcast: 10 clients, 50/s, 100 B, publisher inside\n3 runs of 1s, medians [least - most]; ",
			"server CPU per delivery, us  2 [1 - 3]\n",
			"lost                         0\n",
		}},
		{[]int{100, 10_000}, []string{
			"broadcast: 10 clients, 50/s, publisher inside; over size\n",
			"size                         100        10,000           growth\n",
			"server CPU per delivery, us  2 [1 - 3]  200 [100 - 300]  n^1.00\n",
			"deliveries, 1/s              500        500              n^0.00\n",
			"lost                         0          0                \n",
		}},
	} {
		var b strings.Builder
		if err := example(tt.sizes...).WriteText(&b); err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in\n%s", want, b.String())
			}
		}
	}
}

func TestMarkdown(t *testing.T) {
	var b strings.Builder
	r := example(100, 10_000)
	r.Remarks = []string{"a | b <c>", "size 100: slow", "size 10000: x: slow", "size 10000: other"}
	r.Points[0].Peers, r.Points[1].Peers = []PeerResult{{Name: "x"}}, []PeerResult{{Name: "x"}}
	if err := r.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"**broadcast: 10 clients, 50/s, publisher inside; over size.** 3 runs of 1s, ",
		"\n| size | 100 | 10,000 | growth |\n|---|---:|---:|---:|\n",
		"\n| server CPU per delivery, us | 2 [1 - 3] | 200 [100 - 300] | n^1.00 |\n",
		"\n\n- tideway: a \\| b &lt;c>\n- size 100, tideway; size 10000, x: slow\n- size 10000, tideway: other\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestRemarksSayWhere(t *testing.T) {
	r := example(100, 200)
	if want := "size 100: a <remark>"; len(r.Remarks) != 2 || r.Remarks[0] != want {
		t.Errorf("got %q, want %q first", r.Remarks, want)
	}
}

// The page is whole, loads nothing, and what it shows cannot command it.
func TestHTMLStandsAlone(t *testing.T) {
	page, err := example(100, 1000, 10_000).HTML()
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, bad := range []string{"src=", "href=", "url(", "@import", "<script", "a <remark>", "NaN", "Inf"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, want := range []string{"a &lt;remark&gt;", "<td>n^1.00</td>", "grows as n^1.00", ">50 %<", ">10,000<"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	svgs := strings.SplitAfter(text, "<svg ")[1:]
	if len(svgs) != 3 { // latency, CPU, deliveries; nothing was lost
		t.Errorf("got %d plots, want 3", len(svgs))
	}
	for _, svg := range svgs {
		svg, _, _ = strings.Cut("<svg "+svg, "</svg>")
		d := xml.NewDecoder(strings.NewReader(svg + "</svg>"))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v in %s", err, svg)
			}
		}
	}
}

func TestJSONHasNoStrangeNumbers(t *testing.T) {
	one := &sample{}
	one.add("a", "a", "", math.NaN())
	one.add("b", "b", "", math.Inf(1))
	one.add("c", "c", "", 1234567.891)
	res := newResult(Point{}, []*sample{one}, nil)
	if _, err := json.Marshal(res); err != nil {
		t.Error(err)
	}
	for i, want := range []float64{0, 0, 1234570} {
		if got := res.Figures[i].Median; got != want {
			t.Errorf("%s: got %v, want %v", res.Figures[i].Key, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 7: "7", 1234: "1,234", -1234: "-1,234", -123: "-123", 1e6: "1,000,000", 999.6: "1000", 123.4: "123", 12.34: "12.3",
		1.234: "1.23", 0.1234: "0.12", 0.01234: "0.012", 1234.5: "1,235",
	} {
		if got := number(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

func TestSlope(t *testing.T) {
	if got, ok := slope([]float64{0, 1, 2}, []float64{1, 3, 5}); !ok || got != 2 {
		t.Errorf("got %v (%v), want 2", got, ok)
	}
	for _, x := range [][]float64{nil, {1}, {1, 1}} {
		if got, ok := slope(x, x); ok {
			t.Errorf("%v: got the slope %v", x, got)
		}
	}
}

func TestBarLine(t *testing.T) {
	at := time.Unix(100, 0)
	b := &Bar{name: "bench", from: at.Add(-4 * time.Second), at: at, step: Step{Done: 2, All: 8, Doing: "size 64"}}
	if got, want := b.line(at), "bench [======                  ] run 3 of 8, size 64  12s left"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	b.step = Step{All: 3}
	if got, want := b.line(at), "bench [                        ] run 1 of 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
