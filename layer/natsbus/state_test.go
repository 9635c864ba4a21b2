package natsbus

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// bucket opens the only bucket of a network as any client of NATS does.
func bucket(t *testing.T, b *Bus) (jetstream.JetStream, jetstream.KeyValue) {
	t.Helper()
	js, err := jetstream.New(b.conn)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "CHANNELS_state")
	if err != nil {
		t.Fatal(err)
	}
	return js, kv
}

// Tickets and keys lie in one bucket, which holds the hash of a ticket alone, and of
// a used one nothing but a marker that ends, too.
func TestTicketsInTheBucket(t *testing.T) {
	b := openBus(t, &Options{Embedded: &Embedded{StoreDir: t.TempDir()}})
	l, err := layer.New(b, &layer.Options{Groups: []layer.Retention{{Pattern: "job.>", Messages: 10, Age: time.Hour}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	ticket, err := l.Issue(t.Context(), "door", []byte("ann"), 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	js, kv := bucket(t, b)
	names := js.KeyValueStoreNames(t.Context())
	for name := range names.Name() {
		if name != "CHANNELS_state" {
			t.Errorf("there is a bucket %s", name)
		}
	}
	if err := names.Error(); err != nil {
		t.Fatal(err)
	}
	key := ""
	keys, err := kv.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if strings.HasPrefix(k, "ticket.") {
			key = k
		}
		entry, err := kv.Get(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(k, ticket) || strings.Contains(string(entry.Value()), ticket) {
			t.Errorf("the ticket is in %s = %s", k, entry.Value())
		}
	}
	if len(keys) != 2 || key == "" {
		t.Fatalf("the bucket has %v, want the keys and a ticket", keys)
	}
	last := func() *jetstream.RawStreamMsg {
		t.Helper()
		stream, err := js.Stream(t.Context(), "KV_CHANNELS_state")
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.GetLastMsgForSubject(t.Context(), "$KV.CHANNELS_state."+key)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if got := last().Header.Get("Nats-TTL"); got != "30s" {
		t.Errorf("the ticket's time is %q, want 30s", got)
	}
	if data, err := l.Redeem(t.Context(), "door", ticket); err != nil || string(data) != "ann" {
		t.Fatalf("got %q, %v", data, err)
	}
	if m := last(); len(m.Data) != 0 || m.Header.Get("KV-Operation") != "PURGE" || m.Header.Get("Nats-TTL") != "1m0s" {
		t.Errorf("a used ticket leaves %q %v; want a marker with an end", m.Data, m.Header)
	}
}

// A bucket that is made when the first ticket is asked for, and one that somebody
// deleted, are made by whoever comes; of fifty with one ticket, one gets it.
func TestTicketsOfManyProcesses(t *testing.T) {
	b := openBus(t, &Options{Embedded: &Embedded{StoreDir: t.TempDir()}})
	var layers [2]*layer.Layer
	for i := range layers {
		l, err := layer.New(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close(context.Background()) })
		layers[i] = l
	}
	for turn := range 2 {
		ticket, err := layers[0].Issue(t.Context(), "door", []byte("ann"), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var got [50]bool
		var all sync.WaitGroup
		for i := range got {
			all.Go(func() {
				_, err := layers[i%2].Redeem(t.Context(), "door", ticket)
				got[i] = err == nil
			})
		}
		all.Wait()
		n := 0
		for _, in := range got {
			if in {
				n++
			}
		}
		if n != 1 {
			t.Errorf("turn %d: %d of 50 got in with one ticket", turn, n)
		}
		js, _ := bucket(t, b)
		if err := js.DeleteKeyValue(t.Context(), "CHANNELS_state"); err != nil {
			t.Fatal(err)
		}
	}
}

// The first request of a read meets no leader, so that nobody ever answers it.
func TestLeaderIsAskedAgain(t *testing.T) {
	b := openBus(t, &Options{Embedded: &Embedded{NoJetStream: true}})
	var asked atomic.Int64
	if _, err := b.Conn().Subscribe("$JS.API.STREAM.MSG.GET.S", func(m *nats.Msg) {
		if asked.Add(1) > 1 {
			if err := m.Respond([]byte(`{"message":{"subject":"a","seq":7,"data":"aGk="}}`)); err != nil {
				t.Error(err)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), openMost)
	defer cancel()
	m, err := b.leaderGet(ctx, "S", msgGet{LastFor: "a"})
	if err != nil || m.Seq != 7 || string(m.Data) != "hi" {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestClockAhead(t *testing.T) {
	sent := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	now := sent.Add(time.Second)
	for _, x := range []struct{ at, want time.Duration }{
		{-time.Minute, -time.Minute}, {0, 0}, {300 * time.Millisecond, 0}, {time.Second, 0}, {3 * time.Second, 2 * time.Second},
	} {
		if got := clockAhead(sent.Add(x.at), sent, now); got != x.want {
			t.Errorf("a clock that says %v after %v in the %v that the answer takes: got %v, want %v", x.at, sent, now.Sub(sent), got, x.want)
		}
	}
}
