package natsbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

var testPolicy = layer.Retention{Pattern: "job.>", Messages: 100, Age: time.Hour}

func durableLayer(t testing.TB, b *Bus) *layer.Layer {
	t.Helper()
	return keepingLayer(t, b, testPolicy)
}

func keepingLayer(t testing.TB, b *Bus, policy layer.Retention) *layer.Layer {
	t.Helper()
	l, err := layer.New(b, &layer.Options{
		Groups: []layer.Retention{policy}, Capacity: 10_000, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func durableMember(t testing.TB, l *layer.Layer, group string) *layer.Channel {
	t.Helper()
	c, err := l.NewChannel(t.Context())
	if err == nil {
		err = l.GroupAdd(t.Context(), group, c.Name())
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func numbered(n int) layer.Message {
	return layer.Message{Type: "t", Data: fmt.Appendf(nil, `{"type":"t","n":%d}`, n)}
}

func receive(t testing.TB, c *layer.Channel, n int) layer.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m, err := c.Receive(ctx)
	if want := string(numbered(n).Data); err != nil || string(m.Data) != want {
		t.Fatalf("got %s, %v, want %s", m.Data, err, want)
	}
	return m
}

// What anybody publishes to a durable group's subject is stored, and what the
// stream answers says where.
func TestStrangerPublishesDurably(t *testing.T) {
	b := openBus(t, nil)
	l := durableLayer(t, b)
	c := durableMember(t, l, "job..1")
	if err := b.conn.Publish("channels.grp.job.~.1", numbered(0).Data); err != nil {
		t.Fatal(err)
	}
	first := receive(t, c, 0)
	reply, err := b.conn.RequestMsg(&nats.Msg{
		Subject: "channels.grp.job.~.1", Data: numbered(1).Data, Header: nats.Header{"Nats-Msg-Id": {"job..1/k"}},
	}, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"stream":"CHANNELS_log_job=+","seq":3}`; string(reply.Data) != want {
		t.Errorf("the stream answers %s, want %s", reply.Data, want)
	}
	if m := receive(t, c, 1); m.Header.ID != "k" {
		t.Errorf("got the key %q, want k", m.Header.ID)
	}
	// The same key counts, whoever uses it.
	r, err := l.Publish(t.Context(), "job..1", numbered(2), &layer.PublishOptions{ID: "k"})
	if err != nil || !r.Duplicate {
		t.Errorf("got %+v, %v, want a duplicate", r, err)
	}
	for m, err := range l.History(t.Context(), "job..1", first.Position, 0) {
		if want := string(numbered(1).Data); err != nil || string(m.Data) != want {
			t.Errorf("got %s, %v, want %s", m.Data, err, want)
		}
	}
	// What is no message is stored, reaches nobody, and is no gap.
	for _, data := range []string{"\xff", "{", `{"type":7}`} {
		if err := b.conn.Publish("channels.grp.job.~.1", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.GroupSend(t.Context(), "job..1", numbered(3)); err != nil {
		t.Fatal(err)
	}
	receive(t, c, 3)
	if s := l.Stats(); s.Gaps != 0 || s.Malformed == 0 {
		t.Errorf("got the counts %+v, want malformed ones and no gap", s)
	}
}

// On a cluster of three, three servers hold a message, in files.
func TestReplicas(t *testing.T) {
	buses := openCluster(t, Embedded{})
	durableLayer(t, buses[1])
	var s jetstream.Stream
	within(t, time.Minute, "the stream's leader answers", func() bool {
		var err error
		s, err = buses[0].store.js.Stream(t.Context(), "CHANNELS_log_job=+")
		return err == nil
	})
	c := s.CachedInfo().Config
	if c.Replicas != 3 || c.Storage != jetstream.FileStorage || !c.AllowDirect {
		t.Errorf("got %d replicas, storage %v, direct %v", c.Replicas, c.Storage, c.AllowDirect)
	}
}

// A server that comes back has what it acknowledged, and what was published by
// others while a process was away is delivered to its members. One that comes
// back empty is a gap, and another epoch.
func TestDurableThroughRestart(t *testing.T) {
	dir := t.TempDir()
	with := func(dir string) func(*server.Options) {
		return func(o *server.Options) { o.JetStream, o.StoreDir = true, dir }
	}
	s := startNATS(t, -1, with(dir))
	port := portOf(s)
	b := openBus(t, &Options{URL: s.ClientURL()})
	l := durableLayer(t, b)
	c := durableMember(t, l, "job.1")
	if err := l.GroupSend(t.Context(), "job.1", numbered(0)); err != nil {
		t.Fatal(err)
	}
	first := receive(t, c, 0)
	restart := func(dir string) {
		stopNATS(s)
		until(t, "the Bus notices that the server is gone", func() bool { return !b.Connected() })
		s = startNATS(t, port, with(dir))
	}

	restart(dir)
	other, err := nats.Connect(s.ClientURL()) // most likely earlier than the Bus is back
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Request("channels.grp.job.1", numbered(1).Data, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	receive(t, c, 1)
	if err := l.GroupSend(t.Context(), "job.1", numbered(2)); err != nil { // waits for the link
		t.Fatal(err)
	}
	receive(t, c, 2)
	if n := l.Stats().Gaps; n != 0 {
		t.Errorf("%d gaps, though the store had everything", n)
	}

	restart(t.TempDir())
	if err := l.GroupSend(t.Context(), "job.1", numbered(3)); err != nil {
		t.Fatal(err)
	}
	receive(t, c, 3)
	if n := l.Stats().Gaps; n == 0 {
		t.Error("the store was lost, and nobody was told")
	}
	for m, err := range l.History(t.Context(), "job.1", first.Position, 0) {
		var gap *layer.GapError
		if !errors.As(err, &gap) || gap.Reason != layer.GapReset {
			t.Errorf("history from the lost store: got %s, %v, want a reset", m.Data, err)
		}
	}
}

// Without JetStream a durable group is an error at the start, and an ordinary
// process is none.
func TestDurableWithoutJetStream(t *testing.T) {
	b := openBus(t, &Options{Embedded: &Embedded{NoJetStream: true}})
	if l, err := layer.New(b, nil); err != nil {
		t.Error(err)
	} else {
		l.Close(t.Context())
	}
	l, err := layer.New(b, &layer.Options{Groups: []layer.Retention{testPolicy}})
	if !errors.Is(err, layer.ErrUnavailable) {
		t.Errorf("got %v, %v, want %v", l, err, layer.ErrUnavailable)
	}
}

// What a durable publish costs beside the bare call.
func BenchmarkDurablePublish(b *testing.B) {
	bus := openBus(b, nil)
	l := durableLayer(b, bus)
	m := numbered(1)
	b.Run("layer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := l.GroupSend(b.Context(), "job.1", m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("jetstream", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := bus.store.js.Publish(b.Context(), "channels.grp.job.2", m.Data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("layer-64", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if err := l.GroupSend(b.Context(), "job.1", m); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("jetstream-64", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := bus.store.js.Publish(b.Context(), "channels.grp.job.2", m.Data); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
