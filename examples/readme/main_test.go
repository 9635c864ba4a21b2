package main

import (
	"context"
	"testing"

	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

func TestRoom(t *testing.T) {
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	r, err := router.New(l, routes, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Shutdown(context.Background()) })

	ann := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
	ben := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
	ann.SendText(`{"type":"chat.message","user":"ann","text":"hello"}`)
	for _, c := range []*consumertest.Client{ann, ben} {
		if got, want := c.ReceiveText(), `{"type":"chat.message","user":"ann","text":"hello"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
