package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

// chatMessage is what travels both ways on a chat's socket, and through its group.
type chatMessage struct {
	Type string `json:"type"`
	User string `json:"user"`
	Text string `json:"text"`
}

func says(user, text string) chatMessage { return chatMessage{"chat.message", user, text} }

func (m chatMessage) json() string {
	text, _ := json.Marshal(m)
	return string(text)
}

// demo is the demo site in a process of its own.
type demo struct {
	*process
	addr string // of the site
	nats string // of the NATS server that it embeds or uses
}

// startDemo runs `tideway demo` on free ports and returns once its page is there.
func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{addr: freeport.Addr(t), nats: freeport.Addr(t)}
	d.process = start(t, t.TempDir(), nil, tideway, "demo", "--addr", d.addr, "--nats-addr", d.nats)
	d.ready()
	return d
}

// joinDemo runs `tideway demo` on somebody else's NATS server.
func joinDemo(t *testing.T, nats string) *demo {
	t.Helper()
	d := &demo{addr: freeport.Addr(t), nats: nats}
	d.process = start(t, t.TempDir(), nil, tideway, "demo", "--addr", d.addr, "--nats", "nats://"+nats)
	d.ready()
	return d
}

func (d *demo) ready() {
	d.t.Helper()
	eventually(d.t, 30*time.Second, "the page of "+d.cmd.String(), func() bool {
		d.alive()
		_, status := get(d.page())
		return status == http.StatusOK
	})
}

func (d *demo) page() string { return "http://" + d.addr + "/" }

func (d *demo) room(name string) string { return "ws://" + d.addr + "/ws/chat/" + name + "/" }

// get returns a page and its status, 0 when nobody answers.
func get(url string) (body string, status int) {
	r, err := http.Get(url)
	if err != nil {
		return "", 0
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return "", 0
	}
	return string(text), r.StatusCode
}

// socket is a WebSocket client in the test's own process. It reads all the time.
type socket struct {
	*websocket.Conn
	heard chan chatMessage
	ended chan error // one error, when the connection has ended
}

// dial connects a client that has room for a thousand unread messages.
func dial(t *testing.T, url string) *socket {
	t.Helper()
	return dialWith(t, url, nil)
}

func dialWith(t *testing.T, url string, opts *websocket.DialOptions) *socket {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, response, err := websocket.Dial(ctx, url, opts)
	if err != nil {
		t.Fatalf("%s: %v (%+v)", url, err, response)
	}
	s := &socket{Conn: c, heard: make(chan chatMessage, 1000), ended: make(chan error, 1)}
	go s.listen()
	t.Cleanup(func() { c.CloseNow() })
	return s
}

func (s *socket) listen() {
	for {
		_, data, err := s.Read(context.Background())
		if err != nil {
			s.ended <- err
			return
		}
		var m chatMessage
		if err := json.Unmarshal(data, &m); err != nil {
			s.ended <- err
			return
		}
		s.heard <- m
	}
}

// say sends a message of the chat.
func (s *socket) say(t *testing.T, m chatMessage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Write(ctx, websocket.MessageText, []byte(m.json())); err != nil {
		t.Fatal(err)
	}
}

// next fails the test unless the next message is want.
func (s *socket) next(t *testing.T, want chatMessage) {
	t.Helper()
	select {
	case got := <-s.heard:
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	case err := <-s.ended:
		t.Fatalf("the connection ended: %v; want %+v", err, want)
	case <-time.After(10 * time.Second):
		t.Fatalf("nothing arrived within 10 s, want %+v", want)
	}
}

// send pushes a message as an operator does: `tideway send`.
func (d *demo) send(group string, m chatMessage) {
	d.t.Helper()
	command(d.t, "", "", tideway, "send", "--nats", "nats://"+d.nats, group, m.json())
}

// Two sites on one NATS server are one system: whoever is in a room hears what
// is said in it on either, and what a script pushes.
func TestTwoSitesOnOneNATS(t *testing.T) {
	addr := freeport.Addr(t)
	broker := startNATS(t, addr, t.TempDir())
	one, two := joinDemo(t, addr), joinDemo(t, addr)
	alice, bob := dial(t, one.room("lobby")), dial(t, two.room("lobby"))
	elsewhere := dial(t, two.room("elsewhere"))

	alice.say(t, says("alice", "hello"))
	bob.next(t, says("alice", "hello"))
	alice.next(t, says("alice", "hello"))
	bob.say(t, says("bob", "hello yourself"))
	alice.next(t, says("bob", "hello yourself"))
	bob.next(t, says("bob", "hello yourself"))
	one.send("chat.lobby", says("script", "from outside"))
	alice.next(t, says("script", "from outside"))
	bob.next(t, says("script", "from outside"))

	one.stop()
	two.stop()
	broker.alive()
	select {
	case m := <-elsewhere.heard:
		t.Errorf("another room heard %+v", m)
	case err := <-elsewhere.ended:
		// promises: a server that goes away says so and when to come back.
		if code := websocket.CloseStatus(err); code != websocket.StatusServiceRestart {
			t.Errorf("after SIGTERM: got close status %d (%v), want 1012", code, err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the socket outlived its server")
	}
}

// The commands of the README, as a stranger types them after `git clone`.
func TestFirstCommandOnACleanClone(t *testing.T) {
	clone := t.TempDir() + "/tideway"
	command(t, root, "", "git", "clone", "--quiet", "--no-hardlinks", ".", clone)
	addr, nats := freeport.Addr(t), freeport.Addr(t)
	d := &demo{addr: addr, nats: nats}
	d.process = start(t, clone, nil, "go", "run", "./cmd/tideway", "demo", "--addr", addr, "--nats-addr", nats)
	eventually(t, 5*time.Minute, "the demo's page", func() bool {
		d.alive()
		_, status := get(d.page())
		return status == http.StatusOK
	})
	program := child(t, d.cmd.Process.Pid)
	eventually(t, 30*time.Second, "the demo prints its address", func() bool { return strings.Contains(d.output.String(), "http://"+addr+"/") })

	alice := dial(t, d.room("lobby"))
	command(t, clone, "", "go", "run", "./cmd/tideway", "send", "--nats", "nats://"+nats, "chat.lobby", says("script", "hello").json())
	alice.next(t, says("script", "hello"))

	program.Signal(syscall.SIGTERM)
	d.wait() // `go run` passes the exit status on
}
