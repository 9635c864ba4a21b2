package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router/httpapi"
)

// onNATS serves an open API of a process of its own.
func onNATS(t *testing.T, bus *natsbus.Bus) (*client, *layer.Layer) {
	t.Helper()
	d, l := newAPIOn(t, bus, &httpapi.Options{Open: true, Rate: -1}, jobs)
	srv := httptest.NewServer(d)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return &client{srv.Client(), srv.URL}, l
}

// Clients that are cut off again and again, and come back at any of two processes,
// get every message once and in order, while others are published.
func TestEventsOnNATS(t *testing.T) {
	bus, err := natsbus.New(t.Context(), &natsbus.Options{Embedded: &natsbus.Embedded{StoreDir: t.TempDir()}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close(context.Background()) })
	const messages, readers = 150, 6
	one, l := onNATS(t, bus)
	two, _ := onNATS(t, bus)
	var all sync.WaitGroup
	for i := range readers {
		all.Go(func() {
			next, last := 1, ""
			for visit := 0; next <= messages; visit++ {
				site := []*client{one, two}[(i+visit)%2]
				e, cut := site.openLazily(t, jobEvents+"?after=start", "Last-Event-ID: "+last)
				for range 7 + i {
					ev, err := e.next()
					if err != nil || ev.data != lineJSON(next) {
						t.Errorf("reader %d, visit %d: got %+v (%v), want line %d", i, visit, ev, err, next)
						cut()
						return
					}
					last = ev.id
					if next++; next > messages {
						break
					}
				}
				cut()
			}
		})
	}
	for n := 1; n <= messages; n++ {
		publish(t, l, "job.42", n, n)
	}
	finished := make(chan struct{})
	go func() { all.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(2 * patience):
		t.Error("the readers are not done")
	}
}

// What goes in by the door comes out at the other end of the network.
func TestHistoryOnNATS(t *testing.T) {
	bus, err := natsbus.New(t.Context(), &natsbus.Options{Embedded: &natsbus.Embedded{StoreDir: t.TempDir()}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close(context.Background()) })
	one, _ := onNATS(t, bus)
	two, _ := onNATS(t, bus)
	for n := 1; n <= 3; n++ {
		for range 2 { // the second time is a retry
			w := one.post(t, "/api/v1/groups/job.7/messages", lineJSON(n), "Idempotency-Key: "+fmt.Sprint("line-", n))
			if w.StatusCode != 200 {
				t.Fatalf("got %s", w.Status)
			}
		}
	}
	res := two.get(t, "/api/v1/groups/job.7/messages?last=2")
	var p page
	if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	if len(p.Messages) != 2 || p.Messages[0].Data.N != 2 || p.Messages[1].Data.N != 3 || p.More {
		t.Errorf("got %+v, want lines 2 and 3", p)
	}
}
