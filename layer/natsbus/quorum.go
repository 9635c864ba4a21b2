package natsbus

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// A server that is cut off from the others keeps its clients: the connection
// stays up, ordinary groups work among those who are cut off together, and
// nothing tells that what is sent elsewhere does not come, or that nothing can
// be stored. So a process that uses durable groups asks each stream's leader,
// from time to time, when it last heard from enough of its followers. Where that
// is too long ago the link is down, and an own connection goes to another server
// if it knows one.

const (
	quorumProbe = 2 * time.Second        // between two questions
	quorumRetry = 250 * time.Millisecond // after one without an answer
	quorumWait  = time.Second
	// An election takes 4 to 7 seconds after a server died.
	cutOffAfter = 7 * time.Second
	// Another server is tried after cutOffAfter, then less and less often.
	mostBetweenMoves = time.Minute
)

// Events of the Bus's own.
const (
	quorumLost layer.LinkEventKind = topologyChanged - 1 - iota
	quorumBack
)

// watchQuorum is a goroutine of the Bus.
func (b *Bus) watchQuorum() {
	w := quorumWatch{bus: b, whole: map[*history]time.Time{}}
	wait := time.NewTimer(quorumProbe)
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-b.quit:
			return
		}
		if w.look() {
			wait.Reset(quorumProbe)
		} else {
			wait.Reset(quorumRetry)
		}
	}
}

// quorumWatch is what watchQuorum knows.
type quorumWatch struct {
	bus      *Bus
	whole    map[*history]time.Time // when the stream last had its quorum, as far as is known
	lost     bool
	moved    time.Time // when another server was chosen
	patience time.Duration
}

// look asks all streams and reports whether all is well.
func (w *quorumWatch) look() bool {
	b := w.bus
	if !b.conn.IsConnected() {
		clear(w.whole) // a fresh start when it is back
		return true
	}
	silent, stream, err := w.ask()
	switch {
	case silent == 0 && w.lost:
		w.lost = false
		b.onEvent(quorumBack, nil)
	case silent >= cutOffAfter && !w.lost:
		w.lost = true
		w.moved, w.patience = time.Time{}, cutOffAfter
		b.onEvent(quorumLost, fmt.Errorf("natsbus: the server %s is cut off: the stream %s had no leader with enough followers for %v (%w)",
			b.conn.ConnectedServerName(), stream, silent.Round(time.Second), err))
	}
	if w.lost {
		w.move()
	}
	return silent == 0
}

// ask asks all streams at once and returns the longest silence.
func (w *quorumWatch) ask() (silent time.Duration, stream string, err error) {
	all := w.bus.histories.list()
	wholes, errs := make([]time.Time, len(all)), make([]error, len(all))
	var asking sync.WaitGroup
	for i, h := range all {
		asking.Go(func() { wholes[i], errs[i] = w.bus.lastWhole(h.stream) })
	}
	asking.Wait()
	now := time.Now()
	for i, h := range all {
		if t, known := w.whole[h]; !known && errs[i] != nil {
			w.whole[h] = now // the question was the first
		} else if wholes[i].After(t) {
			w.whole[h] = wholes[i]
		}
		if s := now.Sub(w.whole[h]); (errs[i] != nil || s >= cutOffAfter) && s >= silent {
			silent, stream, err = max(s, 1), h.stream, errs[i]
		}
	}
	if silent > 0 && err == nil {
		err = errFollowers
	}
	return silent, stream, err
}

var errNoLeader = fmt.Errorf("%w: the stream has no leader", layer.ErrUnavailable)

var errFollowers = fmt.Errorf("%w: the followers do not answer the leader", layer.ErrUnavailable)

// move goes to another server, if there is one and it is time.
func (w *quorumWatch) move() {
	b := w.bus
	if b.server != nil || b.opts.Conn != nil || len(b.conn.Servers()) < 2 || time.Since(w.moved) < w.patience {
		return
	}
	if !w.moved.IsZero() {
		w.patience = min(2*w.patience, mostBetweenMoves)
	}
	w.moved = time.Now()
	b.log.Warn("natsbus: trying another NATS server", "left", b.conn.ConnectedUrlRedacted())
	_ = b.conn.ForceReconnect() // it fails when the connection is closed for good
}

// lastWhole returns when the leader of a stream last had enough followers to
// store anything: now, if it needs none.
func (b *Bus) lastWhole(stream string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(context.Background(), quorumWait)
	defer cancel()
	reply, err := b.conn.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, nil)
	if err != nil {
		return time.Time{}, err
	}
	var info struct {
		Error   *jetstream.APIError    `json:"error"`
		Cluster *jetstream.ClusterInfo `json:"cluster"`
	}
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		return time.Time{}, fmt.Errorf("stream %s: %w", stream, err)
	}
	if info.Error != nil && info.Error.Code == 503 {
		return time.Time{}, info.Error
	}
	now := time.Now()
	switch {
	case info.Cluster != nil && info.Cluster.Leader == "":
		return time.Time{}, errNoLeader // a follower may answer, if it knows of no leader
	case info.Cluster == nil || len(info.Cluster.Replicas) == 0:
		return now, nil
	}
	var ages []time.Duration
	for _, r := range info.Cluster.Replicas {
		ages = append(ages, r.Active)
	}
	slices.Sort(ages)
	needed := (len(ages) + 1) / 2 // besides the leader itself
	if age := ages[needed-1]; age > quorumProbe {
		return now.Add(-age), nil
	}
	return now, nil
}

// list returns the streams that are in use.
func (x *histories) list() (all []*history) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range x.all {
		all = append(all, h)
	}
	return all
}
