package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

// A user who is logged in is notified by curl, in both windows, and nobody else
// is; logging out in one window ends the other's socket, too.
func TestNotifyWithCurl(t *testing.T) {
	addr := freeport.Addr(t)
	site := "http://" + addr
	p := start(t, t.TempDir(), nil, notify, "-addr", addr, "-nats", freeport.Addr(t), "-store", t.TempDir())
	eventually(t, 30*time.Second, "the page of "+p.cmd.String(), func() bool {
		p.alive()
		_, status := get(site)
		return status == http.StatusOK
	})
	browser := startBrowser(t)
	ann, ben := open(t, browser, site), open(t, browser, site)
	ann.logIn("ann")
	ben.logIn("ben")
	second := ann.another(site)
	second.waitConnected()

	for _, text := range []string{"Your order is on its way", "grüße & 100 % <b>'bold'</b>"} {
		curl(t, site, "ann", text)
	}
	curl(t, site, "ben", "the last word")
	ben.told("the last word")
	for _, w := range []*window{ann, second} {
		w.told("Your order is on its way", "grüße & 100 % <b>'bold'</b>")
	}

	ann.do(chromedp.Click(chromedp.ID("logout")))
	second.do(chromedp.WaitVisible(chromedp.ID("login")))
	for _, w := range []*window{ann, ben, second} {
		w.quiet()
	}
	p.stop()
}

func (w *window) logIn(user string) {
	w.t.Helper()
	w.do(chromedp.SetValue(chromedp.CSS("input[name=user]"), user), chromedp.Click(chromedp.ID("login")))
	w.waitConnected()
}

// told waits until the window lists these notifications, the oldest first.
func (w *window) told(want ...string) {
	w.t.Helper()
	var got []string
	eventually(w.t, 10*time.Second, "the notifications are in the window", func() bool {
		got = eval[[]string](w, `[...document.querySelectorAll("#log li span")].map((s) => s.textContent).reverse()`)
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		w.t.Errorf("got %q, want %q", got, want)
	}
}

// curl runs the example that pushes by HTTP.
func curl(t *testing.T, site, user, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "push_http.sh", user, text)
	cmd.Dir = root + "/examples/push"
	cmd.Env = append(os.Environ(), "SITE="+site)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "sent" {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}
