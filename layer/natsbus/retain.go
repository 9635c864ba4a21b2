package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// Each policy has one stream, in files, which takes the groups' messages from
// their subjects and publishes each again, under log, after it is stored. The
// streams themselves are what the processes agree upon: who starts reads their
// configurations.

// history is one policy's stream.
type history struct {
	policy layer.Retention
	stream string
	epoch  atomic.Uint64
}

// histories are the streams that the links of a Bus use.
type histories struct {
	mu        sync.Mutex // guards what follows
	all       map[string]*history
	elections []*nats.Subscription // who leads a stream has changed
}

// JetStream error codes that nats.go has no name for.
const (
	codeNoPeers         jetstream.ErrorCode = 10005 // too few servers for the replicas
	codeNoCluster       jetstream.ErrorCode = 10074 // replicas without a cluster
	codeMessageNotFound jetstream.ErrorCode = 10037
	codeOverlap         jetstream.ErrorCode = 10065 // another stream has such subjects
)

const (
	clusterReplicas = 3
	// How long a cluster elsewhere has to offer so many servers, before fewer do.
	replicaPatience = 10 * time.Second
	// How long a process that keeps nothing waits to learn what others keep.
	learnMost = 2 * time.Second
)

// Retain implements layer.Link.
func (l *link) Retain(ctx context.Context, policies []layer.Retention) ([]layer.Retention, error) {
	if len(policies) == 0 {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, learnMost)
		defer end()
	}
	found, err := l.bus.findHistories(ctx, policies)
	if err != nil && len(policies) == 0 {
		if !errors.Is(err, errNoJetStream) {
			l.bus.log.Warn("natsbus: it is not known which groups are durable; this process takes all for ordinary ones", "error", err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, l.fail("keep groups", err)
	}
	all := make([]layer.Retention, 0, len(found))
	for _, h := range found {
		all = append(all, h.policy)
	}
	l.histories = found
	return all, nil
}

// findHistories opens the streams of the network, and those of the policies,
// which it creates if need be.
func (b *Bus) findHistories(ctx context.Context, policies []layer.Retention) (all []*history, err error) {
	known, err := b.listPolicies(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range policies {
		for _, k := range known {
			if p != k && p.Overlaps(k) {
				return nil, contradiction(b.subjects.history(k.Pattern), k, p)
			}
		}
	}
	for _, k := range known {
		policies = append(policies[:len(policies):len(policies)], k)
	}
	seen := map[string]bool{}
	for _, p := range policies {
		name := b.subjects.history(p.Pattern)
		if seen[name] {
			continue
		}
		seen[name] = true
		h, err := b.findHistory(ctx, p)
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

func contradiction(stream string, has, states layer.Retention) error {
	return fmt.Errorf("the network keeps %v in the stream %s, and this process states %v: use the same in all, or delete the stream",
		has, stream, states)
}

// listPolicies reads what the network keeps, from its streams.
func (b *Bus) listPolicies(ctx context.Context) (all []layer.Retention, err error) {
	for {
		all, err = b.tryList(ctx)
		if err == nil || !errors.Is(err, jetstream.ErrStreamNotFound) && !b.mayComeUp(err) || !sleep(ctx, openRetry) {
			return all, jetStreamError(err)
		}
	}
}

// tryList is one attempt: a cluster that elects who answers does not answer.
func (b *Bus) tryList(ctx context.Context) (all []layer.Retention, err error) {
	ctx, cancel := context.WithTimeout(ctx, roundTrip/4)
	defer cancel()
	list := b.store.js.StreamNames(ctx, jetstream.WithStreamListSubject(b.subjects.prefix+".grp.>"))
	for name := range list.Name() {
		s, err := b.store.js.Stream(ctx, name)
		if err != nil {
			return nil, err
		}
		if p, ok := b.policyOf(s.CachedInfo().Config); ok {
			all = append(all, p)
		}
	}
	return all, list.Err()
}

// policyOf returns the policy that a stream of ours was made for.
func (b *Bus) policyOf(c jetstream.StreamConfig) (p layer.Retention, ok bool) {
	if len(c.Subjects) == 0 {
		return p, false
	}
	tokens, ok := strings.CutPrefix(c.Subjects[0], b.subjects.prefix+".grp.")
	if !ok {
		return p, false
	}
	p = layer.Retention{Pattern: patternOf(tokens), Messages: int(c.MaxMsgsPerSubject) - 1, Age: c.MaxAge}
	return p, c.Name == b.subjects.history(p.Pattern)
}

// findHistory opens a policy's stream, until there is an answer or ctx ends.
func (b *Bus) findHistory(ctx context.Context, p layer.Retention) (*history, error) {
	began := time.Now()
	for replicas := b.replicas(); ; {
		h, err := b.openHistory(ctx, p, replicas)
		if err == nil {
			return h, nil
		}
		few, forGood := b.tooFew(err, began)
		switch {
		case forGood && replicas > 1:
			b.log.Warn("natsbus: too few servers for three copies of durable groups; there will be one", "stream", b.subjects.history(p.Pattern))
			replicas = 1
		case !few && !isStreamGone(err) && !b.mayComeUp(err):
			return nil, err
		case !sleep(ctx, openRetry):
			return nil, fmt.Errorf("%w: the stream %s cannot be opened (%w)", layer.ErrUnavailable, b.subjects.history(p.Pattern), err)
		}
	}
}

// replicas is how many servers hold a message.
func (b *Bus) replicas() int {
	if b.server != nil {
		if c := b.opts.Embedded.Cluster; c == nil || len(c.Routes) < clusterReplicas {
			return 1
		}
		return clusterReplicas
	}
	if b.conn.ConnectedClusterName() == "" {
		return 1
	}
	return clusterReplicas
}

// tooFew reports whether a stream could not be made for want of servers that hold
// it, and whether to go on with one, after tries since began. A network of
// embedded servers knows how many there will be, and waits for them.
func (b *Bus) tooFew(err error, began time.Time) (few, forGood bool) {
	var api *jetstream.APIError
	few = errors.As(err, &api) && (api.ErrorCode == codeNoCluster || api.ErrorCode == codeNoPeers)
	return few, few && b.server == nil && (api.ErrorCode == codeNoCluster || time.Since(began) > replicaPatience)
}

// openHistory opens a policy's stream, or creates it.
func (b *Bus) openHistory(ctx context.Context, p layer.Retention, replicas int) (*history, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTrip/2)
	defer cancel()
	name := b.subjects.history(p.Pattern)
	s, err := b.store.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = b.store.js.CreateStream(ctx, b.historyConfig(p, replicas))
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		s, err = b.store.js.Stream(ctx, name) // another process was faster, with another policy
	}
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode == codeOverlap:
		return nil, fmt.Errorf("this process states %v, and another stream has subjects of such groups already: %w", p, err)
	case err != nil:
		return nil, jetStreamError(err)
	}
	if has, ok := b.policyOf(s.CachedInfo().Config); !ok {
		return nil, fmt.Errorf("stream %s is not ours: it has the subjects %q; use another prefix", name, s.CachedInfo().Config.Subjects)
	} else if has != p {
		return nil, contradiction(name, has, p)
	}
	h := b.register(&history{policy: p, stream: name})
	return h, b.learnEpoch(ctx, h)
}

// register returns the one history of that stream.
func (b *Bus) register(h *history) *history {
	b.histories.mu.Lock()
	defer b.histories.mu.Unlock()
	if old := b.histories.all[h.stream]; old != nil {
		return old
	}
	if b.histories.all == nil {
		b.histories.all = map[string]*history{}
	}
	b.histories.all[h.stream] = h
	// A leader that dies may take the live copy of what it has stored with it.
	s, err := b.conn.Subscribe("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED."+h.stream, func(*nats.Msg) {
		b.report(layer.LinkEvent{Kind: layer.Doubtful})
	})
	if err == nil {
		b.histories.elections = append(b.histories.elections, s)
	}
	return h
}

// restore opens all streams again, after a reconnect: the server may have lost
// them.
func (b *Bus) restore(ctx context.Context) {
	for _, h := range b.histories.list() {
		if _, err := b.openHistory(ctx, h.policy, b.replicas()); err != nil {
			b.log.Error("natsbus: the stream of durable groups cannot be opened; it is tried again when it is used", "stream", h.stream, "error", err)
		}
	}
}

// historyConfig has room for one message more than the policy says, by which a
// position right before those can be checked.
func (b *Bus) historyConfig(p layer.Retention, replicas int) jetstream.StreamConfig {
	groups := toTokens(p.Pattern)
	return jetstream.StreamConfig{
		Name:              b.subjects.history(p.Pattern),
		Description:       "Tideway: messages of durable groups",
		Subjects:          []string{b.subjects.prefix + ".grp." + groups, b.subjects.epoch(p.Pattern)},
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage, // in memory each eviction is a search
		Replicas:          replicas,
		Discard:           jetstream.DiscardOld,
		MaxMsgsPerSubject: int64(p.Messages) + 1,
		MaxAge:            p.Age,
		Duplicates:        p.Window(),
		AllowDirect:       true,
		AllowMsgTTL:       true,
		RePublish: &jetstream.RePublish{
			Source:      b.subjects.prefix + ".grp." + groups,
			Destination: b.subjects.prefix + ".log." + groups,
		},
	}
}

// learnEpoch reads the epoch, which the stream itself holds: one that was lost
// and made anew has another, whatever its name and its age. Who comes first
// writes it.
func (b *Bus) learnEpoch(ctx context.Context, h *history) error {
	subject := b.subjects.epoch(h.policy.Pattern)
	for {
		m, err := b.leaderGet(ctx, h.stream, msgGet{LastFor: subject})
		if err == nil && m != nil {
			epoch, err := strconv.ParseUint(string(m.Data), 36, 64)
			if err != nil || epoch == 0 {
				return fmt.Errorf("stream %s has an epoch that is none: %.40q", h.stream, m.Data)
			}
			h.epoch.Store(epoch)
			return nil
		}
		if err != nil {
			return err
		}
		n := nats.NewMsg(subject)
		n.Data = strconv.AppendUint(nil, rand.Uint64()|1, 36)
		n.Header.Set("Nats-TTL", "never")
		_, err = b.store.js.PublishMsg(ctx, n, jetstream.WithRetryAttempts(0), jetstream.WithExpectStream(h.stream),
			jetstream.WithExpectLastSequencePerSubject(0))
		var api *jetstream.APIError
		lostRace := errors.As(err, &api) && (api.ErrorCode == codeWrongLast || api.ErrorCode == codeWrongLastPending)
		if err != nil && !lostRace && !isStreamGone(err) { // on a cluster, not all servers know of a new stream at once
			return err
		}
		if !sleep(ctx, time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// msgGet asks for one message of a stream, by its sequence or as the last of a
// subject.
type msgGet struct {
	Seq     uint64 `json:"seq,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"` // from Seq on
}

// storedMsg is the answer.
type storedMsg struct {
	Subject string `json:"subject"`
	Seq     uint64 `json:"seq"`
	Header  []byte `json:"hdrs"`
	Data    []byte `json:"data"`
}

// ask calls JetStream's API.
func (b *Bus) ask(ctx context.Context, call string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	reply, err := b.conn.RequestWithContext(ctx, "$JS.API."+call, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	return nil
}

// leaderWait is how long leaderGet waits before it asks again, at first; then
// twice as long, and so on.
const leaderWait = time.Second

// leaderGet reads from the stream's leader, which alone has all that it has
// acknowledged. It returns nil when there is no such message. While a leader is
// elected nobody answers, nor later: it asks again until ctx ends.
func (b *Bus) leaderGet(ctx context.Context, stream string, what msgGet) (*storedMsg, error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *storedMsg          `json:"message"`
	}
	for wait := leaderWait; ; wait *= 2 {
		try, cancel := context.WithTimeout(ctx, wait)
		err := b.ask(try, "STREAM.MSG.GET."+stream, what, &answer)
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
	switch {
	case answer.Error == nil:
		return answer.Message, nil
	case answer.Error.ErrorCode == codeMessageNotFound:
		return nil, nil
	}
	return nil, answer.Error
}
