package natsbus

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

func TestReadAck(t *testing.T) {
	const stream = "CHANNELS_log_job=+"
	for _, c := range []struct {
		answer string
		want   storeAck
		fails  string
	}{
		{`{"stream":"CHANNELS_log_job=+","seq":42}`, storeAck{Stream: stream, Sequence: 42}, ""},
		{`{"stream":"CHANNELS_log_job=+","seq":18446744073709551615}`, storeAck{Stream: stream, Sequence: 1<<64 - 1}, ""},
		{`{"stream":"CHANNELS_log_job=+", "domain":"hub", "seq":7}`, storeAck{Stream: stream, Sequence: 7}, ""},
		{`{"stream":"CHANNELS_log_job=+","seq":42,"duplicate": true}`, storeAck{Stream: stream, Sequence: 42, Duplicate: true}, ""},
		{`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"},"stream":"CHANNELS_log_job=+","seq":0}`, storeAck{}, "wrong last sequence: 3"},
		{`{"stream":"OTHER","seq":42}`, storeAck{}, "another stream"},
		{`{"stream":"CHANNELS_log_job=+2","seq":42}`, storeAck{}, "another stream"},
		{`{"stream":"CHANNELS_log_job=+","seq":0}`, storeAck{}, "no sequence"},
		{`{"stream":"CHANNELS_log_job=+","seq":}`, storeAck{}, "invalid character"},
		{`{"stream":"CHANNELS_log_job=+","seq":-1}`, storeAck{}, "number -1"},
		{`{"stream":"CHANNELS_log_job=+","seq":1`, storeAck{}, "unexpected end"},
		{`{"stream":"CHANNELS_log_job=+"`, storeAck{}, "unexpected end"},
		{`hello`, storeAck{}, "invalid character"},
		{``, storeAck{}, "unexpected end"},
	} {
		got, err := readAck(&nats.Msg{Data: []byte(c.answer)}, stream)
		switch {
		case c.fails == "" && (err != nil || got != c.want):
			t.Errorf("%s: got %+v, %v, want %+v", c.answer, got, err, c.want)
		case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
			t.Errorf("%s: got %+v, %v, want an error with %q", c.answer, got, err, c.fails)
		}
	}
	_, err := readAck(&nats.Msg{Header: nats.Header{statusHeader: {"503"}}}, stream)
	if !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("nobody is there: got %v", err)
	}
}

// An answer is for the request that asked for it and no other, also if somebody
// answers twice, and inboxes are used again.
func TestAnswersFindTheirRequests(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder()).(*link)
	echo, err := b.conn.Subscribe("echo", func(m *nats.Msg) {
		for range 3 {
			_ = m.Respond(m.Data)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Unsubscribe()
	var asking sync.WaitGroup
	for i := range 16 {
		asking.Go(func() {
			for n := range 200 {
				want := fmt.Sprint(i, " ", n)
				m, err := l.askFor(t.Context(), &nats.Msg{Subject: "echo", Data: []byte(want)})
				if err != nil || string(m.Data) != want {
					t.Errorf("got %v, %v, want %s", m, err, want)
					return
				}
			}
		})
	}
	asking.Wait()
	if n := len(l.answers.idle); n < 1 || n > 16 {
		t.Errorf("16 at a time used %d inboxes", n)
	}
}

// A call ends when the link closes, and leaves nothing behind.
func TestClosingEndsRequests(t *testing.T) {
	b := openBus(t, nil)
	silent, err := b.conn.SubscribeSync("silent")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Unsubscribe()
	l := attach(t, b, newRecorder()).(*link)
	had := b.conn.NumSubscriptions()
	ended := make(chan error)
	go func() {
		_, err := l.askFor(t.Context(), &nats.Msg{Subject: "silent"})
		ended <- err
	}()
	until(t, "the request is under way", func() bool { return b.conn.NumSubscriptions() > had })
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, layer.ErrClosed) {
			t.Errorf("got %v, want %v", err, layer.ErrClosed)
		}
	case <-time.After(roundTrip / 2):
		t.Fatal("it goes on waiting")
	}
	until(t, "its inbox is gone", func() bool { return b.conn.NumSubscriptions() < had })
}

// A stranger's stream that has taken the place of ours stores nothing for us.
func TestStoredByAnotherStream(t *testing.T) {
	b := openBus(t, nil)
	l := durableLayer(t, b)
	if err := b.store.js.DeleteStream(t.Context(), "CHANNELS_log_job=+"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.store.js.CreateStream(t.Context(), strangersStream); err != nil {
		t.Fatal(err)
	}
	_, err := l.Publish(t.Context(), "job.1", numbered(1), nil)
	if !errors.Is(err, errOtherStream) {
		t.Errorf("got %v, want %v", err, errOtherStream)
	}
}

var strangersStream = jetstream.StreamConfig{Name: "STRANGE", Subjects: []string{"channels.grp.job.>"}}
