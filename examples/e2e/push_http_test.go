package e2e

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// curl reaches the window that a user has open, through an ordinary HTTP handler.
func TestPushOverHTTP(t *testing.T) {
	notify := filepath.Join(t.TempDir(), "notify")
	command(t, root, "", "go", "build", "-o", notify, "./examples/notify")
	addr := freeAddr(t)
	site := start(t, t.TempDir(), nil, notify, "-addr", addr, "-nats", freeAddr(t))
	waitForPort(t, site, addr)

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	response, err := browser.PostForm("http://"+addr+"/login", url.Values{"user": {"ann"}})
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+addr+"/ws/notify/", &websocket.DialOptions{
		HTTPClient: browser,
		HTTPHeader: http.Header{"Origin": {"http://" + addr}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()

	cmd := exec.CommandContext(ctx, "bash", "push_http.sh", "ann", "grüße & 'more' = 100 %")
	cmd.Dir = root + "/examples/push"
	cmd.Env = append(os.Environ(), "SITE=http://"+addr)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	_, got, err := ws.Read(ctx)
	if want := `{"type":"notify.message","text":"grüße \u0026 'more' = 100 %"}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}

	cmd = exec.CommandContext(ctx, "bash", "push_http.sh", "no such user", "hello")
	cmd.Dir = root + "/examples/push"
	cmd.Env = append(os.Environ(), "SITE=http://"+addr)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("a user that cannot be: exit status 0\n%s", out)
	}
	ws.Close(websocket.StatusNormalClosure, "")
	site.stop()
}
