package e2e

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// said is what a window of the chat shows, in order: "user: text".
const said = `[...document.querySelectorAll("#log .message")].map(
	(m) => m.dataset.user + ": " + m.querySelector(".text").textContent)`

// Two windows in one room, and a Python script: each message appears in both
// windows, once, and in the same order, though all three speak at the same time.
func TestChatInTwoWindows(t *testing.T) {
	d := startDemo(t)
	browser := startBrowser(t)
	ann := open(t, browser, d.page()+"chat/?room=harbour&name=ann")
	ben := open(t, browser, d.page()+"chat/?room=harbour&name=ben")
	ann.waitConnected()
	ben.waitConnected()

	ann.say("Good morning! Is the tide in yet?")
	ben.shows(1)
	ben.say("Half an hour to go. The pilot boat is already out.")
	ann.shows(2)
	if out, err := pusher(d, says("tide gauge", "Water level 3.2 m, rising")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ann.shows(3)
	ben.shows(3)
	ann.say("Then I will get the coffee ready.")
	ben.shows(4)
	want := []string{
		"ann: Good morning! Is the tide in yet?",
		"ben: Half an hour to go. The pilot boat is already out.",
		"tide gauge: Water level 3.2 m, rising",
		"ann: Then I will get the coffee ready.",
	}
	for _, w := range []*window{ann, ben} {
		if got := w.said(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	keep(t, "chat.png", ann.screenshot(), ben.screenshot())

	const each = 10
	script := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < each && err == nil; i++ {
			err = pusher(d, says("script", fmt.Sprint("all at once ", i))).Run()
		}
		script <- err
	}()
	for i := range each {
		ann.say(fmt.Sprint("all at once ", i))
		ben.say(fmt.Sprint("all at once ", i))
	}
	if err := <-script; err != nil {
		t.Fatal(err)
	}
	ann.shows(len(want) + 3*each)
	ben.shows(len(want) + 3*each)

	got, other := ann.said()[len(want):], ben.said()[len(want):]
	if !slices.Equal(got, other) {
		t.Errorf("the windows differ:\n%q\n%q", got, other)
	}
	for _, user := range []string{"ann", "ben", "script"} {
		its := slices.DeleteFunc(slices.Clone(got), func(line string) bool { return !strings.HasPrefix(line, user+": ") })
		var wants []string
		for i := range each {
			wants = append(wants, fmt.Sprintf("%s: all at once %d", user, i))
		}
		if !slices.Equal(its, wants) {
			t.Errorf("what %s said: got %q, want %q", user, its, wants)
		}
	}
	ann.quiet()
	ben.quiet()
	d.stop()
}

// A page is told that its server goes, and comes back by itself when there is
// one again.
func TestChatPageComesBack(t *testing.T) {
	d := startDemo(t)
	w := open(t, startBrowser(t), d.page()+"chat/?name=ann")
	w.waitConnected()
	d.stop()
	w.do(chromedp.WaitVisible(chromedp.CSS(`#state[data-state="reconnecting"]`)))

	again := &demo{addr: d.addr, nats: d.nats}
	again.process = start(t, t.TempDir(), nil, tideway, "demo", "--addr", d.addr, "--nats-addr", d.nats)
	again.ready()
	w.waitConnected()
	w.say("here again")
	w.shows(1)
	again.stop()
}

// pusher is the Python example, about to push m into the room.
func pusher(d *demo, m chatMessage) *exec.Cmd {
	cmd := exec.Command(python, "push.py", "chat.harbour", m.json())
	cmd.Dir = root + "/examples/push"
	cmd.Env = append(os.Environ(), "NATS_ADDR="+d.nats)
	return cmd
}

// say types a message and sends it.
func (w *window) say(text string) {
	w.t.Helper()
	w.do(chromedp.SendKeys(chromedp.ID("text"), text), chromedp.Click(chromedp.ID("send")))
}

// said returns what the window shows.
func (w *window) said() []string {
	w.t.Helper()
	return eval[[]string](w, said)
}

// shows waits until the window shows n messages, and a little longer, for one
// too many.
func (w *window) shows(n int) {
	w.t.Helper()
	eventually(w.t, 10*time.Second, fmt.Sprintf("%d messages in the window", n), func() bool {
		return len(w.said()) >= n
	})
	if got := w.said(); len(got) != n {
		w.t.Errorf("got %d messages, want %d: %q", len(got), n, got)
	}
}

// screenshot takes a picture of the window, once all in it has come to rest.
func (w *window) screenshot() image.Image {
	w.t.Helper()
	rest := chromedp.Evaluate[bool](`Promise.all(document.getAnimations().filter((a) => isFinite(a.effect.getComputedTiming().activeDuration))
		.map((a) => a.finished.catch(() => {}))).then(() => true)`, chromedp.EvalAwaitPromise)
	if _, err := chromedp.Run(w.ctx, rest); err != nil {
		w.t.Fatal(err)
	}
	text, err := chromedp.Run(w.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		w.t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		w.t.Fatal(err)
	}
	return picture
}

// keep writes pictures side by side into one file: the README's when
// UPDATE_SCREENSHOT is set, else one that goes with the test.
func keep(t *testing.T, name string, pictures ...image.Image) {
	t.Helper()
	const gap = 32
	size := image.Point{X: -gap}
	for _, p := range pictures {
		size.X += p.Bounds().Dx() + gap
		size.Y = max(size.Y, p.Bounds().Dy())
	}
	all := image.NewRGBA(image.Rectangle{Max: size})
	left := 0
	for _, p := range pictures {
		draw.Draw(all, p.Bounds().Add(image.Pt(left, 0)), p, image.Point{}, draw.Src)
		left += p.Bounds().Dx() + gap
	}
	dir := t.TempDir()
	if os.Getenv("UPDATE_SCREENSHOT") != "" {
		dir = filepath.Join(root, "docs", "images")
	}
	var text bytes.Buffer
	small := png.Encoder{CompressionLevel: png.BestCompression}
	if err := small.Encode(&text, fewColors(all)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fewColors returns the picture in its 256 most frequent colors, which is a
// third of the bytes.
func fewColors(picture *image.RGBA) *image.Paletted {
	count := map[color.RGBA]int{}
	for y := range picture.Rect.Dy() {
		for x := range picture.Rect.Dx() {
			count[picture.RGBAAt(x, y)]++
		}
	}
	frequent := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return count[b] - count[a] })
	few := image.NewPaletted(picture.Rect, nil)
	for _, c := range frequent[:min(len(frequent), 256)] {
		few.Palette = append(few.Palette, c)
	}
	nearest := map[color.RGBA]uint8{}
	for c := range count {
		nearest[c] = uint8(few.Palette.Index(c))
	}
	for y := range picture.Rect.Dy() {
		for x := range picture.Rect.Dx() {
			few.SetColorIndex(x, y, nearest[picture.RGBAAt(x, y)])
		}
	}
	return few
}
