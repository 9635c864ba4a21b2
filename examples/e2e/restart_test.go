package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

// The NATS server is killed under two sites with a hundred sockets each. The
// sockets stay, and ten seconds after its return messages reach all of them.
func TestNATSKilledUnderOpenSockets(t *testing.T) {
	addr, store := freeport.Addr(t), t.TempDir()
	broker := startNATS(t, addr, store)
	sites := []*demo{joinDemo(t, addr), joinDemo(t, addr)}
	var clients []*socket
	for i := range 200 {
		clients = append(clients, dial(t, sites[i%2].room("lobby")))
	}
	publish(t, addr, says("script", "before"))
	for _, c := range clients {
		c.next(t, says("script", "before"))
	}

	broker.kill()
	startNATS(t, addr, store)
	back := time.Now()

	late := untilAllHear(t, addr, clients, back.Add(10*time.Second))
	t.Logf("all %d clients hear again %s after the return of NATS", len(clients), late.Sub(back).Round(time.Millisecond))
	publish(t, addr, says("script", "after"))
	for _, c := range clients {
		c.next(t, says("script", "after"))
	}
	for _, s := range sites {
		s.stop()
	}
}

// untilAllHear publishes a message every 100 ms until each client has heard one,
// and returns when that was. Each client hears the rest without a gap.
func untilAllHear(t *testing.T, addr string, clients []*socket, deadline time.Time) time.Time {
	t.Helper()
	first := make([]int, len(clients)) // what each heard first, or 0
	deaf, sent := len(clients), 0
	for deaf > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d clients hear nothing in time", deaf, len(clients))
		}
		sent++
		publish(t, addr, says("script", fmt.Sprint("again ", sent)))
		time.Sleep(100 * time.Millisecond)
		for i, c := range clients {
			if first[i] > 0 {
				continue
			}
			select {
			case err := <-c.ended:
				t.Fatalf("client %d lost its connection: %v", i, err)
			case m := <-c.heard:
				if _, err := fmt.Sscanf(m.Text, "again %d", &first[i]); err != nil {
					t.Fatalf("client %d heard %+v", i, m)
				}
				deaf--
			default:
			}
		}
	}
	now := time.Now()
	for i, c := range clients {
		for n := first[i] + 1; n <= sent; n++ {
			c.next(t, says("script", fmt.Sprint("again ", n)))
		}
	}
	return now
}

// publish pushes a message into the lobby with the NATS client, as a program
// that has no Tideway does.
func publish(t *testing.T, addr string, m chatMessage) {
	t.Helper()
	nc, err := nats.Connect("nats://"+addr, nats.Timeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Publish("channels.grp.chat.lobby", []byte(m.json())); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}
