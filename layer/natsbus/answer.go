package natsbus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// answers are the inboxes of a link's requests. Each takes the answer to one
// request at a time, straight from the connection: no goroutine stands between
// the two, and a request costs neither a context nor a timer of its own.
type answers struct {
	mu      sync.Mutex // guards what follows
	idle    []*inbox
	stopped bool
}

// maxIdleInboxes is how many inboxes are kept for later requests.
const maxIdleInboxes = 1024

// inbox is a subscription that is used again.
type inbox struct {
	sub    *nats.Subscription
	prefix string // of the reply subjects
	serial uint64 // of the newest request
	in     chan *nats.Msg
	timer  *time.Timer // not running between requests
}

// take returns an inbox that nobody else uses.
func (a *answers) take(nc *nats.Conn) (*inbox, error) {
	a.mu.Lock()
	if n := len(a.idle); n > 0 {
		box := a.idle[n-1]
		a.idle = a.idle[:n-1]
		a.mu.Unlock()
		return box, nil
	}
	a.mu.Unlock()
	// There is room for answers that nobody should send, to requests that are over.
	box := &inbox{prefix: nc.NewInbox() + ".", in: make(chan *nats.Msg, 8), timer: time.NewTimer(time.Hour)}
	box.timer.Stop()
	var err error
	box.sub, err = nc.ChanSubscribe(box.prefix+"*", box.in)
	return box, err
}

// put gives back an inbox whose request was answered, or never sent.
func (a *answers) put(box *inbox) {
	box.timer.Stop()
	a.mu.Lock()
	keep := !a.stopped && len(a.idle) < maxIdleInboxes
	if keep {
		a.idle = append(a.idle, box)
	}
	a.mu.Unlock()
	if !keep {
		box.drop()
	}
}

// drop ends an inbox. If that fails the connection is down, which ends it too.
func (box *inbox) drop() {
	box.timer.Stop()
	_ = box.sub.Unsubscribe()
}

// stop ends the inboxes that are not in use; the others follow when they are given back.
func (a *answers) stop() {
	a.mu.Lock()
	idle := a.idle
	a.idle, a.stopped = nil, true
	a.mu.Unlock()
	for _, box := range idle {
		box.drop()
	}
}

// reply returns the reply subject of the next request. Each has its own: what is
// answered twice must not count for another.
func (box *inbox) reply() string {
	box.serial++
	var room [80]byte
	return string(strconv.AppendUint(append(room[:0], box.prefix...), box.serial, 36))
}

// askFor publishes m and waits for the answer, no longer than roundTrip.
func (l *link) askFor(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	box, err := l.answers.take(l.bus.conn)
	if err != nil {
		return nil, err
	}
	m.Reply = box.reply()
	if err := l.bus.conn.PublishMsg(m); err != nil {
		l.answers.put(box)
		return nil, err
	}
	box.timer.Reset(roundTrip)
	for {
		select {
		case answer := <-box.in:
			if answer.Subject != m.Reply {
				continue
			}
			l.answers.put(box)
			return answer, nil
		case <-ctx.Done():
			err = ctx.Err()
		case <-l.quit:
			err = layer.ErrClosed
		case <-box.timer.C:
			err = errNoAnswer
		}
		box.drop() // the answer may still come
		return nil, err
	}
}

// storeAck is what a stream answers to a publish.
type storeAck struct {
	Error     *jetstream.APIError `json:"error"`
	Stream    string              `json:"stream"`
	Sequence  uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
}

// publishStored publishes m, which a stream is to store, and waits for its answer,
// no longer than roundTrip.
func (l *link) publishStored(ctx context.Context, m *nats.Msg, stream string) (ack storeAck, err error) {
	answer, err := l.askFor(ctx, m)
	if err != nil {
		return ack, err
	}
	return readAck(answer, stream)
}

// readAck reads the answer to a publish. That another stream has stored it is an
// error: ours is gone, and somebody has made another with its subjects.
func readAck(m *nats.Msg, stream string) (ack storeAck, err error) {
	if len(m.Data) == 0 && m.Header.Get(statusHeader) == "503" {
		return ack, nats.ErrNoResponders
	}
	if sequence, ok := plainAck(m.Data, stream); ok {
		return storeAck{Stream: stream, Sequence: sequence}, nil
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return ack, err
	}
	switch {
	case ack.Error != nil:
		return ack, ack.Error
	case ack.Stream != stream:
		return ack, fmt.Errorf("%w: it is %.100q", errOtherStream, ack.Stream)
	case ack.Sequence == 0:
		return ack, fmt.Errorf("the answer of stream %s has no sequence: %.100q", stream, m.Data)
	}
	return ack, nil
}

var errOtherStream = errors.New("another stream has taken the message")

// plainAck reads an acknowledgement in the form that the server writes for a
// message that is stored, and says nothing else:
//
//	{"stream":"CHANNELS_log_job=+","seq":42}
func plainAck(data []byte, stream string) (sequence uint64, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(`{"stream":"`))
	if !ok || len(rest) < len(stream) || string(rest[:len(stream)]) != stream {
		return 0, false
	}
	rest, ok = bytes.CutPrefix(rest[len(stream):], []byte(`","seq":`))
	if !ok || len(rest) < 2 || len(rest) > 20 || rest[len(rest)-1] != '}' {
		return 0, false
	}
	for _, c := range rest[:len(rest)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		sequence = sequence*10 + uint64(c-'0')
	}
	return sequence, sequence > 0
}
