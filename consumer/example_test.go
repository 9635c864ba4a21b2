package consumer_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// talk serves app at /ws/{room}/, sends it messages, and prints each answer.
func talk(app consumer.App, messages ...string) {
	ctx := context.Background()
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close(ctx)
	r, err := router.New(l, router.Table{"/ws/{room}/": app}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Shutdown(ctx)
	server := httptest.NewServer(r)
	defer server.Close()
	ws, _, err := websocket.Dial(ctx, server.URL+"/ws/lobby/", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer ws.CloseNow()
	for _, m := range messages {
		if err := ws.Write(ctx, websocket.MessageText, []byte(m)); err != nil {
			log.Fatal(err)
		}
		_, answer, err := ws.Read(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(string(answer))
	}
}
