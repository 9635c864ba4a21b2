package natsbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// Headers of a dead letter, beside those that the message had.
const (
	queueHeader    = "Tideway-Queue"
	reasonHeader   = "Tideway-Reason"
	attemptsHeader = "Tideway-Attempts"
	storedHeader   = "Tideway-Stored"
	priorityHeader = "Tideway-Priority"
	timeHeader     = "Nats-Time-Stamp"
)

// letter makes a dead letter.
func (s *lease) letter(reason string, attempts int) *nats.Msg {
	h := queuedHeader(s.msg, s.taker.queue)
	id := h.ID
	h.ID = fmt.Sprintf("%s/%d/%d", s.place.stream, s.place.sequence, s.place.stored.UnixNano())
	m := newMsg(s.link.bus.subjects.dead(s.taker.tokens), s.msg.Data, &h)
	setHeader(m, keyHeader, id)
	setHeader(m, queueHeader, s.taker.queue)
	setHeader(m, reasonHeader, layer.CutReason(reason))
	setHeader(m, attemptsHeader, strconv.Itoa(attempts))
	setHeader(m, storedHeader, s.place.stored.UTC().Format(time.RFC3339Nano))
	if p := priorityOf(s.taker, s.msg.Subject); p != layer.Normal {
		setHeader(m, priorityHeader, p.String())
	}
	return m
}

// priorityOf returns the priority of a message with that subject.
func priorityOf(t *taker, subject string) layer.Priority {
	switch subject {
	case t.subjects[levelHigh]:
		return layer.High
	case t.subjects[levelLow]:
		return layer.Low
	}
	return layer.Normal
}

// readLetter makes what the layer takes of a dead letter.
func readLetter(m *nats.Msg, id uint64, died time.Time) layer.DeadLetter {
	h, _ := readHeader(m.Header)
	h.ID = m.Header.Get(keyHeader)
	d := layer.DeadLetter{ID: id, Died: died, Queue: m.Header.Get(queueHeader), Reason: m.Header.Get(reasonHeader)}
	d.Message = layer.Message{Data: m.Data, Header: h}
	if data, err := toJSON(m.Data); err == nil {
		d.Message.Data = data
	}
	d.Attempts, _ = strconv.Atoi(m.Header.Get(attemptsHeader))
	d.Stored, _ = time.Parse(time.RFC3339Nano, m.Header.Get(storedHeader))
	switch m.Header.Get(priorityHeader) {
	case "high":
		d.Priority = layer.High
	case "low":
		d.Priority = layer.Low
	}
	return d
}

// DeadLetters implements layer.Link.
func (l *link) DeadLetters(ctx context.Context, queue string, after uint64, limit int) ([]layer.DeadLetter, error) {
	const what = "read dead letters"
	if err := l.ready(ctx, what); err != nil {
		return nil, err
	}
	ctx, end := l.calls.begin(ctx, roundTrip)
	defer end()
	b, subject := l.bus, l.bus.subjects.dead(">")
	if queue != "" {
		subject = b.subjects.dead(toTokens(queue))
	}
	msgs, _, err := b.readBatch(ctx, b.subjects.deadStream(), subject, after+1, limit)
	if errors.Is(err, nats.ErrNoResponders) && len(l.works) == 0 {
		return nil, nil // there is no such stream
	}
	if err != nil {
		return nil, l.unread(ctx, what, err)
	}
	all := make([]layer.DeadLetter, 0, len(msgs))
	for _, m := range msgs {
		died, _ := time.Parse(time.RFC3339Nano, m.Header.Get(timeHeader))
		all = append(all, readLetter(m, number(m, sequenceHeader), died))
	}
	return all, nil
}

// Replay implements layer.Link. The key of the message that goes back is the
// letter's, so that a second one is a duplicate.
func (l *link) Replay(ctx context.Context, id uint64) error {
	const what = "replay a dead letter"
	if err := l.ready(ctx, what); err != nil {
		return err
	}
	m, err := l.letterAt(ctx, id)
	if errors.Is(err, layer.ErrNoDeadLetter) {
		return err
	}
	if err != nil {
		return l.unread(ctx, what, err)
	}
	d := readLetter(m, id, time.Time{})
	w, err := l.work(d.Queue)
	if err != nil {
		return l.fail(what, err)
	}
	b, tokens := l.bus, toTokens(d.Queue)
	subject := b.subjects.queue(tokens)
	switch d.Priority {
	case layer.High:
		subject = b.subjects.urgent(tokens)
	case layer.Low:
		subject = b.subjects.idle(tokens)
	}
	key := d.Message.Header.ID
	d.Message.Header.ID = "dead/" + m.Header.Get(idHeader)
	back := newMsg(subject, m.Data, &d.Message.Header)
	setHeader(back, keyHeader, key)
	sending, end := l.calls.begin(ctx, roundTrip)
	defer end()
	if _, err := b.store.js.PublishMsg(sending, back, jetstream.WithRetryAttempts(0)); err != nil {
		return l.notQueued(sending, what, w, err)
	}
	return l.Drop(ctx, id)
}

// letterAt reads a dead letter from the leader.
func (l *link) letterAt(ctx context.Context, id uint64) (*nats.Msg, error) {
	ctx, end := l.calls.begin(ctx, roundTrip)
	defer end()
	stored, err := l.bus.leaderGet(ctx, l.bus.subjects.deadStream(), msgGet{Seq: id})
	switch {
	case err != nil && isStreamGone(err) && len(l.works) == 0, err == nil && stored == nil:
		return nil, layer.ErrNoDeadLetter
	case err != nil:
		return nil, because(ctx, err)
	}
	m := &nats.Msg{Subject: stored.Subject, Data: stored.Data}
	m.Header, err = nats.DecodeHeadersMsg(stored.Header)
	return m, err
}

// Drop implements layer.Link.
func (l *link) Drop(ctx context.Context, id uint64) error {
	const what = "drop a dead letter"
	if err := l.ready(ctx, what); err != nil {
		return err
	}
	ctx, end := l.calls.begin(ctx, roundTrip)
	defer end()
	s, err := l.bus.store.js.Stream(ctx, l.bus.subjects.deadStream())
	if err == nil {
		err = s.DeleteMsg(ctx, id)
	}
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) { // the server has many words for the reason
		if _, missing := l.letterAt(ctx, id); errors.Is(missing, layer.ErrNoDeadLetter) {
			return missing
		}
	}
	return l.unread(ctx, what, err)
}

// Queues implements layer.Link.
func (l *link) Queues(ctx context.Context) ([]layer.QueueState, error) {
	const what = "list queues"
	if err := l.ready(ctx, what); err != nil {
		return nil, err
	}
	ctx, end := l.calls.begin(ctx, openMost)
	defer end()
	c := census{link: l, found: map[string]*layer.QueueState{}}
	if err := c.take(ctx); err != nil {
		return nil, l.unread(ctx, what, err)
	}
	all := make([]layer.QueueState, 0, len(c.found))
	for _, s := range c.found {
		if w, err := l.work(s.Name); err == nil {
			s.Policy = w.policy
		}
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b layer.QueueState) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// census counts what the queues hold.
type census struct {
	link  *link
	found map[string]*layer.QueueState
}

func (c *census) at(tokens string) *layer.QueueState {
	name := patternOf(tokens)
	if c.found[name] == nil {
		c.found[name] = &layer.QueueState{Name: name}
	}
	return c.found[name]
}

func (c *census) take(ctx context.Context) error {
	l := c.link
	s := &l.bus.subjects
	if len(l.works) == 0 {
		return nil
	}
	for _, w := range l.works {
		if !strings.HasSuffix(w.policy.Pattern, ">") {
			c.at(toTokens(w.policy.Pattern))
		}
		if err := c.count(ctx, w.stream); err != nil {
			return err
		}
	}
	if err := c.count(ctx, s.laterStream()); err != nil {
		return err
	}
	return c.count(ctx, s.deadStream())
}

// count reads a stream's subjects, and what its consumers have at work.
func (c *census) count(ctx context.Context, name string) error {
	s, err := c.link.bus.store.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return err
	}
	prefix := c.link.bus.subjects.prefix + "."
	for subject, n := range info.State.Subjects {
		kind, tokens, _ := strings.Cut(strings.TrimPrefix(subject, prefix), ".")
		switch kind {
		case "q", "qdue":
			c.at(tokens).Ready += int(n)
		case "qp":
			_, tokens, _ = strings.Cut(tokens, ".")
			c.at(tokens).Ready += int(n)
		case "qat":
			c.at(tokens[:strings.LastIndexByte(tokens, '.')]).Delayed += int(n)
		case "dead":
			c.at(tokens).Dead += int(n)
		}
	}
	list := s.ListConsumers(ctx)
	for info := range list.Info() {
		_, queue, ok := strings.Cut(info.Name, "_")
		if ok && info.NumAckPending > 0 {
			state := c.at(toTokens(strings.ReplaceAll(queue, "=", ".")))
			state.Ready -= info.NumAckPending
			state.Working += info.NumAckPending
		}
	}
	return list.Err()
}
