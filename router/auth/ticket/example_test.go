package ticket_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router/auth"
	"github.com/tideway-go/tideway/router/auth/ticket"
)

// One handler gives tickets to those whom another authenticator knows; the
// router redeems them.
func ExampleNew() {
	l, err := layer.New(membus.New(), nil) // or on a natsbus.Bus: any process redeems
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close(context.Background())
	tickets, err := ticket.New(l, nil)
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
