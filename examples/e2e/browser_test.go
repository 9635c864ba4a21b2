package e2e

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// startBrowser runs Chromium with a fresh profile and returns a context for
// windows. It talks to nothing but the pages that a test opens.
func startBrowser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath("/usr/bin/chromium"),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // as root there is none
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-gpu", true),
	)
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), append(opts, more...)...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return ctx
}

// window is one window of a browser, with storage and cookies of its own.
type window struct {
	t     *testing.T
	life  context.Context // as long as the window is open
	ctx   context.Context // as long as a test may take
	close context.CancelFunc

	mu       sync.Mutex // guards problems
	problems []string   // errors and warnings of its console
}

// open opens a page in a window of its own, as another person does: nothing is
// shared with other windows.
func open(t *testing.T, browser context.Context, url string) *window {
	t.Helper()
	return newWindow(t, browser, url, chromedp.WithNewBrowserContext())
}

// another opens a page in a second window of the same person.
func (w *window) another(url string) *window {
	w.t.Helper()
	return newWindow(w.t, w.ctx, url)
}

func newWindow(t *testing.T, parent context.Context, url string, opts ...chromedp.ContextOption) *window {
	t.Helper()
	ctx, end := chromedp.NewContext(parent, append(opts, chromedp.WithNewWindow(true))...)
	t.Cleanup(end)
	life := ctx
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	w := &window{t: t, life: life, ctx: ctx, close: end}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	go w.watch(chromedp.Console(ctx))
	w.do(chromedp.EmulateViewport(520, 620, chromedp.EmulateScale(1.5)), chromedp.Navigate(url))
	return w
}

// watch keeps what the page complains about, until the window is closed.
func (w *window) watch(console iter.Seq2[chromedp.ConsoleMessage, error]) {
	for m, err := range console {
		if err != nil {
			return
		}
		if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleException || m.Type == chromedp.ConsoleWarning {
			w.mu.Lock()
			w.problems = append(w.problems, string(m.Type)+": "+m.Text)
			w.mu.Unlock()
		}
	}
}

// do runs steps in the page.
func (w *window) do(steps ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	if err := chromedp.Do(w.ctx, steps...); err != nil {
		w.t.Fatalf("%v; %s", err, w.contents())
	}
}

// contents tells what is in the window, for the message of a failed test.
func (w *window) contents() string {
	const all = `location.href + " shows:\n" + document.body?.innerText.slice(0, 1500)`
	ctx, cancel := context.WithTimeout(w.life, 10*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](all))
	if err != nil {
		return fmt.Sprintf("what the window shows is not known: %v", err)
	}
	return text
}

// eval returns the value of a JavaScript expression.
func eval[T any](w *window, expression string) T {
	w.t.Helper()
	v, err := chromedp.Run(w.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		w.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// quiet fails the test if the page complained in its console.
func (w *window) quiet() {
	w.t.Helper()
	w.quietBut()
}

// quietBut is quiet, but for complaints that contain one of the texts.
func (w *window) quietBut(texts ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.problems {
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(p, text) }) {
			w.t.Errorf("the browser's console: %s", p)
		}
	}
}

// waitConnected waits until the page says that its socket is open.
func (w *window) waitConnected() {
	w.t.Helper()
	w.do(chromedp.WaitVisible(chromedp.CSS(`#state[data-state="connected"]`)))
}

// inEachDocument runs a script in each document that the window opens from now
// on, before the document's own.
func inEachDocument(script string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
		return err
	})
}
