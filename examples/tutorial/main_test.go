package main

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

func TestChat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := layer.New(membus.New(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := router.New(l, router.Table{"/ws/chat/{room}/{$}": Chat},
			&router.Options{Origins: []string{"https://example.com"}, Hosts: []string{"example.com"}})
		if err != nil {
			t.Fatal(err)
		}
		r.Shutdown(t.Context())
		r, err = router.New(l, router.Table{"/ws/chat/{room}/{$}": Chat}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			r.Shutdown(context.Background())
			l.Close(context.Background())
		})
		ann := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
		bob := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
		ann.SendJSON(Message{User: "ann", Text: "hi"})
		var got Message
		bob.ReceiveJSON(&got)
		if want := (Message{"ann", "hi"}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestPage(t *testing.T) {
	w := httptest.NewRecorder()
	page(w, nil)
	if !strings.Contains(w.Body.String(), "new WebSocket") {
		t.Errorf("the page opens no socket:\n%s", w.Body)
	}
}
