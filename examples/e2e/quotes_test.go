package e2e

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// The board of quotes, in a window and on a phone: over a slow connection prices
// are skipped, and those that are shown are current.
func TestQuotes(t *testing.T) {
	d := startDemo(t)
	browser := startBrowser(t)
	wide, phone := open(t, browser, d.page()+"quotes/"), open(t, browser, d.page()+"quotes/")
	wide.do(chromedp.EmulateViewport(1000, 640))
	phone.do(chromedp.EmulateViewport(390, 640, chromedp.EmulateMobile))
	for _, w := range []*window{wide, phone} {
		eventually(t, 30*time.Second, "all symbols have prices", func() bool {
			return eval[int](w, `document.querySelectorAll("#symbols li").length`) == 20 && w.number("came") > 0
		})
		if eval[bool](w, `document.documentElement.scrollWidth > innerWidth`) {
			t.Error("the page is wider than its window")
		}
	}
	before := wide.number("skipped") // a browser on a busy machine may be slow, too
	wide.do(chromedp.Click(chromedp.ID("slow")))
	eventually(t, 50*time.Second, "thousands of prices are skipped", func() bool {
		return wide.number("skipped") > before+5000
	})
	eventually(t, 20*time.Second, "the prices are current", func() bool { age := wide.number("age"); return age > 0 && age <= 5000 })
	if state := eval[string](wide, `document.getElementById("state").textContent`); state != "connected, slowly" {
		t.Errorf("the page says %q", state)
	}
	keep(t, "quotes.png", wide.screenshot(), phone.screenshot())

	wide.do(chromedp.Click(chromedp.ID("slow")))
	eventually(t, 30*time.Second, "prices come fast again", func() bool { return wide.number("came") > 150 })
	wide.quiet()
	phone.quiet()
}

// number returns the number that an element shows, 0 while it shows none.
func (w *window) number(id string) int {
	w.t.Helper()
	return eval[int](w, `Number(document.getElementById("`+id+`").textContent.replaceAll(",", "")) || 0`)
}
