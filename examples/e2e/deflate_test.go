package e2e

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// crowd tells each member of a group what any of them sends.
var crowd = consumer.Type[struct{}]{
	Groups: []string{"crowd"},
	Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
		return c.GroupSend(ctx, "crowd", note{Text: string(f.Data)})
	},
	Messages: consumer.Table(consumer.Forward[struct{}, note]()),
}

// startCompressing serves a crowd with compression, and returns its URL for
// sockets.
func startCompressing(t *testing.T) string {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := layer.New(membus.New(), &layer.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	r, err := router.New(l, router.Table{"/crowd": crowd}, &router.Options{
		Compression: &router.Compression{},
		Limits:      router.Limits{MessageRate: -1, ByteRate: -1},
		Logger:      logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Errorf("shut down the router: %v", err)
		}
		server.Close()
		if err := l.Close(ctx); err != nil {
			t.Errorf("close the layer: %v", err)
		}
	})
	return strings.Replace(server.URL, "http:", "ws:", 1) + "/crowd"
}

const agreed = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"

func TestDeflatePython(t *testing.T) {
	got := command(t, "testdata", "", python, "deflate.py", startCompressing(t))
	want := `takeover: [` + agreed + `] 40 messages, closed 1000
no takeover: [` + agreed + `] 40 messages, closed 1000
client window: [` + agreed + `] 40 messages, closed 1000
server window: [] 40 messages, closed 1000
off: [] 40 messages, closed 1000
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestDeflateNode(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "client.js"} {
		data, err := os.ReadFile(filepath.Join("testdata", "ws", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command(t, dir, "", "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline")
	got := command(t, dir, "", "node", "client.js", startCompressing(t))
	want := `takeover: [permessage-deflate] 40 messages, compressed, closed 1000
no takeover: [permessage-deflate] 40 messages, compressed, closed 1000
client window: [permessage-deflate] 40 messages, compressed, closed 1000
server window: [] 40 messages, as they are, closed 1000
off: [] 40 messages, as they are, closed 1000
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// deflatePage talks to the crowd at the URL behind its "#".
const deflatePage = `<!doctype html><meta charset="utf-8"><title>crowd</title><script>
const messages = [];
for (let i = 0; i < 40; i++) messages.push(i + " " + "Ebbe und Flut, ".repeat([0, 1, 100, 3000][i % 4]));
let next = 0;
function done(text) {
	const p = document.createElement("p");
	p.id = "result";
	p.textContent = text;
	document.body.append(p);
}
const ws = new WebSocket(location.hash.slice(1));
ws.onopen = () => ws.send(messages[0]);
ws.onmessage = (e) => {
	if (JSON.parse(e.data).text !== messages[next]) return done("message " + next + ": got " + e.data.slice(0, 40));
	if (++next < messages.length) return ws.send(messages[next]);
	ws.onclose = (e) => done("[" + ws.extensions + "] " + next + " messages, closed " + e.code);
	ws.close(1000);
};
ws.onclose = (e) => done("closed " + e.code + " " + e.reason);
</script><body></body>`

func TestDeflateChromium(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			w.WriteHeader(http.StatusNoContent) // the browser asks for an icon
			return
		}
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte(deflatePage))
	}))
	defer page.Close()
	w := open(t, startBrowser(t), page.URL+"/#"+startCompressing(t))
	w.do(chromedp.WaitVisible(chromedp.CSS("#result")))
	if got, want := eval[string](w, `document.querySelector("#result").textContent`), "["+agreed+"] 40 messages, closed 1000"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.quiet()
}
