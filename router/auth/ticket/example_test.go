package ticket_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
	"github.com/tideway-go/tideway/router/auth/ticket"
)

// One handler gives tickets to those whom another authenticator knows; the
// router redeems them.
func ExampleNew() {
	nc, stop := startBroker()
	defer stop()
	tickets, err := ticket.New(context.Background(), nc, nil)
	if err != nil {
		log.Fatal(err)
	}
	users := auth.Func(func(*http.Request) (consumer.User, error) { return consumer.User{ID: "ada"}, nil })
	page := tickets.Handler(users, nil) // mux.Handle("/ticket", page)

	answer := httptest.NewRecorder()
	page.ServeHTTP(answer, httptest.NewRequest("POST", "/ticket", nil))
	var got struct{ Ticket string }
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
		log.Fatal(err)
	}

	r := httptest.NewRequest("GET", "/ws/?ticket="+got.Ticket, nil)
	for range 2 { // router.Options{Authenticate: tickets}
		u, err := tickets.Authenticate(r)
		fmt.Printf("%q %v\n", u.ID, err)
	}
	// Output:
	// "ada" <nil>
	// "" consumer: denied with 401: the ticket is not valid, was used, or has expired
}

func startBroker() (*nats.Conn, func()) {
	store, err := os.MkdirTemp("", "ticket")
	if err != nil {
		log.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: store, NoSigs: true, NoLog: true})
	if err != nil {
		log.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		log.Fatal("the broker is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		log.Fatal(err)
	}
	return nc, func() {
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
		_ = os.RemoveAll(store)
	}
}
