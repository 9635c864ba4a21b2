package bench

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// plot is a diagram of a few lines.
type plot struct {
	title, xTitle, yTitle string
	xScale, yScale        scale
	lines                 []line
}

type line struct {
	name   string
	points []dot
}

// dot is a point, with the range that its value was in, if there is one.
type dot struct{ x, y, least, most float64 }

// scale maps values to places along an axis, and says which values to label.
type scale struct {
	place func(v float64) float64
	ticks func(least, most float64) []float64
	label func(v float64) string
}

// logScale gives every factor the same room.
var logScale = scale{math.Log10, logTicks, number}

// logTicks returns round numbers from least to most, not too many.
func logTicks(least, most float64) []float64 {
	steps := []float64{1, 2, 5}
	switch factor := most / least; {
	case factor > 2000:
		steps = []float64{1}
	case factor < 10:
		steps = []float64{1, 1.5, 2, 3, 4, 5, 7}
	}
	var ticks []float64
	for e := math.Floor(math.Log10(least)); e <= math.Ceil(math.Log10(most)); e++ {
		for _, m := range steps {
			if v := m * math.Pow(10, e); v >= least*0.99 && v <= most*1.01 {
				ticks = append(ticks, v)
			}
		}
	}
	return ticks
}

// valuesScale is logScale with labels at the values that were measured.
func valuesScale(values []float64) scale {
	return scale{math.Log10, func(_, _ float64) []float64 { return values }, number}
}

// tailScale gives every further nine the same room: 90 %, 99 %, 99.9 %.
var tailScale = scale{
	func(q float64) float64 { return -math.Log10(1 - q) },
	func(_, most float64) []float64 {
		ticks := []float64{0, 0.5}
		for rest := 0.1; 1-rest <= most; rest /= 10 {
			ticks = append(ticks, 1-rest)
		}
		return ticks
	},
	func(q float64) string { return fmt.Sprintf("%.6g %%", 100*q) },
}

// The measures of a drawing.
const (
	plotWidth, plotHeight              = 640, 300
	leftEdge, rightEdge                = 70, 620
	topEdge, bottomEdge                = 36, 250
	legendX, legendY, legendLineHeight = 84, 52, 16
)

// colors tell lines apart, also for people who see few of them.
var colors = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"}

// dashes tell lines apart without any colour.
var dashes = []string{"none", "6 3", "2 3", "8 3 2 3"}

// span is a stretch of an axis, in places of its scale.
type span struct{ from, to float64 }

func (s *span) cover(v float64) {
	s.from, s.to = min(s.from, v), max(s.to, v)
}

// at returns where v is between two edges of the drawing.
func (s span) at(v, from, to float64) float64 {
	if s.to <= s.from {
		return (from + to) / 2
	}
	return from + (v-s.from)/(s.to-s.from)*(to-from)
}

// drawing is a plot on its way to text.
type drawing struct {
	*plot
	strings.Builder
	x, y        span
	least, most dot // the corners, as values
}

// svg draws the plot.
func (p *plot) svg() template.HTML {
	d := &drawing{plot: p, x: span{math.Inf(1), math.Inf(-1)}, y: span{math.Inf(1), math.Inf(-1)}}
	d.measure()
	fmt.Fprintf(d, `<svg viewBox="0 0 %d %d" role="img"><title>%s</title>`, plotWidth, plotHeight, escape(p.title))
	fmt.Fprintf(d, `<text class="title" x="%d" y="20">%s</text>`, leftEdge, escape(p.title))
	d.axes()
	for i, l := range p.lines {
		d.line(i, l)
	}
	d.WriteString(`</svg>`)
	return template.HTML(d.String()) // all text in it was escaped
}

func escape(s string) string { return template.HTMLEscapeString(s) }

// measure finds the stretches that all dots need.
func (d *drawing) measure() {
	d.least, d.most = dot{x: math.Inf(1), y: math.Inf(1)}, dot{x: math.Inf(-1), y: math.Inf(-1)}
	for _, l := range d.lines {
		for _, p := range l.points {
			d.least.x, d.most.x = min(d.least.x, p.x), max(d.most.x, p.x)
			for _, y := range []float64{p.y, p.least, p.most} {
				if y > 0 {
					d.least.y, d.most.y = min(d.least.y, y), max(d.most.y, y)
				}
			}
		}
	}
	if d.most.y/d.least.y < 2 { // or noise would fill the picture
		middle := math.Sqrt(d.most.y * d.least.y)
		d.least.y, d.most.y = middle/1.5, middle*1.5
	}
	for _, corner := range []dot{d.least, d.most} {
		d.x.cover(d.xScale.place(corner.x))
		d.y.cover(d.yScale.place(corner.y))
	}
}

func (d *drawing) atX(v float64) float64 { return d.x.at(d.xScale.place(v), leftEdge, rightEdge) }
func (d *drawing) atY(v float64) float64 { return d.y.at(d.yScale.place(v), bottomEdge, topEdge) }

func (d *drawing) axes() {
	for _, v := range d.yScale.ticks(d.least.y, d.most.y) {
		y := d.atY(v)
		fmt.Fprintf(d, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, leftEdge, rightEdge, y, y)
		fmt.Fprintf(d, `<text class="y" x="%d" y="%.1f">%s</text>`, leftEdge-6, y+4, escape(d.yScale.label(v)))
	}
	for _, v := range d.xScale.ticks(d.least.x, d.most.x) {
		x := d.atX(v)
		fmt.Fprintf(d, `<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x, x, topEdge, bottomEdge)
		fmt.Fprintf(d, `<text class="x" x="%.1f" y="%d">%s</text>`, x, bottomEdge+16, escape(d.xScale.label(v)))
	}
	fmt.Fprintf(d, `<text class="x" x="%d" y="%d">%s</text>`, (leftEdge+rightEdge)/2, bottomEdge+36, escape(d.xTitle))
	fmt.Fprintf(d, `<text class="y" x="%d" y="%d">%s</text>`, leftEdge-6, topEdge-8, escape(d.yTitle))
}

func (d *drawing) line(i int, l line) {
	color, dash := colors[i%len(colors)], dashes[i%len(dashes)]
	var path strings.Builder
	for _, p := range l.points {
		fmt.Fprintf(&path, "%.1f,%.1f ", d.atX(p.x), d.atY(p.y))
	}
	fmt.Fprintf(d, `<polyline points="%s" stroke="%s" stroke-dasharray="%s"/>`, strings.TrimSpace(path.String()), color, dash)
	for _, p := range l.points {
		if p.least > 0 {
			x := d.atX(p.x)
			fmt.Fprintf(d, `<line class="range" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s"/>`, x, x, d.atY(p.least), d.atY(p.most), color)
			fmt.Fprintf(d, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x, d.atY(p.y), color)
		}
	}
	if l.name != "" {
		y := legendY + i*legendLineHeight
		fmt.Fprintf(d, `<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="%s" stroke-dasharray="%s" stroke-width="2"/>`, legendX, legendX+24, y-4, y-4, color, dash)
		fmt.Fprintf(d, `<text x="%d" y="%d">%s</text>`, legendX+30, y, escape(l.name))
	}
}
