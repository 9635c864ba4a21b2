package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteText prints the report as a table: a row for each figure, with its median
// and the range of all runs, a column for each point, and how it grows.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%s\n\n", r.Title(), r.Circumstances())
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if r.Swept != "" {
		head := []string{r.Swept}
		for _, res := range r.Points {
			head = append(head, number(float64(*res.Point.at(r.Swept))))
		}
		fmt.Fprintln(t, strings.Join(append(head, "growth"), "\t"))
	}
	for _, f := range r.rows() {
		cells := []string{strings.TrimSpace(f.Title + unitBehind(f.Unit))}
		for _, res := range r.Points {
			cells = append(cells, cell(res, f.Key))
		}
		if r.Swept != "" {
			cells = append(cells, r.growthOf(f.Key))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// Circumstances says in one line how and where it was measured.
func (r *Report) Circumstances() string {
	runs := fmt.Sprintf("%s of %gs", plural(r.Runs, "run"), r.Duration)
	if r.Runs > 1 {
		runs += ", medians [least - most]"
	}
	return fmt.Sprintf("%s; %s, %s/%s, %s; server: %s", runs,
		plural(r.Machine.Cores, "core"), r.Machine.OS, r.Machine.Arch, r.Machine.Go, r.Server)
}

// rows are the figures of all points, in the order of the first that has them.
func (r *Report) rows() []Figure {
	var rows []Figure
	for _, res := range r.Points {
		for _, f := range res.Figures {
			if !slices.ContainsFunc(rows, func(g Figure) bool { return g.Key == f.Key }) {
				rows = append(rows, f)
			}
		}
	}
	return rows
}

func unitBehind(unit string) string {
	if unit == "" {
		return ""
	}
	return ", " + unit
}

func cell(res Result, key string) string {
	f, ok := res.figure(key)
	switch {
	case !ok:
		return "-"
	case f.Min == f.Max:
		return number(f.Median)
	}
	return fmt.Sprintf("%s [%s - %s]", number(f.Median), number(f.Min), number(f.Max))
}

// growthOf says how a figure grows: "n^0.98".
func (r *Report) growthOf(key string) string {
	i := slices.IndexFunc(r.Growth, func(g Growth) bool { return g.Key == key })
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("n^%.2f", r.Growth[i].Exponent)
}

// number writes a figure as people read it: three digits behind nothing that
// matters, thousands apart.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e15, a >= 1000:
		return thousands(int64(math.Round(v)))
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func thousands(v int64) string {
	s := strconv.FormatInt(v, 10)
	start := len(s) % 3
	if v < 0 {
		start = 1 + (len(s)-1)%3
	}
	var b strings.Builder
	b.WriteString(s[:start])
	for i := start; i < len(s); i += 3 {
		if b.Len() > 0 && s[:i] != "-" {
			b.WriteByte(',')
		}
		b.WriteString(s[i : i+3])
	}
	return b.String()
}
