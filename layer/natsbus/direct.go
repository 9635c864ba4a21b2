package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// What the owner of a channel answers to a request of SendTo.
const (
	answerOK   = "ok"
	answerFull = "full"
	answerNone = "none"
)

// SendTo asks the owner of channel, when that is a process of this library, and
// returns its answer. Other families do not answer, so to their channels the
// message is only published.
func (l *link) SendTo(ctx context.Context, channel string, p *layer.Packet) error {
	what := "send to channel " + channel
	if err := l.ready(ctx, what); err != nil {
		return err
	}
	process, _, ok := strings.Cut(channel, "!")
	if !ok {
		return fmt.Errorf("natsbus: %s: it is no process's own channel: its name has no \"!\"", what)
	}
	data, err := l.bus.encode(p.Data)
	if err != nil {
		return l.fail(what, err)
	}
	m := newMsg(l.bus.subjects.process(process), data, &p.Header)
	setHeader(m, channelHeader, channel)
	if !strings.HasPrefix(process, "tw") {
		return l.fail(what, l.bus.conn.PublishMsg(m))
	}
	reply, err := l.request(ctx, m)
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("natsbus: %s: %w: its process is gone", what, layer.ErrNoChannel)
	}
	if err != nil {
		return l.fail(what, err)
	}
	switch string(reply.Data) {
	case answerOK:
		return nil
	case answerFull:
		return fmt.Errorf("natsbus: %s: %w", what, layer.ErrChannelFull)
	case answerNone:
		return fmt.Errorf("natsbus: %s: %w", what, layer.ErrNoChannel)
	default:
		return fmt.Errorf("natsbus: %s: its process answered %.80q", what, reply.Data)
	}
}

// request waits for an answer until ctx ends, at most for the time that a round
// trip may take. Then nobody knows whether the other side has it.
func (l *link) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	ctx, end := l.calls.begin(ctx, roundTrip)
	defer end()
	reply, err := l.bus.conn.RequestMsgWithContext(ctx, m)
	return reply, because(ctx, err)
}

// takeDirect takes a message for one of this process's channels.
func (l *link) takeDirect(m *nats.Msg) {
	h, channel := readHeader(m.Header)
	data, err := toJSON(m.Data)
	if err == nil && channel == "" {
		err = errors.New("the header Channel, which names the channel, is missing")
	}
	if err != nil {
		l.report(layer.LinkEvent{Kind: layer.Malformed, Count: 1, Err: malformed(m, err)})
		l.answer(m, "malformed")
		return
	}
	switch err := l.receiver.DeliverTo(channel, layer.Packet{Data: data, Header: h}); {
	case err == nil:
		l.answer(m, answerOK)
	case errors.Is(err, layer.ErrChannelFull):
		l.answer(m, answerFull)
	case errors.Is(err, layer.ErrNoChannel):
		l.answer(m, answerNone)
	default:
		l.answer(m, err.Error())
	}
}

// answer answers when the sender asked for it. If that fails the connection is
// down, and the sender's request ends by itself.
func (l *link) answer(m *nats.Msg, s string) {
	if m.Reply != "" {
		_ = l.bus.conn.Publish(m.Reply, []byte(s))
	}
}

// takeCall answers a call, on a goroutine of its own because the receiver may
// wait for the network.
func (l *link) takeCall(m *nats.Msg) {
	if m.Reply == "" {
		return
	}
	select {
	case l.answering <- struct{}{}:
	case <-l.quit:
		return
	}
	l.running.Go(func() {
		defer func() { <-l.answering }()
		ctx, end := l.calls.begin(context.Background(), maxAnswer)
		defer end()
		_ = l.bus.conn.PublishMsg(&nats.Msg{ // see answer
			Subject: m.Reply,
			Data:    l.receiver.Call(ctx, m.Data),
			Header:  nats.Header{processHeader: {l.process}},
		})
	})
}

const (
	maxAnswering = 256         // calls that are answered at the same time
	maxAnswer    = time.Minute // how long the receiver may take
)

// callQuiet is how long a call to all waits after the last answer for those
// that are not known to exist.
const callQuiet = time.Second

// callRest is the same when all that are known have answered, while the Bus is so
// young that it may not know all: a command such as `tideway kick` asks right
// after it has connected, and a process that stood still for a moment then must
// not be overlooked.
const callRest = 300 * time.Millisecond

// Call asks one process, or all.
func (l *link) Call(ctx context.Context, process string, request []byte) ([][]byte, error) {
	what := "call " + process
	if process == "" {
		what = "call all processes"
	}
	if err := l.ready(ctx, what); err != nil {
		return nil, err
	}
	if process == "" {
		answers, err := l.callAll(ctx, request)
		return answers, l.fail(what, err)
	}
	reply, err := l.request(ctx, &nats.Msg{Subject: l.bus.subjects.control(process), Data: request})
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("natsbus: %s: %w: the process is gone", what, layer.ErrNoChannel)
	}
	if err != nil {
		return nil, l.fail(what, err)
	}
	return [][]byte{reply.Data}, nil
}

// callAll returns when all processes that live have answered, or none did for a
// while.
func (l *link) callAll(ctx context.Context, request []byte) (answers [][]byte, err error) {
	in := make(chan *nats.Msg, 4096)
	s, err := l.bus.conn.ChanSubscribe(l.bus.conn.NewInbox(), in)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Unsubscribe() }() // fails when the connection is down, which ends it too
	missing := l.bus.processes()
	if err := l.bus.conn.PublishRequest(l.bus.subjects.control(""), s.Subject, request); err != nil {
		return nil, err
	}
	quiet := time.NewTimer(callQuiet)
	defer quiet.Stop()
	for young := l.bus.young(); len(missing) > 0 || young; {
		select {
		case m := <-in:
			if from := m.Header.Get(processHeader); from != "" {
				delete(missing, from)
				answers = append(answers, m.Data)
			}
			if len(missing) > 0 {
				quiet.Reset(callQuiet)
			} else {
				quiet.Reset(callRest)
			}
		case <-quiet.C:
			return answers, nil
		case <-ctx.Done():
			return answers, nil
		case <-l.quit:
			return nil, layer.ErrClosed
		}
	}
	return answers, nil
}
