package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

// push_http.sh says by its exit status, and in the server's words, that nobody
// was told.
func TestPushOverHTTPRefused(t *testing.T) {
	addr := freeport.Addr(t)
	push := func(user string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash", "push_http.sh", user, "hello")
		cmd.Dir = root + "/examples/push"
		cmd.Env = append(os.Environ(), "SITE=http://"+addr)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := push("ann"); err == nil {
		t.Errorf("no server: exit status 0\n%s", out)
	}

	site := start(t, t.TempDir(), nil, notify, "-addr", addr, "-nats", freeport.Addr(t), "-store", t.TempDir())
	waitForPort(t, site, addr)
	if out, err := push("no%20such%20user"); err == nil || !strings.Contains(out, "there can be no such user") {
		t.Errorf("a user that cannot be: %v\n%s", err, out)
	}
	site.stop()
}
