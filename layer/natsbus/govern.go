package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// Each queue policy has one stream, a work queue in files, which takes the
// messages from their subjects. What no stream says of itself stands in its
// metadata, so that processes agree by the configuration alone. Two more streams
// serve all queues: one holds what comes later, one the dead letters.

// workStream is one policy's stream.
type workStream struct {
	policy layer.QueuePolicy
	stream string

	// alone says that one server has the stream. Then no election can swallow an
	// answer, and messages without a key of their user's get none: the server
	// would pay as much for it as for all the rest of the message.
	alone bool
}

// works are the streams of a Bus's queues.
type works struct {
	mu   sync.Mutex // guards what follows
	all  []*workStream
	lack error // why messages cannot come later
}

const (
	attemptsKey   = "tideway-attempts"
	ackWaitKey    = "tideway-ack-wait"
	backoffKey    = "tideway-backoff"
	backoffMaxKey = "tideway-backoff-max"
)

const (
	maxDead     = 10_000         // dead letters of one queue
	deadWindow  = 24 * time.Hour // in which a message that is buried twice is one dead letter
	laterWindow = 2 * time.Minute
	spentKept   = 7 * 24 * time.Hour // how long it is known what became of attempts
)

// Govern implements layer.Link.
func (l *link) Govern(ctx context.Context, policies []layer.QueuePolicy) ([]layer.QueuePolicy, error) {
	if len(policies) == 0 {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, learnMost)
		defer end()
	}
	all, err := l.bus.govern(ctx, policies)
	if err != nil && len(policies) == 0 {
		if !errors.Is(err, errNoJetStream) {
			l.bus.log.Warn("natsbus: it is not known which channels are durable queues; this process takes all for ordinary ones", "error", err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, l.fail("govern queues", err)
	}
	l.works = all
	var known []layer.QueuePolicy
	for _, w := range all {
		known = append(known, w.policy)
	}
	return known, nil
}

// govern opens the streams of the network's policies and of these.
func (b *Bus) govern(ctx context.Context, policies []layer.QueuePolicy) (all []*workStream, err error) {
	known, err := b.listQueues(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range policies {
		for _, k := range known {
			if p != k.policy && p.Overlaps(k.policy) {
				return nil, otherQueue(k, p)
			}
		}
	}
	all = known
	for _, p := range policies {
		name := b.subjects.queueStream(p.Pattern)
		if !known.has(name) {
			if err := b.needStream(ctx, b.queueConfig(p), checkedBy(b, p)); err != nil {
				return nil, err
			}
			all = append(all, &workStream{policy: p, stream: name, alone: b.replicas() == 1})
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	if err := b.openBeside(ctx); err != nil {
		return nil, err
	}
	b.works.mu.Lock()
	defer b.works.mu.Unlock()
	b.works.all = all
	return all, nil
}

// openBeside opens the streams that serve all queues.
func (b *Bus) openBeside(ctx context.Context) error {
	if err := b.needStream(ctx, b.deadConfig(), nil); err != nil {
		return err
	}
	return b.needStream(ctx, b.laterConfig(), func(c jetstream.StreamConfig) error {
		b.works.mu.Lock()
		defer b.works.mu.Unlock()
		b.works.lack = nil
		if !c.AllowMsgSchedules {
			b.works.lack = fmt.Errorf("messages that come later need nats-server 2.14 or newer: stream %s was made without schedules", c.Name)
		}
		return nil
	})
}

type workStreams []*workStream

func (all workStreams) has(stream string) bool {
	for _, w := range all {
		if w.stream == stream {
			return true
		}
	}
	return false
}

func otherQueue(has *workStream, states layer.QueuePolicy) error {
	return fmt.Errorf("the network has the queues %v in the stream %s, and this process states %v: use the same in all, or delete the stream when it is empty",
		has.policy, has.stream, states)
}

// checkedBy refuses a stream that is not of that policy.
func checkedBy(b *Bus, p layer.QueuePolicy) func(jetstream.StreamConfig) error {
	return func(c jetstream.StreamConfig) error {
		has, ok := b.queuePolicyOf(c)
		switch {
		case !ok:
			return fmt.Errorf("stream %s is not ours: it has the subjects %q and %s retention; use another prefix", c.Name, c.Subjects, c.Retention)
		case has != p:
			return otherQueue(&workStream{policy: has, stream: c.Name}, p)
		}
		return nil
	}
}

// listQueues reads the network's policies from its streams.
func (b *Bus) listQueues(ctx context.Context) (workStreams, error) {
	for {
		all, err := b.tryQueues(ctx)
		if err == nil || !errors.Is(err, jetstream.ErrStreamNotFound) && !b.mayComeUp(err) || !sleep(ctx, openRetry) {
			return all, jetStreamError(err)
		}
	}
}

func (b *Bus) tryQueues(ctx context.Context) (all workStreams, err error) {
	ctx, cancel := context.WithTimeout(ctx, roundTrip/4)
	defer cancel()
	list := b.store.js.StreamNames(ctx, jetstream.WithStreamListSubject(b.subjects.queue(">")))
	for name := range list.Name() {
		s, err := b.store.js.Stream(ctx, name)
		if err != nil {
			return nil, err
		}
		if p, ok := b.queuePolicyOf(s.CachedInfo().Config); ok {
			all = append(all, &workStream{policy: p, stream: name, alone: s.CachedInfo().Config.Replicas == 1})
		}
	}
	return all, list.Err()
}

// queuePolicyOf returns the policy that a stream of ours was made for.
func (b *Bus) queuePolicyOf(c jetstream.StreamConfig) (p layer.QueuePolicy, ok bool) {
	if len(c.Subjects) == 0 || c.Retention != jetstream.WorkQueuePolicy {
		return p, false
	}
	tokens, ok := strings.CutPrefix(c.Subjects[0], b.subjects.queue(""))
	if !ok {
		return p, false
	}
	p = layer.QueuePolicy{Pattern: patternOf(tokens), Capacity: int(c.MaxMsgsPerSubject), Age: c.MaxAge, Window: c.Duplicates}
	p.Attempts, _ = strconv.Atoi(c.Metadata[attemptsKey])
	for key, to := range map[string]*time.Duration{ackWaitKey: &p.AckWait, backoffKey: &p.Backoff, backoffMaxKey: &p.BackoffMax} {
		*to, _ = time.ParseDuration(c.Metadata[key])
	}
	return p, c.Name == b.subjects.queueStream(p.Pattern) && p.Attempts > 0 && p.AckWait > 0 && p.Backoff > 0
}

// needStream opens a stream, or creates it, until there is an answer or ctx
// ends. A nil check takes what is there.
func (b *Bus) needStream(ctx context.Context, c jetstream.StreamConfig, check func(jetstream.StreamConfig) error) error {
	began := time.Now()
	for c.Replicas = b.replicas(); ; {
		err := b.tryNeed(ctx, c, check)
		if err == nil {
			return nil
		}
		few, forGood := b.tooFew(err, began)
		switch {
		case forGood && c.Replicas > 1:
			b.log.Warn("natsbus: too few servers for three copies of a stream; there will be one", "stream", c.Name)
			c.Replicas = 1
		case !few && !isStreamGone(err) && !b.mayComeUp(err):
			return err
		case !sleep(ctx, openRetry):
			return fmt.Errorf("%w: the stream %s cannot be opened (%w)", layer.ErrUnavailable, c.Name, err)
		}
	}
}

func (b *Bus) tryNeed(ctx context.Context, c jetstream.StreamConfig, check func(jetstream.StreamConfig) error) error {
	ctx, cancel := context.WithTimeout(ctx, roundTrip/2)
	defer cancel()
	s, err := b.store.js.Stream(ctx, c.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = b.store.js.CreateStream(ctx, c)
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		s, err = b.store.js.Stream(ctx, c.Name) // another process was faster
	}
	if err != nil {
		return jetStreamError(err)
	}
	if check == nil {
		return nil
	}
	return check(s.CachedInfo().Config)
}

// restoreWorks opens all streams of queues again, after a reconnect.
func (b *Bus) restoreWorks(ctx context.Context) {
	b.works.mu.Lock()
	all := b.works.all
	b.works.mu.Unlock()
	for _, w := range all {
		if err := b.reopenWork(ctx, w); err != nil {
			b.log.Error("natsbus: the stream of durable queues cannot be opened; it is tried again when it is used", "stream", w.stream, "error", err)
		}
	}
}

// reopenWork makes the streams of a policy again where the server lost them.
func (b *Bus) reopenWork(ctx context.Context, w *workStream) error {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	if err := b.needStream(ctx, b.queueConfig(w.policy), checkedBy(b, w.policy)); err != nil {
		return err
	}
	return b.openBeside(ctx)
}

func (b *Bus) queueConfig(p layer.QueuePolicy) jetstream.StreamConfig {
	s, queues := &b.subjects, toTokens(p.Pattern)
	return jetstream.StreamConfig{
		Name:                 s.queueStream(p.Pattern),
		Description:          "Tideway: messages of durable queues that no worker has dealt with yet",
		Subjects:             []string{s.queue(queues), s.urgent(queues), s.idle(queues)},
		Retention:            jetstream.WorkQueuePolicy,
		Storage:              jetstream.FileStorage,
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		MaxMsgsPerSubject:    int64(p.Capacity),
		MaxAge:               p.Age,
		MaxConsumers:         maxConsumers,
		Duplicates:           p.Window,
		// What is neither urgent nor idle is asked for all the time.
		RePublish: &jetstream.RePublish{Source: s.prefix + ".qp.>", Destination: s.prefix + ".qwake.>", HeadersOnly: true},
		Metadata: map[string]string{
			attemptsKey: strconv.Itoa(p.Attempts), ackWaitKey: p.AckWait.String(),
			backoffKey: p.Backoff.String(), backoffMaxKey: p.BackoffMax.String(),
		},
	}
}

// laterConfig refuses nothing by itself: a stream with schedules cannot.
func (b *Bus) laterConfig() jetstream.StreamConfig {
	s := &b.subjects
	return jetstream.StreamConfig{
		Name:              s.laterStream(),
		Description:       "Tideway: messages that will come to durable queues, and those that are due",
		Subjects:          []string{s.prefix + ".qat.>", s.due(">"), s.prefix + ".qspent.>"},
		Retention:         jetstream.WorkQueuePolicy,
		Storage:           jetstream.FileStorage,
		MaxConsumers:      maxConsumers,
		Duplicates:        laterWindow,
		AllowDirect:       true,
		AllowMsgTTL:       true,
		AllowRollup:       true,
		AllowMsgSchedules: true,
		RePublish:         &jetstream.RePublish{Source: s.due(">"), Destination: s.prefix + ".qwake.due.>", HeadersOnly: true},
	}
}

func (b *Bus) deadConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                 b.subjects.deadStream(),
		Description:          "Tideway: messages of durable queues that used up their attempts",
		Subjects:             []string{b.subjects.dead(">")},
		Retention:            jetstream.LimitsPolicy,
		Storage:              jetstream.FileStorage,
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		MaxMsgsPerSubject:    maxDead,
		Duplicates:           deadWindow,
		AllowDirect:          true,
	}
}
