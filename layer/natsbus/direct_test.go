package natsbus

import (
	"context"
	"testing"
	"time"
)

// hesitant answers calls a moment later than others.
type hesitant struct{ *recorder }

func (h hesitant) Call(ctx context.Context, request []byte) []byte {
	time.Sleep(callRest / 3)
	return h.recorder.Call(ctx, request)
}

// A process that stood still while another one came, and did not answer it, is
// called all the same.
func TestCallOfAYoungBusReachesAll(t *testing.T) {
	hub := openBus(t, &Options{Embedded: &Embedded{Listen: "127.0.0.1:0"}})
	attach(t, hub, hesitant{newRecorder()})
	b := openBus(t, &Options{URL: hub.ClientURL(), Heartbeat: time.Minute})
	l := attach(t, b, newRecorder())
	b.peers.mu.Lock()
	clear(b.peers.all)
	b.peers.mu.Unlock()
	answers, err := l.Call(t.Context(), "", []byte("who is there?"))
	if err != nil || len(answers) != 2 {
		t.Errorf("got %d answers, %v; want both processes'", len(answers), err)
	}
}
