package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A connection that broke between two messages may have taken the first with it,
// and nobody would ever know: send says so.
func TestSendOverABrokenLink(t *testing.T) {
	site, addr := startSite(t, "--nats-addr", "127.0.0.1:0")
	listener := join(t, addr)
	link, err := startProxy(strings.TrimPrefix(site.find(t, ` --nats (\S+)`), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer link.stop()

	input, keyboard := io.Pipe()
	var stdout, stderr output
	status := make(chan int, 1)
	go func() {
		status <- run(t.Context(), []string{"send", "chat.lobby", "--nats", "nats://" + link.Addr().String()}, input, &stdout, &stderr, noEnv)
	}()
	io.WriteString(keyboard, says("script", "one")+"\n")
	listener.hear(t, says("script", "one"))
	link.cut()
	stderr.await(t, "the link to the network is down")
	link.mend()
	stderr.await(t, "the link to the network is up again")
	io.WriteString(keyboard, says("script", "two")+"\n")
	listener.hear(t, says("script", "two"))
	keyboard.Close()

	select {
	case got := <-status:
		if got != 1 {
			t.Errorf("got exit status %d, want 1", got)
		}
	case <-time.After(patience):
		t.Fatal("send does not end")
	}
	stderr.await(t, "of 2 messages some may be lost: the connection broke meanwhile")
}

// `tideway tail chat.lobby | head -1` ends without a word when head does.
func TestTailIntoAClosedPipe(t *testing.T) {
	site, addr := startSite(t, "--nats-addr", "127.0.0.1:0")
	speaker := join(t, addr)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stderr output
	tail := exec.CommandContext(ctx, "tideway", "tail", "chat.lobby", "--nats", site.find(t, ` --nats (\S+)`))
	tail.Stdout, tail.Stderr = writer, &stderr
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	stderr.await(t, "listening to chat.lobby")
	reader.Close()
	if err := speaker.say(says("ann", "hi")); err != nil {
		t.Fatal(err)
	}
	if err := tail.Wait(); err != nil {
		t.Errorf("got %v, want exit status 0", err)
	}
	if got := strings.Count(stderr.String(), "\n"); got != 1 {
		t.Errorf("got %d lines on stderr, want the first alone:\n%s", got, &stderr)
	}
}

// An interrupt ends a send that waits for somebody to type.
func TestInterruptedSend(t *testing.T) {
	site, addr := startSite(t, "--nats-addr", "127.0.0.1:0")
	listener := join(t, addr)
	input, keyboard := io.Pipe()
	defer keyboard.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr output
	status := make(chan int, 1)
	server := site.find(t, ` --nats (\S+)`)
	go func() {
		status <- run(ctx, []string{"send", "chat.lobby", "--nats", server}, input, &stdout, &stderr, noEnv)
	}()
	io.WriteString(keyboard, says("script", "one")+"\n")
	listener.hear(t, says("script", "one"))
	cancel()
	select {
	case got := <-status:
		if got != 1 {
			t.Errorf("got exit status %d, want 1", got)
		}
	case <-time.After(patience):
		t.Fatal("send does not end")
	}
	stderr.await(t, "tideway: 1 message sent to the group chat.lobby")
	stderr.await(t, "tideway: line 2: interrupted")
}
