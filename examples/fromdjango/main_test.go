package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

func serve(t *testing.T) *router.Router {
	t.Helper()
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	u := &updates{layer: l, group: "updates"}
	r, err := router.New(l, router.Table{
		"/ws/chat/{$}":       ChatConsumer,
		"/ws/slow/{$}":       SlowConsumer,
		"/ws/ver_update/{$}": UpdateConsumer(u),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		u.work.Wait()
		r.Shutdown(context.Background())
		l.Close(context.Background())
	})
	return r
}

func TestChatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := consumertest.Dial(t, serve(t), "/ws/chat/", nil)
		c.SendText(`{"a":1}`)
		if got, want := c.ReceiveText(), `{"message":"result: map[a:1]"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestSlowHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t)
		slow := consumertest.Dial(t, r, "/ws/slow/", &consumertest.Options{Timeout: time.Minute})
		other := consumertest.Dial(t, r, "/ws/chat/", nil)
		slow.SendText("go")
		other.SendText(`{}`)
		start := time.Now()
		other.ReceiveText()
		if took := time.Since(start); took != 0 {
			t.Errorf("the other connection waited %v", took)
		}
		for range 10 {
			slow.ReceiveText()
		}
	})
}

func TestUpdateOutlivesWhoStartedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t)
		first := consumertest.Dial(t, r, "/ws/ver_update/", nil)
		second := consumertest.Dial(t, r, "/ws/ver_update/", nil)
		first.SendText(`{"servers":3}`)
		first.ReceiveText()
		first.Close(1001, "")
		for i, want := range []string{
			`{"type":"update.progress","server":1,"text":"updated"}`,
			`{"type":"update.progress","server":2,"text":"updated"}`,
			`{"type":"update.progress","server":3,"text":"updated"}`,
		} {
			if got := second.ReceiveText(); got != want {
				t.Errorf("line %d: got %s, want %s", i+1, got, want)
			}
		}
	})
}
