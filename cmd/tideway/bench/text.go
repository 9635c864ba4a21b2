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
// and the range of all runs.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%s\n\n", r.Title(), r.Circumstances())
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for i, cells := range r.table() {
		if i > 0 || len(cells) > 2 { // one column needs no head
			fmt.Fprintln(t, strings.Join(cells, "\t"))
		}
	}
	return t.Flush()
}

// WriteMarkdown writes the report as a table of Markdown, without what only says
// how far to trust it; what makes it doubtful follows as a list.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s.** %s\n\n", markdownEscape(r.Title()), markdownEscape(r.Circumstances()))
	plain := map[string]bool{}
	for _, f := range r.rows() {
		plain[f.heading()] = slices.Contains(circumstances, f.Key)
	}
	for i, cells := range r.table() {
		if i > 0 && plain[cells[0]] {
			continue
		}
		for k, c := range cells {
			cells[k] = " " + markdownEscape(c)
		}
		fmt.Fprintf(&b, "|%s |\n", strings.Join(cells, " |"))
		if i == 0 {
			fmt.Fprintf(&b, "|---|%s\n", strings.Repeat("---:|", len(cells)-1))
		}
	}
	for i, text := range r.grouped() {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "- %s\n", markdownEscape(text))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// grouped returns the remarks, with one line for all servers and points that the
// same is said of.
func (r *Report) grouped() []string {
	var texts []string
	of := map[string][]string{}
	for _, remark := range r.Remarks {
		var about []string
		text := remark
		for {
			front, rest, found := strings.Cut(text, ": ")
			if !found || !r.names(front) {
				break
			}
			about, text = append(about, front), rest
		}
		if len(of[text]) == 0 {
			texts = append(texts, text)
		}
		who := strings.Join(about, ", ")
		if len(r.Points[0].Peers) > 0 && !slices.ContainsFunc(r.Points[0].Peers, func(p PeerResult) bool { return slices.Contains(about, p.Name) }) {
			who = strings.TrimPrefix(who+", tideway", ", ")
		}
		of[text] = append(of[text], who)
	}
	for i, text := range texts {
		if who := strings.Join(of[text], "; "); who != "" {
			texts[i] = who + ": " + text
		}
	}
	return texts
}

// names reports whether a remark that begins so names a server or a point.
func (r *Report) names(front string) bool {
	return r.Swept != "" && strings.HasPrefix(front, r.Swept+" ") ||
		slices.ContainsFunc(r.Points[0].Peers, func(p PeerResult) bool { return p.Name == front })
}

var markdownEscape = strings.NewReplacer("|", "\\|", "<", "&lt;", "\n", " ", "*", "\\*", "_", "\\_").Replace

// table has a head, and a row for each figure. Its columns are the points, and
// how the figure grows over them; of a single point they are the servers.
func (r *Report) table() [][]string {
	if r.Swept == "" {
		return r.serverTable()
	}
	head := []string{r.Swept}
	for _, res := range r.Points {
		head = append(head, number(float64(*res.Point.at(r.Swept))))
	}
	all := [][]string{append(head, "growth")}
	for _, f := range r.rows() {
		cells := []string{f.heading()}
		for _, res := range r.Points {
			cells = append(cells, cell(res.Figures, f.Key))
		}
		all = append(all, append(cells, r.growthOf(f.Key)))
	}
	for i, peer := range r.Points[0].Peers {
		for _, f := range peer.Figures {
			if slices.Contains(circumstances, f.Key) {
				continue
			}
			cells := []string{peer.Name + ": " + f.heading()}
			for _, res := range r.Points {
				cells = append(cells, cell(res.Peers[i].Figures, f.Key))
			}
			all = append(all, append(cells, ""))
		}
	}
	return all
}

func (r *Report) serverTable() [][]string {
	point := r.Points[0]
	head := []string{"", "median [least - most]"}
	if len(point.Peers) > 0 {
		head = []string{"", "tideway"}
	}
	for _, peer := range point.Peers {
		head = append(head, peer.Name)
	}
	all := [][]string{head}
	rows := point.Figures
	for _, peer := range point.Peers {
		for _, f := range peer.Figures {
			if _, ok := find(rows, f.Key); !ok {
				rows = append(rows, f)
			}
		}
	}
	for _, f := range rows {
		cells := []string{f.heading(), cell(point.Figures, f.Key)}
		for _, peer := range point.Peers {
			cells = append(cells, cell(peer.Figures, f.Key))
		}
		all = append(all, cells)
	}
	return all
}

// heading names a figure and its unit.
func (f Figure) heading() string {
	if f.Unit == "" {
		return f.Title
	}
	return f.Title + ", " + f.Unit
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

func cell(figures []Figure, key string) string {
	f, ok := find(figures, key)
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
