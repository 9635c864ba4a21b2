package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

// lineSite is the site of the browser client's tests, in a process of its own
// that can be killed and started again.
type lineSite struct {
	*process
	t     *testing.T
	addr  string
	store string
	args  []string
}

func startLineSite(t *testing.T, args ...string) *lineSite {
	t.Helper()
	s := &lineSite{t: t, addr: freeport.Addr(t), store: t.TempDir(), args: args}
	s.up()
	return s
}

// up starts the process, also again.
func (s *lineSite) up() {
	s.t.Helper()
	s.process = start(s.t, s.store, nil, lineServer, append([]string{"-addr", s.addr, "-store", s.store}, s.args...)...)
	waitForPort(s.t, s.process, s.addr)
}

// publish sends the lines with these numbers, which are stored when it returns.
func (s *lineSite) publish(group string, from, to int) {
	s.t.Helper()
	form := url.Values{"from": {fmt.Sprint(from)}, "to": {fmt.Sprint(to)}}
	r, err := http.PostForm("http://"+s.addr+"/publish/"+group, form)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		s.t.Fatalf("publish lines %d to %d: status %d", from, to, r.StatusCode)
	}
}

// lines waits until the page shows the lines up to number last, and fails the
// test unless it shows all from 1 on in order, and no gap.
func (w *window) lines(last int) {
	w.t.Helper()
	var got []int
	eventually(w.t, 40*time.Second, fmt.Sprintf("the page shows line %d", last), func() bool {
		got = w.shown()
		return len(got) > 0 && got[len(got)-1] >= last
	})
	var want []int
	for n := 1; n <= last; n++ {
		want = append(want, n)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("the page shows the lines %v, want 1 to %d", got, last)
	}
	if gaps := eval[[]string](w, `[...document.querySelectorAll("#gaps li")].map((e) => e.textContent)`); len(gaps) > 0 {
		w.t.Errorf("the page was told of gaps: %q", gaps)
	}
}

// shown returns the numbers of the lines on the page.
func (w *window) shown() []int {
	w.t.Helper()
	return eval[[]int](w, `[...document.querySelectorAll("#lines li")].map((e) => +e.textContent)`)
}

func (w *window) waitOpen() {
	w.t.Helper()
	w.do(chromedp.WaitVisible(chromedp.CSS(`#state[data-state="open"]`)))
}

// ended returns why the page's connections ended.
func (w *window) ended() []string {
	w.t.Helper()
	return eval[[]string](w, `window.ended`)
}

func TestClientServerKilled(t *testing.T) {
	s := startLineSite(t)
	w := open(t, startBrowser(t), "http://"+s.addr+"/?group=job.1")
	w.waitOpen()
	s.publish("job.1", 1, 50)
	w.lines(50)
	s.kill()
	eventually(t, 10*time.Second, "the page has noticed", func() bool { return len(w.ended()) > 0 })
	s.up()
	s.publish("job.1", 51, 120)
	w.lines(120)

	s.stop() // and asked to end, it says when to come back
	s.up()
	s.publish("job.1", 121, 140)
	w.lines(140)
	if at := eval[string](w, `client.group("job.1").at`); at == "" {
		t.Error("the client has no position")
	}
}

func TestClientProxyCut(t *testing.T) {
	s := startLineSite(t)
	p := startFaulty(t, s.addr)
	w := open(t, startBrowser(t), "http://"+p.addr+"/?group=job.1")
	w.waitOpen()
	for n := 1; n <= 400; n += 10 {
		s.publish("job.1", n, n+9)
		if n%80 == 1 {
			p.cut()
		}
	}
	w.lines(400)
	if len(w.ended()) == 0 {
		t.Error("the page noticed no cut")
	}
}

// A page that is reloaded goes on behind what it showed.
func TestClientPageReloaded(t *testing.T) {
	s := startLineSite(t)
	w := open(t, startBrowser(t), "http://"+s.addr+"/?group=job.1")
	w.waitOpen()
	s.publish("job.1", 1, 30)
	w.lines(30)
	w.do(chromedp.Navigate("about:blank"))
	s.publish("job.1", 31, 60)
	w.do(chromedp.Navigate("http://" + s.addr + "/?group=job.1"))
	w.lines(60)
	w.quiet()
}

// A network that is gone for a while takes nobody's connection down: it just
// goes silent. When it is back the page asks for a sign of life.
func TestClientOffline(t *testing.T) {
	s := startLineSite(t)
	p := startFaulty(t, s.addr)
	w := open(t, startBrowser(t), "http://"+p.addr+"/?group=job.1")
	w.waitOpen()
	s.publish("job.1", 1, 20)
	w.lines(20)

	w.offline(true)
	p.silence()
	s.publish("job.1", 21, 60)
	time.Sleep(5 * time.Second) // how long it is away
	if got := w.shown(); len(got) != 20 {
		t.Errorf("%d lines while offline, want 20", len(got))
	}
	w.offline(false)
	back := time.Now()
	w.lines(60)
	t.Logf("complete %v after the network was back", time.Since(back).Round(time.Millisecond))
	if got := w.ended(); !slices.Equal(got, []string{"no sign of life"}) {
		t.Errorf("connections ended because of %q", got)
	}
}

// offline switches the page's network, and what it says of it.
func (w *window) offline(off bool) {
	w.t.Helper()
	if _, err := chromedp.Call(w.ctx, network.OverrideNetworkState, network.OverrideNetworkStateParams{
		Offline: off, DownloadThroughput: -1, UploadThroughput: -1,
	}); err != nil {
		w.t.Fatal(err)
	}
}

// A page that slept while its connection died: its timers stood still, and the
// browser ran none of its code.
func TestClientAsleep(t *testing.T) {
	s := startLineSite(t, "-ping", "2s")
	p := startFaulty(t, s.addr)
	w := open(t, startBrowser(t), "http://"+p.addr+"/?group=job.1")
	w.waitOpen()
	s.publish("job.1", 1, 20)
	w.lines(20)
	w.lifecycle("frozen")
	p.silence()
	s.publish("job.1", 21, 60)
	time.Sleep(4 * time.Second) // how long it sleeps
	w.lifecycle("active")
	woke := time.Now()
	w.lines(60)
	t.Logf("complete %v after it woke", time.Since(woke).Round(time.Millisecond))
	if len(w.ended()) == 0 {
		t.Error("the page noticed nothing")
	}
}

// lifecycle puts a page to sleep, or wakes it.
func (w *window) lifecycle(state page.SetWebLifecycleStateState) {
	w.t.Helper()
	if _, err := chromedp.Call(w.ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state}); err != nil {
		w.t.Fatal(err)
	}
}

// A page that was hidden while its connection died asks when it is looked at
// again; by its own heartbeat it would notice after 42 s.
func TestClientHidden(t *testing.T) {
	s := startLineSite(t, "-ping", "60s")
	p := startFaulty(t, s.addr)
	w := open(t, startBrowser(t), "http://"+p.addr+"/?group=job.1")
	w.waitOpen()
	s.publish("job.1", 1, 20)
	w.lines(20)
	w.show("minimized", "hidden")
	p.silence()
	s.publish("job.1", 21, 60)
	time.Sleep(3 * time.Second) // longer than the patience that the page is given
	w.show("normal", "visible")
	eventually(t, 20*time.Second, "the page has noticed", func() bool { return len(w.ended()) > 0 })
	w.lines(60)
}

// show minimizes the window or brings it back, and waits until the page knows.
func (w *window) show(state browser.WindowState, visibility string) {
	w.t.Helper()
	found, err := chromedp.Call(w.ctx, browser.GetWindowForTarget, browser.GetWindowForTargetParams{})
	if err != nil {
		w.t.Fatal(err)
	}
	bounds := &browser.Bounds{WindowState: state}
	if _, err := chromedp.Call(w.ctx, browser.SetWindowBounds, browser.SetWindowBoundsParams{WindowID: found.WindowID, Bounds: bounds}); err != nil {
		w.t.Fatal(err)
	}
	eventually(w.t, 10*time.Second, "the page is "+visibility, func() bool {
		return eval[string](w, "document.visibilityState") == visibility
	})
}

// trust has the window take certificates that nobody signed.
func (w *window) trust() {
	w.t.Helper()
	if _, err := chromedp.Call(w.ctx, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true}); err != nil {
		w.t.Fatal(err)
	}
}

// nginx is reloaded under the page, and then killed and started again.
func TestClientThroughNGINX(t *testing.T) {
	s := startLineSite(t)
	n := startNGINX(t, s.addr, "")
	w := open(t, startBrowser(t), "about:blank")
	w.trust()
	w.do(chromedp.Navigate("https://" + n.addr + "/?group=job.1"))
	w.waitOpen()
	s.publish("job.1", 1, 20)
	w.lines(20)

	n.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, 10*time.Second, "nginx reloads", func() bool {
		return strings.Contains(n.output.String(), "gracefully shutting down")
	})
	s.publish("job.1", 21, 40)
	w.lines(40)

	n.kill()
	eventually(t, 10*time.Second, "the page has noticed", func() bool { return len(w.ended()) > 0 })
	s.publish("job.1", 41, 60)
	n.again()
	w.lines(60)
}

// What a browser does otherwise than Node: it gives up a handshake in which the
// server chooses none of the subprotocols that it offered, and tells less.
func TestClientProtocolsAndCredentials(t *testing.T) {
	s := startLineSite(t)
	w := open(t, startBrowser(t), "http://"+s.addr+"/?group=job.1")
	w.waitOpen()
	for _, c := range []struct{ name, script, want string }{
		{"plain frames", `
			const c = Tideway.connect("/ws/mirror", { protocols: [] });
			c.send("words");
			c.send({ n: 1 });
			c.send(new Uint8Array([7]));
			c.on("message", (m) => (all.push(m instanceof ArrayBuffer ? new Uint8Array(m)[0] : m), all.length === 3 && done()));`,
			`["words",{"n":1},7]`},
		{"tideway.v1, with text and binary", `
			const c = Tideway.connect("/ws/mirror");
			c.send({ n: 1 });
			c.send(new Uint8Array([7]));
			c.on("message", (m) => (all.push(m instanceof ArrayBuffer ? new Uint8Array(m)[0] : m), all.length === 2 && done()));`,
			`[{"n":1},7]`},
		{"a token", `
			const c = Tideway.connect("/ws/private", { token: async () => "ünal/?+=:60" });
			c.on("user", (m) => (all.push(m.id), c.request("who am I?").then((id) => (all.push(id), done()))));`,
			`["ünal/?+=","ünal/?+="]`},
		{"a token as the first frame", `
			const c = Tideway.connect("/login/private", { tokenIn: "frame", token: async () => "ünal/?+=:60" });
			c.on("user", (m) => (all.push(m.id), c.request("who am I?").then((id) => (all.push(id), done()))));`,
			`["ünal/?+=","ünal/?+="]`},
		{"a ticket", `
			const c = Tideway.connect("/ws/private", { ticket: () => fetch("/ticket", { method: "POST" }).then((r) => r.text()) });
			c.on("user", (m) => (all.push(m.id), done()));`,
			`["guest"]`},
		{"a request that is refused, and a close for good", `
			const c = Tideway.connect("/ws/group/chat");
			c.on("state", (e) => e.state === "closed" && (all.push(e.code, e.reason), done()));
			c.request({ fail: "sold_out" }).catch((err) => (all.push(err.name, err.code), c.send({ close: 4003 })));`,
			`["ServerError","sold_out",4003,"as you asked"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			script := `window.result = ""; { const all = []; const done = () => (window.result = JSON.stringify(all));` + c.script + `}; 0`
			eval[int](w, script)
			var got string
			eventually(t, 20*time.Second, "the page is done", func() bool {
				got = eval[string](w, `window.result`)
				return got != ""
			})
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	w.quiet()
}

// The hooks for React in a bundle, in strict mode: nothing is missing, and a
// component that goes takes its connection with it.
func TestClientReact(t *testing.T) {
	dir := reactBundle(t)
	s := startLineSite(t, "-assets", dir)
	w := open(t, startBrowser(t), "http://"+s.addr+"/assets/index.html")
	w.waitOpen()
	s.publish("job.react", 1, 20)
	w.lines(20)
	s.kill()
	w.do(chromedp.WaitVisible(chromedp.CSS(`#state[data-state="waiting"], #state[data-state="connecting"]`)))
	s.up()
	s.publish("job.react", 21, 50)
	w.lines(50)
	if got := eval[int](w, `window.sockets.filter((s) => s.readyState === 1).length`); got != 1 {
		t.Errorf("%d sockets are open, want 1", got)
	}
	w.do(chromedp.Click(chromedp.CSS("button")))
	eventually(t, 10*time.Second, "the socket is closed", func() bool {
		return eval[bool](w, `window.sockets.every((s) => s.readyState > 1)`)
	})
}

// reactBundle returns a folder with a page that uses the package as an
// application would: bundled, with React.
func reactBundle(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	pkg := filepath.Join(dir, "tideway-client")
	if err := os.CopyFS(filepath.Join(pkg, "dist"), os.DirFS(root+"/router/clientjs/dist")); err != nil {
		t.Fatal(err)
	}
	for to, from := range map[string]string{
		pkg + "/package.json":      root + "/router/clientjs/package.json",
		pkg + "/package-lock.json": root + "/router/clientjs/package-lock.json",
		pkg + "/app.jsx":           "testdata/react/app.jsx",
	} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command(t, pkg, "", "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline")
	command(t, pkg, "", "node_modules/.bin/esbuild", "app.jsx", "--bundle", "--outfile=../app.js", "--define:process.env.NODE_ENV=\"development\"")
	html := `<!doctype html><meta charset="utf-8"><title>React</title><link rel="icon" href="data:,"><script>
		window.sockets = [];
		window.WebSocket = class extends WebSocket { constructor(...args) { super(...args); sockets.push(this); } };
	</script><body><script src="app.js"></script>`
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(html), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
