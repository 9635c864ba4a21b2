package natsbus

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// A process that stood still while another one came is known to that one as soon
// as it answers: what it sends must not be missed until its next heartbeat.
func TestLateAnswersAreHeard(t *testing.T) {
	hub := openBus(t, &Options{Embedded: &Embedded{Listen: "127.0.0.1:0"}})
	late, err := nats.Connect(hub.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	asked, err := late.SubscribeSync(hub.subjects.heartbeat())
	if err == nil {
		err = late.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	b := openBus(t, &Options{URL: hub.ClientURL(), Heartbeat: time.Minute})
	answer, err := json.Marshal(beat{Bus: "late", Server: "ELSEWHERE"})
	if err != nil {
		t.Fatal(err)
	}
	hello := &nats.Msg{}
	for hello.Reply == "" { // and not the hub's heartbeat
		if hello, err = asked.NextMsg(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := hello.Respond(answer); err != nil {
		t.Fatal(err)
	}
	until(t, "the late one is known", func() bool { return slices.Contains(b.peers.servers(""), "ELSEWHERE") })
}
