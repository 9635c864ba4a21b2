package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// puller is the state of a queue's goroutine.
type puller struct {
	*queue
	in     chan *nats.Msg
	sub    *nats.Subscription
	stream *stream   // as it was last opened
	opened bool      // the stream and the consumer exist, as far as we know
	asked  int       // requests that are at the server
	back   int       // messages that were given back, of which the server has not said so
	given  time.Time // when the last one was
	heard  time.Time // when it last said something
	rested time.Time // not to ask before
}

// run is a queue's goroutine.
func (q *queue) run() {
	p := &puller{queue: q, in: make(chan *nats.Msg, 256)}
	defer p.end()
	beat := time.NewTicker(pullBeat)
	defer beat.Stop()
	for p.step() {
		select {
		case m := <-p.in:
			p.receive(m)
		case <-q.wake:
		case <-beat.C:
			if p.asked > 0 && time.Since(p.heard) > 2*pullBeat {
				p.forget()
			}
			if time.Since(p.given) > pullBeat {
				p.back = 0 // a server that knows of it would have said so
			}
		case <-q.link.quit:
			return
		}
	}
}

// step asks for as many messages as there are waiters, and reports whether
// there is anything left to do.
func (p *puller) step() bool {
	p.mu.Lock()
	want, limits := len(p.waiting), p.limits
	renew := p.renew
	p.renew = false
	if want == 0 && p.asked == 0 && p.back == 0 {
		p.over = true
		p.mu.Unlock()
		return false
	}
	p.mu.Unlock()
	if renew {
		p.forget()
		p.rested = time.Time{}
	}
	if want <= p.asked || time.Now().Before(p.rested) || p.back > 0 {
		return true
	}
	if err := p.ask(want-p.asked, limits); err != nil {
		p.failed(err)
	}
	return true
}

// forget takes it that the server no longer knows what was asked. If it does,
// its messages still come to the same inbox.
func (p *puller) forget() { p.asked, p.back, p.opened = 0, 0, false }

// giveBack returns a message that came for nobody. The next request waits until
// the server says that it has it: it may deal with requests before, and answer
// with a message behind this one.
func (p *puller) giveBack(m *nats.Msg) {
	b := p.link.bus
	if err := b.conn.PublishRequest(m.Reply, p.sub.Subject, nakBody); err == nil { // else the server does as after a crash
		p.back++
		p.given = time.Now()
	}
}

// rest puts off the next request.
func (p *puller) rest() {
	p.rested = time.Now().Add(pullRetry)
	time.AfterFunc(pullRetry, p.signal)
}

// ask sends n requests, after it has made sure that there is a consumer.
func (p *puller) ask(n int, limits layer.Limits) error {
	b := p.link.bus
	if !p.opened {
		if err := p.open(limits); err != nil {
			return err
		}
	}
	request, err := json.Marshal(map[string]int64{
		"batch": 1, "expires": int64(pullExpiry), "idle_heartbeat": int64(pullBeat),
	})
	if err != nil {
		return err
	}
	subject := "$JS.API.CONSUMER.MSG.NEXT." + b.subjects.stream() + "." + consumerName(p.channel)
	for range n {
		if err := b.conn.PublishRequest(subject, p.sub.Subject, request); err != nil {
			return err
		}
		if p.asked == 0 {
			p.heard = time.Now()
		}
		p.asked++
	}
	return nil
}

// open makes sure that the inbox, the stream and the consumer exist.
func (p *puller) open(limits layer.Limits) (err error) {
	b := p.link.bus
	if p.sub == nil {
		if p.sub, err = b.conn.ChanSubscribe(b.conn.NewInbox(), p.in); err != nil {
			return err
		}
	}
	st, err := p.link.openStream(context.Background(), limits)
	if err != nil {
		return err
	}
	ctx, end := p.link.calls.begin(context.Background(), roundTrip)
	defer end()
	_, err = st.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:           consumerName(p.channel),
		FilterSubject:     b.subjects.channel(p.channel),
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           ackWait,
		MaxDeliver:        -1,
		MaxAckPending:     -1,
		MaxWaiting:        maxWaiting,
		InactiveThreshold: consumerIdle,
		MemoryStorage:     true,
	})
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			b.store.reset()
		}
		return err
	}
	p.stream, p.opened = st, true
	return nil
}

// failed tells the waiters what will not go away, and otherwise sees to it that
// the goroutine tries again.
func (p *puller) failed(err error) {
	p.opened = false
	if isPassing(err) || !p.link.bus.conn.IsConnected() {
		p.rest()
		return
	}
	for w := p.first(); w != nil; w = p.first() {
		w.got <- pulled{err: err}
	}
}

// isPassing reports whether a pull that failed with err may soon succeed.
func isPassing(err error) bool {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, errNoJetStream):
		return false
	case errors.As(err, &api):
		return api.Code == 503 || api.ErrorCode == jetstream.JSErrCodeStreamNotFound || api.ErrorCode == codeConsumerNotFound
	}
	return isLinkError(err) || isStreamGone(err) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// receive takes a message or a status.
func (p *puller) receive(m *nats.Msg) {
	p.heard = time.Now()
	if m.Reply != "" {
		p.asked = max(0, p.asked-1)
		if w := p.first(); w != nil {
			w.got <- pulled{msg: m, stream: p.stream}
		} else {
			p.giveBack(m)
		}
		return
	}
	switch m.Header.Get(statusHeader) {
	case "": // it has what was given back
		p.back = max(0, p.back-1)
	case "100": // it lives
	case "404", "408": // the request is over
		p.asked = max(0, p.asked-1)
	default: // the consumer is gone, has moved or has too many requests
		p.forget()
		p.rest()
	}
}

// end gives back what has arrived for nobody.
func (p *puller) end() {
	p.queue.mu.Lock()
	p.over = true
	p.queue.mu.Unlock()
	l := p.link
	l.queues.mu.Lock()
	if l.queues.all[p.channel] == p.queue {
		delete(l.queues.all, p.channel)
	}
	l.queues.mu.Unlock()
	if p.sub != nil {
		_ = p.sub.Unsubscribe() // fails when the connection is down, which ends it too
	}
	for {
		select {
		case m := <-p.in:
			if m.Reply != "" {
				l.settleMsg(m, nakBody)
			}
		default:
			return
		}
	}
}
