package e2e

import (
	"fmt"
	"slices"
)

// storySum is what came out of some runs. Whatever is wrong fails the test, so
// that it counts what was right.
type storySum struct {
	runs, cuts int
	pages      int // that were compared with the log
	lines      int // on them
	opened     []opening
}

// opening is what a page that is opened behind the end took, in ms since the
// navigation began.
type opening struct {
	Server  float64 `json:"server"`  // until its answer began
	Verdict float64 `json:"verdict"` // until the verdict was on the screen
}

func (a *storySum) add(b storySum) {
	a.runs += b.runs
	a.cuts += b.cuts
	a.pages += b.pages
	a.lines += b.lines
	a.opened = append(a.opened, b.opened...)
}

// String is the summary of the runs.
func (a storySum) String() string {
	times := func(of func(opening) float64) string {
		var all []float64
		for _, o := range a.opened {
			all = append(all, of(o))
		}
		slices.Sort(all)
		if len(all) == 0 {
			return "not measured"
		}
		return fmt.Sprintf("median %.0f ms, most %.0f ms", all[len(all)/2], all[len(all)-1])
	}
	late := 0
	for _, o := range a.opened {
		if o.Verdict > 2000 {
			late++
		}
	}
	return fmt.Sprintf("%d runs with a fault in each, %d lost connections: %d lines on %d pages, each once and in order\n"+
		"verdict on the screen after the opening: %s; later than 2 s: %d of %d; of that the server's answer: %s",
		a.runs, a.cuts, a.lines, a.pages, times(func(o opening) float64 { return o.Verdict }), late, len(a.opened),
		times(func(o opening) float64 { return o.Server }))
}

// noteVerdict notes when the verdict is on the screen: at the frame behind the
// first one that has it.
const noteVerdict = `window.verdictAt = new Promise((resolve) => requestAnimationFrame(function look() {
	const verdict = document.getElementById("verdict");
	if (!verdict?.textContent || !verdict.checkVisibility()) return requestAnimationFrame(look);
	requestAnimationFrame(() => {
		const verdict = performance.now();
		resolve({ verdict, server: performance.getEntriesByType("navigation")[0].responseStart });
	});
}));`
