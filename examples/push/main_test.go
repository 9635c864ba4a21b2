package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// member is a channel in the group chat.lobby, in a network with a NATS server
// of its own.
func member(t *testing.T) (c *layer.Channel, url string) {
	t.Helper()
	bus, err := natsbus.New(t.Context(), &natsbus.Options{Embedded: &natsbus.Embedded{Listen: "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close(context.Background()) })
	l, err := layer.New(bus, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	if c, err = l.NewChannel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.GroupAdd(t.Context(), "chat.lobby", c.Name()); err != nil {
		t.Fatal(err)
	}
	return c, bus.ClientURL()
}

// receives fails the test unless the next message is want, byte for byte.
func receives(t *testing.T, c *layer.Channel, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := c.Receive(ctx)
	if err != nil || string(m.Data) != want {
		t.Errorf("got %s, %v; want %s", m.Data, err, want)
	}
}

func TestPush(t *testing.T) {
	c, url := member(t)
	message := `{"type":"chat.message", "user":"go", "text":"grüße 🌊"}`
	if err := push(t.Context(), url, "chat.lobby", message); err != nil {
		t.Fatal(err)
	}
	receives(t, c, message)

	var bad *layer.MessageError
	if err := push(t.Context(), url, "chat.lobby", `{"text":"no type"}`); !errors.As(err, &bad) {
		t.Errorf("a message without a type: %v, want a MessageError", err)
	}
	var name *layer.NameError
	if err := push(t.Context(), url, "chat lobby", message); !errors.As(err, &name) {
		t.Errorf("a group that cannot be: %v, want a NameError", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := push(ctx, "nats://127.0.0.1:1", "chat.lobby", message); err == nil {
		t.Error("no server: no error")
	}
}

// What the scripts write, and what the nats tool writes, is enough.
func TestBytesOnTheWire(t *testing.T) {
	c, url := member(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(conn)
	for _, connect := range []string{`{"verbose":false}`, `{"verbose":false,"pedantic":false,"name":"NATS CLI","lang":"go","version":"1.55.0","protocol":1,"echo":true,"headers":true,"no_responders":true}`} {
		message := `{"type":"chat.message","user":"wire","text":"hello"}`
		fmt.Fprintf(conn, "CONNECT %s\r\nPUB channels.grp.chat.lobby %d\r\n%s\r\nPING\r\n", connect, len(message), message)
		for in.Scan() && in.Text() != "PONG" {
			if strings.HasPrefix(in.Text(), "-ERR") {
				t.Fatal(in.Text())
			}
		}
		receives(t, c, message)
	}
}
