package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/tideway-go/tideway/examples/internal/freeport"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// inboxSite is examples/notify in a process of its own that can be killed and
// started again, beside others on one NATS server, which lives on.
type inboxSite struct {
	*process
	t    *testing.T
	addr string
	nats string
}

func startInbox(t *testing.T, nats string) *inboxSite {
	t.Helper()
	s := &inboxSite{t: t, addr: freeport.Addr(t), nats: nats}
	s.up()
	return s
}

// up starts the process, also again.
func (s *inboxSite) up() {
	s.t.Helper()
	s.process = start(s.t, s.t.TempDir(), nil, notify, "-addr", s.addr, "-use", "nats://"+s.nats)
	eventually(s.t, time.Minute, "the page of "+s.cmd.String(), func() bool {
		s.alive()
		_, status := get("http://" + s.addr)
		return status == http.StatusOK
	})
}

// networkOf makes this process a part of the network behind a NATS server, by
// which it learns what is durable.
func networkOf(t *testing.T, nats string) *layer.Layer {
	t.Helper()
	bus, err := natsbus.New(t.Context(), &natsbus.Options{URL: "nats://" + nats})
	if err != nil {
		t.Fatal(err)
	}
	l, err := layer.New(bus, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		l.Close(ctx)
		bus.Close(ctx)
	})
	return l
}

// told is a notification as a script writes it: by hand.
func told(text string) layer.Message {
	m, err := layer.ParseMessage(fmt.Appendf(nil, `{"type":"notify.message","text":%q}`, text))
	if err != nil {
		panic(err) // it is JSON
	}
	return m
}

// texts returns what a user was told, the oldest first, as the network keeps it.
func texts(t *testing.T, l *layer.Layer, user string) (all []string) {
	t.Helper()
	for m, err := range l.History(t.Context(), "notify."+user, layer.Position{}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		var n struct{ Type, Text string }
		if err := json.Unmarshal(m.Data, &n); err != nil {
			t.Fatal(err)
		}
		if n.Type == "notify.message" {
			all = append(all, n.Text)
		}
	}
	return all
}

// script tells a user a number all along, until stop is called, which returns how
// many there were. Each of them is stored.
func script(t *testing.T, l *layer.Layer, user string, every time.Duration) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		n := 0
		defer func() { done <- n }()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := l.GroupSend(context.WithoutCancel(ctx), "notify."+user, told(fmt.Sprint("number ", n+1))); err != nil {
				t.Errorf("number %d: %v", n+1, err)
				return
			}
			n++
		}
	}()
	t.Cleanup(cancel)
	return func() int {
		cancel()
		return <-done
	}
}

// offlineFor is how long the browser is offline: 3 s, or what OFFLINE says.
func offlineFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("OFFLINE")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("OFFLINE: %v", err)
	}
	return d
}

// list returns the notifications in the window, the oldest first.
func (w *window) list() []string {
	w.t.Helper()
	return eval[[]string](w, `[...document.querySelectorAll("#log li span")].map((s) => s.textContent).reverse()`)
}

// complete waits until the window shows what is kept now, and fails the test
// unless it shows all of it, in order and once. More may come meanwhile.
func (w *window) complete(l *layer.Layer, user string) {
	w.t.Helper()
	want := texts(w.t, l, user)
	var got []string
	eventually(w.t, time.Minute, fmt.Sprintf("%d notifications are in the window", len(want)), func() bool {
		got = w.list()
		return slices.Contains(got, want[len(want)-1])
	})
	if all := texts(w.t, l, user); len(got) > len(all) || !slices.Equal(got, all[:len(got)]) {
		w.t.Errorf("the window shows\n%q\nof\n%q", got, all)
	}
}

// A page behind nginx that is reloaded, whose nginx is reloaded, whose server is
// restarted and killed, and that is offline for a while has everything, in order
// and once, each time, while a script goes on publishing.
func TestInboxMissesNothing(t *testing.T) {
	t.Parallel() // most of it waits
	broker := freeport.Addr(t)
	startNATS(t, broker, t.TempDir())
	s := startInbox(t, broker)
	n := startNGINX(t, s.addr, "")
	wire := startFaulty(t, n.addr)
	site := "https://" + wire.addr
	l := networkOf(t, broker)
	if err := l.GroupSend(t.Context(), "notify.ann", told("number 0")); err != nil {
		t.Fatal(err)
	}

	w := open(t, startBrowser(t), "about:blank")
	w.trust()
	w.do(chromedp.Navigate(site))
	w.logIn("ann")
	second := w.another("about:blank")
	second.trust()
	second.do(chromedp.Navigate(site))
	second.waitConnected()
	windows := []*window{w, second}
	stop := script(t, l, "ann", 200*time.Millisecond)
	check := func(what string) {
		t.Helper()
		began := time.Now()
		for _, w := range windows {
			w.complete(l, "ann")
		}
		t.Logf("%s: complete after %v", what, time.Since(began).Round(time.Millisecond))
	}
	check("at first")

	w.do(chromedp.Reload())
	w.waitConnected()
	check("the page was reloaded")

	n.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, 20*time.Second, "nginx reloads", func() bool {
		return strings.Contains(n.output.String(), "gracefully shutting down")
	})
	check("nginx was reloaded")

	s.stop()
	s.up()
	check("the server was restarted")

	s.kill()
	s.up()
	check("the server was killed")

	for _, w := range windows {
		w.offline(true)
	}
	wire.silence()                 // what was on the wire vanishes without a word
	had := len(texts(t, l, "ann")) // some of it may be on its way inside the browser
	time.Sleep(offlineFor(t))      // how long it is away
	if got := len(w.list()); got > had {
		t.Errorf("%d notifications came while the browser was offline", got-had)
	}
	for _, w := range windows {
		w.offline(false)
	}
	check("the browser was offline")

	sent := stop()
	for _, w := range windows {
		w.complete(l, "ann")
		if got := len(w.list()); got != sent+1 {
			t.Errorf("the window shows %d notifications, want %d", got, sent+1)
		}
		w.waitConnected()
	}
	s.stop()
}

// Two windows and a telephone show one inbox: what one has read is read in all.
func TestInboxInThreeWindows(t *testing.T) {
	addr := freeport.Addr(t)
	p := start(t, t.TempDir(), nil, notify, "-addr", addr, "-nats", freeport.Addr(t), "-store", t.TempDir())
	site := "http://" + addr
	waitForPort(t, p, addr)
	w := open(t, startBrowser(t), site)
	w.logIn("ann")
	dark, phone := w.another(site), w.another(site)
	dark.do(chromedp.EmulateViewport(520, 700, chromedp.EmulateScale(1)))
	phone.do(chromedp.EmulateViewport(360, 700, chromedp.EmulateScale(1), chromedp.EmulateMobile))
	w.do(chromedp.EmulateViewport(520, 700, chromedp.EmulateScale(1)))
	scheme := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}
	if _, err := chromedp.Call(dark.ctx, emulation.SetEmulatedMedia, scheme); err != nil {
		t.Fatal(err)
	}
	all := []*window{w, dark, phone}
	for _, w := range all {
		w.waitConnected()
	}
	tell := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			r, err := http.PostForm(site+"/inbox/notify/ann", url.Values{"text": {text}})
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != http.StatusAccepted {
				t.Fatalf("%q: %s", text, r.Status)
			}
		}
	}
	older := []string{"Welcome to the harbour, Ann", "Your berth is number 42, on the north quay", "Invoice 2026-118 has been paid: thank you",
		"Ben wants to swap the Tuesday shift with you"}
	newer := []string{"High water at 17:20, 3.2 m", "Gale warning for tonight: check your lines", "Your order is on its way"}
	tell(older...)
	for _, w := range all {
		w.told(older...)
		w.unread(4)
	}
	dark.do(chromedp.Click(chromedp.ID("read")))
	for _, w := range all {
		w.unread(0)
	}
	tell(newer...)
	for _, w := range all {
		w.told(append(slices.Clone(older), newer...)...)
		w.unread(3)
	}
	phone.do(chromedp.Reload())
	phone.waitConnected()
	phone.unread(3)
	keep(t, "inbox.png", w.screenshot(), dark.screenshot(), phone.screenshot())
	for _, w := range all {
		w.quiet()
	}
	p.stop()
}

// unread waits until the window says that so many are unread, in all places.
func (w *window) unread(want int) {
	w.t.Helper()
	state := `[+document.querySelector("#unread").textContent, document.querySelectorAll("#log .unread").length, +(document.title.match(/\d+/) ?? 0)]`
	var got []int
	eventually(w.t, 20*time.Second, fmt.Sprintf("%d are unread", want), func() bool {
		got = eval[[]int](w, state)
		return slices.Equal(got, []int{want, want, want})
	})
}
