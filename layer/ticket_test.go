package layer_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// A ticket works once, in any process, for its purpose and within its time.
func TestTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		a, b := newLayer(t, bus, nil), newLayer(t, bus, nil)
		issue := func() string {
			t.Helper()
			ticket, err := a.Issue(t.Context(), "door", []byte("ann"), 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			return ticket
		}
		ticket := issue()
		for _, wrong := range []string{"", ticket[1:], ticket + "A", strings.ToLower(ticket), strings.Repeat("A", 26)} {
			if _, err := b.Redeem(t.Context(), "door", wrong); !errors.Is(err, layer.ErrNoTicket) {
				t.Errorf("%q: got %v, want ErrNoTicket", wrong, err)
			}
		}
		if _, err := b.Redeem(t.Context(), "gate", ticket); !errors.Is(err, layer.ErrNoTicket) {
			t.Errorf("for another purpose: got %v, want ErrNoTicket", err)
		}
		if data, err := b.Redeem(t.Context(), "door", ticket); err != nil || string(data) != "ann" {
			t.Errorf("got %q, %v", data, err)
		}
		if _, err := a.Redeem(t.Context(), "door", ticket); !errors.Is(err, layer.ErrNoTicket) {
			t.Errorf("the second time: got %v, want ErrNoTicket", err)
		}
		late := issue()
		time.Sleep(31 * time.Second)
		if _, err := b.Redeem(t.Context(), "door", late); !errors.Is(err, layer.ErrNoTicket) {
			t.Errorf("too late: got %v, want ErrNoTicket", err)
		}
	})
}

func TestTicketsThatCannotBe(t *testing.T) {
	l := newLayer(t, membus.New(), nil)
	for _, test := range []struct {
		name string
		data []byte
		age  time.Duration
		want string
	}{
		{"no time", []byte("a"), 0, "0s"},
		{"less than a second", []byte("a"), time.Second / 2, "500ms"},
		{"half a second", []byte("a"), 1500 * time.Millisecond, "1.5s"},
		{"more than an hour", []byte("a"), 2 * time.Hour, "2h0m0s"},
		{"nothing", nil, time.Second, "empty"},
		{"too much", bytes.Repeat([]byte("a"), 2<<20), time.Second, layer.ErrTooLarge.Error()},
	} {
		if _, err := l.Issue(t.Context(), "door", test.data, test.age); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", test.name, err, test.want)
		}
	}
}
