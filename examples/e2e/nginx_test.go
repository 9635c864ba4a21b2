package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/examples/internal/freeport"
	"github.com/tideway-go/tideway/router"
)

// nginx is a real nginx in front of a site, with the configuration that
// docs/deploy.md recommends.
type nginx struct {
	*process
	addr   string
	client *http.Client // trusts its certificate
	conf   string       // the file of its configuration
}

var (
	listenTLS   = regexp.MustCompile(`listen\s+443\b`)
	listenPlain = regexp.MustCompile(`listen\s+80\b`)
	listenSix   = regexp.MustCompile(`(?m)^\s*listen\s+\[::\].*\n`)
	certFile    = regexp.MustCompile(`ssl_certificate\s+[^;]+;`)
	keyFile     = regexp.MustCompile(`ssl_certificate_key\s+[^;]+;`)
	upstream    = regexp.MustCompile(`127\.0\.0\.1:8000`)
	readTimeout = regexp.MustCompile(`proxy_read_timeout\s+[^;]+;`)
)

// startNGINX runs nginx before the site at backend. patience, unless it is "",
// takes the place of each proxy_read_timeout. More are directives beside the
// servers.
func startNGINX(t *testing.T, backend, patience string, more ...string) *nginx {
	t.Helper()
	dir := t.TempDir()
	n := &nginx{addr: freeport.Addr(t), client: certificate(t, dir)}
	servers := strings.Join(fenced(t, "deploy.md", "nginx"), "\n")
	for _, edit := range []struct {
		pattern *regexp.Regexp
		by      string
	}{
		{listenSix, ""},
		{listenTLS, "listen " + n.addr},
		{listenPlain, "listen " + freeport.Addr(t)},
		{certFile, "ssl_certificate " + dir + "/cert.pem;"},
		{keyFile, "ssl_certificate_key " + dir + "/key.pem;"},
		{upstream, backend},
	} {
		servers = edit.pattern.ReplaceAllLiteralString(servers, edit.by)
	}
	if patience != "" {
		if !readTimeout.MatchString(servers) {
			t.Fatalf("docs/deploy.md sets no proxy_read_timeout:\n%s", servers)
		}
		servers = readTimeout.ReplaceAllString(servers, "proxy_read_timeout "+patience+";")
	}
	if !strings.Contains(servers, n.addr) || !strings.Contains(servers, backend) {
		t.Fatalf("docs/deploy.md has another port than 443, or another backend than 127.0.0.1:8000:\n%s", servers)
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, servers, strings.Join(more, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, dir, "", "nginx", "-t", "-q", "-e", "stderr", "-c", conf)
	n.conf = conf
	n.process = start(t, dir, nil, "nginx", "-e", "stderr", "-c", conf)
	waitForPort(t, n.process, n.addr)
	return n
}

// again starts nginx once more, after it was killed.
func (n *nginx) again() {
	n.t.Helper()
	n.process = start(n.t, n.cmd.Dir, nil, "nginx", "-e", "stderr", "-c", n.conf)
	waitForPort(n.t, n.process, n.addr)
}

// nginxConf is the frame into which the servers of the page belong.
const nginxConf = `
daemon off;
user root;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log stderr notice;
events {}
%[3]s
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	%[2]s
}
`

// dial opens a socket through nginx.
func (n *nginx) dial(path string) *socket {
	n.t.Helper()
	return dialWith(n.t, "wss://"+n.addr+path, &websocket.DialOptions{HTTPClient: n.client})
}

// A chat through nginx: the page, sockets, and a reload of nginx under them, as
// after each change of its configuration.
func TestChatThroughNGINX(t *testing.T) {
	d := startDemo(t)
	n := startNGINX(t, d.addr, "")
	page, err := n.client.Get("https://" + n.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	if page.StatusCode != http.StatusOK {
		t.Errorf("the page through nginx: status %d", page.StatusCode)
	}

	alice := n.dial("/ws/chat/lobby/")
	d.send("chat.lobby", says("script", "before"))
	alice.next(t, says("script", "before"))

	n.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, 10*time.Second, "nginx reloads", func() bool {
		return strings.Contains(n.output.String(), "gracefully shutting down")
	})
	bob := n.dial("/ws/chat/lobby/")
	alice.say(t, says("alice", "still here"))
	for _, c := range []*socket{alice, bob} {
		c.next(t, says("alice", "still here"))
	}
	d.stop()
}

// nginx cuts a connection on which nothing moves for proxy_read_timeout. Pings
// keep it open; without them it goes, which shows that the test tests.
func TestIdleThroughNGINX(t *testing.T) {
	for _, c := range []struct {
		name     string
		interval time.Duration
		stays    bool
	}{
		{"with pings", 400 * time.Millisecond, true},
		{"without pings", -1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, router.Limits{PingInterval: c.interval})
			n := startNGINX(t, s.Listener.Addr().String(), "5s")
			idle := n.dial("/notes")
			select {
			case err := <-idle.ended:
				if c.stays {
					t.Fatalf("the idle socket was cut: %v", err)
				}
				return
			case <-time.After(12 * time.Second):
				if !c.stays {
					t.Fatal("nginx did not cut the idle socket")
				}
			}
			if err := s.layer.GroupSend(t.Context(), "notes", note{"awake?"}); err != nil {
				t.Fatal(err)
			}
			idle.next(t, chatMessage{Type: "note", Text: "awake?"})
		})
	}
}
