package bench

import (
	"bytes"
	_ "embed"
	"html/template"
	"slices"
)

//go:embed report.html
var reportSource string

var reportPage = template.Must(template.New("report").Parse(reportSource))

// HTML returns the report as a page that stands alone: tables, and plots as
// inline SVG. It loads nothing.
func (r *Report) HTML() ([]byte, error) {
	var b bytes.Buffer
	err := reportPage.Execute(&b, struct {
		*Report
		Table [][]string
		Plots []template.HTML
	}{r, r.table(), r.plots()})
	return b.Bytes(), err
}

// plots draws the latencies, and over a swept size what growth is asked of.
func (r *Report) plots() []template.HTML {
	var plots []template.HTML
	if p := r.latencyPlot(); p != nil {
		plots = append(plots, p.svg())
	}
	if r.Swept == "" {
		return plots
	}
	for _, row := range r.rows() {
		if slices.Contains(circumstances, row.Key) {
			continue
		}
		if p := r.sizePlot(row); p != nil {
			plots = append(plots, p.svg())
		}
	}
	return plots
}

// latencyPlot shows for each point which share of messages took how long.
func (r *Report) latencyPlot() *plot {
	p := &plot{title: "Latency distribution", xTitle: "share of messages", yTitle: "ms", xScale: tailScale, yScale: logScale}
	for _, res := range r.Points {
		var l line
		for _, q := range res.Latency {
			if q.Ms > 0 {
				l.points = append(l.points, dot{x: q.Quantile, y: q.Ms})
			}
		}
		if len(l.points) > 1 {
			if r.Swept != "" {
				l.name = r.Swept + " " + number(float64(*res.Point.at(r.Swept)))
			}
			p.lines = append(p.lines, l)
		}
	}
	if len(p.lines) == 0 {
		return nil
	}
	return p
}

// sizePlot shows one figure over the swept size, with the range of its runs.
func (r *Report) sizePlot(row Figure) *plot {
	var l line
	var sizes []float64
	for _, res := range r.Points {
		f, ok := res.figure(row.Key)
		x := float64(*res.Point.at(r.Swept))
		if !ok || f.Min <= 0 || x <= 0 {
			return nil // a logarithm has no place for it
		}
		sizes = append(sizes, x)
		l.points = append(l.points, dot{x: x, y: f.Median, least: f.Min, most: f.Max})
	}
	if g := r.growthOf(row.Key); g != "" {
		l.name = "grows as " + g
	}
	return &plot{
		title: row.Title, xTitle: r.Swept, yTitle: row.Unit,
		xScale: valuesScale(sizes), yScale: logScale, lines: []line{l},
	}
}
