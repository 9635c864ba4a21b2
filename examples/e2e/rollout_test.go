package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

const (
	passwordOfAnn = "word-of-ann"
	passwordOfBob = "word-of-bob"
	rolloutUsers  = "ann:operator:" + passwordOfAnn + ",bob:viewer:" + passwordOfBob
)

// The page of a rollout, on a desk and on a phone: an operator starts an update
// that goes wrong on a few servers, retries them, and cancels another one, while
// a viewer looks on.
func TestRolloutPage(t *testing.T) {
	addr := freeport.Addr(t)
	p := start(t, t.TempDir(), nil, rollout, "-addr", addr, "-users", rolloutUsers, "-pace", "300ms", "-timeout", "8s")
	site := "http://" + addr + "/rollout/"
	eventually(t, 30*time.Second, "the page of "+p.cmd.String(), func() bool {
		p.alive()
		_, status := get(site)
		return status == http.StatusOK
	})
	browser := startBrowser(t)
	ann, bob := open(t, browser, site), open(t, browser, site)
	ann.do(chromedp.EmulateViewport(1280, 860))
	bob.do(chromedp.EmulateViewport(375, 860, chromedp.EmulateMobile))
	ann.enter("ann", passwordOfAnn)
	bob.enter("bob", passwordOfBob)
	bob.narrow()

	// An update goes wrong on four servers.
	ann.do(chromedp.Click(chromedp.CSS(`[value="2.2.0-rc1"]`)), chromedp.SetValue(chromedp.CSS("[name=at_once]"), "8"), chromedp.Click(chromedp.ID("go")))
	ann.do(chromedp.WaitVisible(chromedp.ID("rollout")))
	bob.do(chromedp.Click(chromedp.CSS("#history a")))
	eventually(t, time.Minute, "half of the servers are through", func() bool {
		return eval[float64](ann, `document.getElementById("total").value`) > 20
	})
	keep(t, "rollout-running.png", ann.screenshot(), bob.screenshot())
	bob.narrow()
	ann.verdict("failed")
	bob.verdict("failed")
	ann.whole()
	bob.whole()
	if n := eval[int](bob, `document.querySelectorAll("#cancel, #retry, #start").length`); n > 0 {
		t.Error("the viewer has an operator's buttons")
	}
	bob.do(chromedp.Click(chromedp.CSS(`[data-target="jnb-02"]`)))
	if lines := eval[[]string](bob, `[...document.querySelectorAll("#log li:not([hidden]) b")].map((b) => b.textContent)`); len(lines) < 5 || slices.ContainsFunc(lines, func(s string) bool { return s != "jnb-02" }) {
		t.Errorf("the lines of jnb-02 alone: %q", lines)
	}
	bob.narrow()
	keep(t, "rollout-failed.png", ann.screenshot(), bob.screenshot())

	// They work when they are tried again; the viewer is led there.
	ann.do(chromedp.Click(chromedp.CSS("#retry button")), chromedp.WaitVisible(chromedp.CSS(`#badge[data-ready][data-state="succeeded"]`)))
	if got := eval[string](ann, `document.getElementById("verdict").textContent`); !strings.HasPrefix(got, "Done: 4 servers updated in ") {
		t.Errorf("got %q", got)
	}
	bob.do(chromedp.Click(chromedp.ID("next")), chromedp.WaitVisible(chromedp.CSS(`#verdict[data-state="succeeded"]`)))

	// One that is cancelled says by whom.
	ann.do(chromedp.Click(chromedp.CSS(".new")), chromedp.WaitVisible(chromedp.ID("start")), chromedp.Click(chromedp.ID("go")),
		chromedp.WaitVisible(chromedp.CSS(`#servers [data-state="running"]`)), chromedp.Click(chromedp.CSS("#cancel button")))
	ann.verdict("cancelled")
	ann.whole()
	if got := eval[string](ann, `document.getElementById("verdict").textContent`); !strings.HasPrefix(got, "Cancelled by ann: ") {
		t.Errorf("got %q", got)
	}

	// A logout ends the page's socket.
	second := ann.another(site)
	second.waitConnected()
	ann.do(chromedp.Click(chromedp.ID("logout")), chromedp.WaitVisible(chromedp.ID("login")))
	second.do(chromedp.WaitVisible(chromedp.ID("login")))
	for _, w := range []*window{ann, bob, second} {
		w.quiet()
	}
	p.stop()
}

// narrow fails the test if the page is wider than its window.
func (w *window) narrow() {
	w.t.Helper()
	if by := eval[int](w, `document.documentElement.scrollWidth - innerWidth`); by > 0 {
		w.t.Errorf("the page is %d pixels wider than the window", by)
	}
}

// enter logs in.
func (w *window) enter(user, password string) {
	w.t.Helper()
	w.do(chromedp.SetValue(chromedp.CSS("input[name=user]"), user), chromedp.SetValue(chromedp.CSS("input[name=password]"), password),
		chromedp.Click(chromedp.ID("login")))
	w.waitConnected()
}

// verdict waits until the page says how the rollout ended.
func (w *window) verdict(state string) {
	w.t.Helper()
	w.do(chromedp.WaitVisible(chromedp.CSS(fmt.Sprintf(`#verdict[data-state=%q]:not(:empty)`, state))))
}

// whole waits until the page has shown all that led to the verdict, too.
func (w *window) whole() {
	w.t.Helper()
	w.do(chromedp.WaitVisible(chromedp.CSS(`#badge[data-ready]:is([data-state="succeeded"], [data-state="failed"], [data-state="cancelled"])`)))
}
