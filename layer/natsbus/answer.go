package natsbus

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// answers are the requests of a link that wait for an answer. One subscription
// takes all answers, and a request costs neither a context nor a subject of its
// own.
type answers struct {
	mu      sync.Mutex // guards what follows
	inbox   *nats.Subscription
	waiting map[string]chan *nats.Msg // by the last token of the reply subject
	next    uint64
}

// begin returns the reply subject of a request, its token, and where the answer
// will come.
func (a *answers) begin(nc *nats.Conn) (reply, token string, answer chan *nats.Msg, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inbox == nil {
		if a.inbox, err = nc.Subscribe(nc.NewInbox()+".*", a.take); err != nil {
			return "", "", nil, err
		}
		a.waiting = make(map[string]chan *nats.Msg)
	}
	a.next++
	reply = strings.TrimSuffix(a.inbox.Subject, "*") + strconv.FormatUint(a.next, 36)
	token = reply[len(a.inbox.Subject)-1:]
	answer = make(chan *nats.Msg, 1)
	a.waiting[token] = answer
	return reply, token, answer, nil
}

// end forgets a request.
func (a *answers) end(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, token)
}

// take hands an answer to who waits for it.
func (a *answers) take(m *nats.Msg) {
	a.mu.Lock()
	defer a.mu.Unlock()
	token := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	if answer := a.waiting[token]; answer != nil {
		answer <- m // has room: the request is forgotten with its first answer
		delete(a.waiting, token)
	}
}

// stop ends the subscription.
func (a *answers) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inbox != nil {
		_ = a.inbox.Unsubscribe() // fails when the connection is down, which ends it too
	}
}

// storeAck is what a stream answers to a publish.
type storeAck struct {
	Error     *jetstream.APIError `json:"error"`
	Stream    string              `json:"stream"`
	Sequence  uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
}

// publishStored publishes m and waits for the stream's answer, no longer than
// roundTrip.
func (l *link) publishStored(ctx context.Context, m *nats.Msg) (ack storeAck, err error) {
	nc := l.bus.conn
	var token string
	var answer chan *nats.Msg
	if m.Reply, token, answer, err = l.answers.begin(nc); err != nil {
		return ack, err
	}
	if err := nc.PublishMsg(m); err != nil {
		l.answers.end(token)
		return ack, err
	}
	timer := time.NewTimer(roundTrip)
	defer timer.Stop()
	select {
	case a := <-answer:
		return readAck(a)
	case <-ctx.Done():
		err = ctx.Err()
	case <-l.quit:
		err = layer.ErrClosed
	case <-timer.C:
		err = errNoAnswer
	}
	l.answers.end(token)
	return ack, err
}

// readAck reads the answer to a publish.
func readAck(m *nats.Msg) (ack storeAck, err error) {
	if len(m.Data) == 0 && m.Header.Get(statusHeader) == "503" {
		return ack, nats.ErrNoResponders
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return ack, err
	}
	if ack.Error != nil {
		return ack, ack.Error
	}
	return ack, nil
}
