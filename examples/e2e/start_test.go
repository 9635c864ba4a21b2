package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

// The demo's first page, on a desk and on a phone: the command that it shows
// brings a message into it, and its links lead to pages that work.
func TestStartPage(t *testing.T) {
	d := &demo{addr: freeport.Addr(t), nats: freeport.Addr(t)}
	d.process = start(t, t.TempDir(), []string{"TIDEWAY_ROLLOUT_USERS=" + rolloutUsers, "TIDEWAY_API_KEY=" + apiKey},
		tideway, "demo", "--addr", d.addr, "--nats-addr", d.nats)
	d.ready()
	browser := startBrowser(t)
	wide, phone := open(t, browser, d.page()), open(t, browser, d.page())
	wide.do(chromedp.EmulateViewport(1180, 900))
	phone.do(chromedp.EmulateViewport(390, 900, chromedp.EmulateMobile))
	wide.waitConnected()
	phone.waitConnected()

	wide.paste("tideway")
	wide.paste("curl")
	wide.do(chromedp.SendKeys(chromedp.ID("text"), "from the page"), chromedp.Click(chromedp.CSS("#say button")))
	for _, w := range []*window{wide, phone} {
		eventually(t, 20*time.Second, "three messages are in the window", func() bool {
			return eval[string](w, `[...document.querySelectorAll("#log li")].map((li) => li.textContent).join(", ")`) == "tideway hello, curl hello, you from the page"
		})
		w.narrow()
	}
	keep(t, "start.png", wide.screenshot(), phone.screenshot())

	links := eval[[]string](wide, `[...document.querySelectorAll(".grid h2 a")].map((a) => a.getAttribute("href"))`)
	if got := strings.Join(links, " "); got != "/chat/ /rollout/ /inbox/ /quotes/" {
		t.Errorf("the page leads to %s", got)
	}
	phone.do(chromedp.Click(chromedp.CSS(`.grid a[href="/rollout/"]`)), chromedp.WaitVisible(chromedp.ID("login")))
	phone.enter("bob", passwordOfBob)
	phone.narrow()
	wide.do(chromedp.Click(chromedp.CSS(`.grid a[href="/inbox/"]`)), chromedp.WaitVisible(chromedp.ID("login")))
	wide.logIn("ann")
	wide.paste("tideway")
	wide.do(chromedp.SetValue(chromedp.ID("to"), "ben"), chromedp.SendKeys(chromedp.ID("text"), "for ben"), chromedp.Click(chromedp.CSS("#notify button")))
	ben := open(t, browser, d.page()+"inbox/")
	ben.logIn("ben")
	ben.told("for ben")
	wide.told("hello from tideway")
	wide.do(chromedp.Click(chromedp.CSS(".brand a")), chromedp.WaitVisible(chromedp.ID("tools")))
	for _, w := range []*window{wide, phone, ben} {
		w.quiet()
	}
	d.stop()
}

// paste runs the command that the page shows for a tool.
func (w *window) paste(tool string) {
	w.t.Helper()
	line := eval[string](w, `(() => {
		[...document.querySelectorAll("#tools button")].find((b) => b.textContent === "`+tool+`").click();
		return document.getElementById("command").textContent;
	})()`)
	typed(w.t, line)
}

// typed runs a line of a page as it stands there, but for the program, which is
// built already.
func typed(t *testing.T, line string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(line, "go run ./cmd/tideway", tideway))
	cmd.Dir = root
	cmd.Env = append(append(os.Environ(), "TIDEWAY_API_KEY="+apiKey), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// The commands of docs/howto/jobs.md for a worker with curl alone do what the
// page says.
func TestCurlWorkerOfTheHowto(t *testing.T) {
	d := &demo{addr: freeport.Addr(t), nats: freeport.Addr(t)}
	d.process = start(t, t.TempDir(), []string{"TIDEWAY_API_KEY=" + apiKey}, tideway, "demo", "--addr", d.addr, "--nats-addr", d.nats)
	d.ready()
	var blocks []string
	for _, b := range fenced(t, "howto/jobs.md", "sh") {
		if strings.Contains(b, "backup") {
			blocks = append(blocks, strings.ReplaceAll(b, "127.0.0.1:8000", d.addr))
		}
	}
	if len(blocks) != 3 {
		t.Fatalf("the page has %d blocks about the backup, want 3", len(blocks))
	}
	env := []string{"NATS_URL=nats://" + d.nats, "SITE=http://" + d.addr, "TIDEWAY_API_KEY=" + apiKey}
	worker := strings.Fields(strings.Split(blocks[0], "\n")[1])
	start(t, root, env, worker[0], worker[1:]...)
	if out := typed(t, blocks[1], env...); !strings.Contains(out, "5 of 5") {
		t.Errorf("%s\n%s", blocks[1], out)
	}
	if out := typed(t, blocks[2], env...); !regexp.MustCompile(`(?s)folder 5 is saved.*"state":"succeeded".*"result":\{"files":42\}`).MatchString(out) {
		t.Errorf("%s\n%s", blocks[2], out)
	}
	if _, status := get("http://" + d.addr + "/api/v1/jobs"); status != http.StatusUnauthorized {
		t.Errorf("without the key: got %d", status)
	}
	d.stop()
}
