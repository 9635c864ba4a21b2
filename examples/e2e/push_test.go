package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

// Each way to push that examples/push shows reaches an open socket, and the
// example returns only when the message was taken.
func TestPushFromOtherLanguages(t *testing.T) {
	d := startDemo(t)
	listener := dial(t, d.room("lobby"))
	for _, argv := range [][]string{
		{python, "push.py"},
		{"bash", "push.sh"},
		{"bash", "nats-pub.sh"},
	} {
		t.Run(argv[1], func(t *testing.T) {
			m := says(argv[1], "grüße, 你好 \U0001f30a 'quoted' \"twice\"")
			cmd := exec.CommandContext(t.Context(), argv[0], append(argv[1:], "chat.lobby", m.json())...)
			cmd.Dir = root + "/examples/push"
			cmd.Env = append(os.Environ(), "NATS_ADDR="+d.nats, "NATS_URL=nats://"+d.nats)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", cmd, err, out)
			}
			listener.next(t, m)
		})
	}
	d.stop()
}

// The lines of bash in README.md push, as they stand there but for the address.
func TestPushFromREADME(t *testing.T) {
	d := startDemo(t)
	listener := dial(t, d.room("lobby"))
	text, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, lines, found := strings.Cut(string(text), "```sh\nexec 3<>")
	lines, _, closed := strings.Cut(lines, "```")
	if !found || !closed {
		t.Fatal("README.md has no block of sh that begins with exec 3<>")
	}
	lines = strings.Replace("exec 3<>"+lines, "127.0.0.1/4222", strings.Replace(d.nats, ":", "/", 1), 1)
	command(t, t.TempDir(), "", "bash", "-c", lines)
	listener.next(t, says("bash", "hi there"))
	d.stop()
}

// An example that cannot reach the server says so by its exit status.
func TestPushWithoutAServer(t *testing.T) {
	nowhere := freeport.Addr(t)
	for _, argv := range [][]string{{python, "push.py"}, {"bash", "push.sh"}, {"bash", "nats-pub.sh"}} {
		cmd := exec.CommandContext(t.Context(), argv[0], append(argv[1:], "chat.lobby", `{"type":"x"}`)...)
		cmd.Dir = root + "/examples/push"
		cmd.Env = append(os.Environ(), "NATS_ADDR="+nowhere, "NATS_URL=nats://"+nowhere)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%s: exit status 0 with no server\n%s", cmd, out)
		}
	}
}
