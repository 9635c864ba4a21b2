package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

func TestEcho(t *testing.T) {
	var log bytes.Buffer
	r, err := router.New(nil, routes, &router.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	c := consumertest.Dial(t, r, "/ws/echo", nil)
	for _, want := range []consumer.Frame{
		consumer.TextFrame("hello"),
		consumer.TextFrame(""),
		consumer.TextFrame("grüße, 你好 🌊"),
		consumer.BinaryFrame([]byte{0, 1, 0xff}),
		consumer.TextFrame(strings.Repeat("x", 60_000)),
	} {
		c.Send(want)
		if got := c.Receive(); got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("got %v %.40q, want %v %.40q", got.Type, got.Data, want.Type, want.Data)
		}
	}
	c.Close(consumer.StatusNormalClosure, "")
	if err := r.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if want := "texts=4 binaries=1"; !strings.Contains(log.String(), want) {
		t.Errorf("the log is %q, want it to say %q", log.String(), want)
	}
}
