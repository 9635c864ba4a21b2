package natsbus

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Each Bus tells the others, by heartbeats, that it lives, which server it is
// attached to and which processes it serves. From that the others know which
// servers an interest has to reach, and who should answer a call to all.

// beat is a heartbeat.
type beat struct {
	Bus       string   `json:"bus"`
	Server    string   `json:"server"`
	Processes []string `json:"processes,omitempty"`
	Leaving   bool     `json:"leaving,omitempty"`
}

// peers are the other Buses of the network.
type peers struct {
	mu  sync.Mutex // guards all
	all map[string]peer
}

type peer struct {
	server    string
	processes []string
	until     time.Time
}

// Bounds on what a stranger may make us remember.
const (
	maxPeers = 10_000
	maxBeat  = 16 << 10
)

// note takes a heartbeat and reports whether its sender was unknown, or is at
// another server than before.
func (p *peers) note(h *beat, until time.Time) (isNew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.Leaving {
		delete(p.all, h.Bus)
		return false
	}
	old, ok := p.all[h.Bus]
	if !ok && len(p.all) >= maxPeers {
		return false
	}
	if p.all == nil {
		p.all = make(map[string]peer)
	}
	p.all[h.Bus] = peer{h.Server, h.Processes, until}
	return !ok || old.server != h.Server
}

// live calls f for each peer that is alive, and forgets the others.
func (p *peers) live(f func(peer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for id, peer := range p.all {
		if now.After(peer.until) {
			delete(p.all, id)
			continue
		}
		f(peer)
	}
}

// servers returns the servers, except own, that live peers are attached to.
func (p *peers) servers(own string) []string {
	seen := map[string]bool{own: true}
	var servers []string
	p.live(func(peer peer) {
		if !seen[peer.server] {
			seen[peer.server] = true
			servers = append(servers, peer.server)
		}
	})
	return servers
}

// hosts reports whether a live peer is attached to server.
func (p *peers) hosts(server string) bool {
	found := false
	p.live(func(peer peer) { found = found || peer.server == server })
	return found
}

// listen subscribes to heartbeats, and to the barrier requests for the server
// that the Bus is attached to. It is called again after a reconnect.
func (b *Bus) listen() error {
	subject := b.subjects.barrier(b.conn.ConnectedServerId())
	var renewed []*nats.Subscription
	for _, s := range b.subscriptions() {
		if !s.IsValid() {
			continue // hello's, of long ago
		}
		if strings.HasPrefix(s.Subject, b.subjects.barrier("")) && s.Subject != subject {
			_ = s.Unsubscribe() // of the old server; if that fails, it is gone with the connection
			continue
		}
		renewed = append(renewed, s)
	}
	have := func(subject string) bool {
		for _, s := range renewed {
			if s.Subject == subject {
				return true
			}
		}
		return false
	}
	if !have(subject) {
		// One answer for each server is enough: hence a queue group.
		s, err := b.conn.QueueSubscribe(subject, "tideway", func(m *nats.Msg) { _ = m.Respond(nil) })
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		renewed = append(renewed, s)
	}
	if subject := b.subjects.heartbeat(); !have(subject) {
		s, err := b.conn.Subscribe(subject, b.onBeat)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		renewed = append(renewed, s)
	}
	b.mu.Lock()
	b.own = renewed
	b.mu.Unlock()
	return nil
}

func (b *Bus) subscriptions() []*nats.Subscription {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.own
}

// onBeat takes a heartbeat. The order is what a starting process relies on: it
// is noted before it is answered, so an interest that this process had before
// the answer reaches the new one's server before the answer does, and a later
// one is followed by a barrier round that includes that server.
func (b *Bus) onBeat(m *nats.Msg) {
	isNew := b.noteBeat(m.Data)
	switch {
	case m.Reply != "":
		_ = m.Respond(b.beatNow(false)) // the asker has gone, or asks again after a reconnect
	case isNew:
		b.beat()
	}
}

func (b *Bus) noteBeat(data []byte) (isNew bool) {
	var h beat
	if len(data) > maxBeat || json.Unmarshal(data, &h) != nil ||
		h.Bus == "" || h.Bus == b.id || !isServerID(h.Server) {
		return false
	}
	return b.peers.note(&h, time.Now().Add(3*b.opts.Heartbeat+time.Second))
}

// isServerID reports whether s may be a token of a subject.
func isServerID(s string) bool {
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool { return r == '.' || !isNameRune(r) })
}

// beat sends a heartbeat. A failure shows elsewhere: the connection is down.
func (b *Bus) beat() { _ = b.conn.Publish(b.subjects.heartbeat(), b.beatNow(false)) }

// leave tells the others not to wait for this Bus.
func (b *Bus) leave() {
	if b.conn.IsConnected() {
		_ = b.conn.Publish(b.subjects.heartbeat(), b.beatNow(true))
		_ = b.conn.FlushTimeout(time.Second) // best effort: they find out by themselves
	}
}

func (b *Bus) beatNow(leaving bool) []byte {
	h := beat{Bus: b.id, Server: b.conn.ConnectedServerId(), Leaving: leaving}
	for _, l := range b.attached() {
		h.Processes = append(h.Processes, l.process)
	}
	data, err := json.Marshal(&h)
	if err != nil {
		panic(err) // strings always marshal
	}
	return data
}

// processes returns the names of all processes that are known to live.
func (b *Bus) processes() map[string]bool {
	all := map[string]bool{}
	for _, l := range b.attached() {
		all[l.process] = true
	}
	b.peers.live(func(p peer) {
		for _, name := range p.processes {
			all[name] = true
		}
	})
	return all
}

// young reports whether there may be processes of which this one has not heard
// yet: each says every Heartbeat that it lives.
func (b *Bus) young() bool {
	alone := b.server != nil && !b.server.networks
	return !alone && time.Since(b.began) < b.opts.Heartbeat+time.Second/2
}

// How long a starting process waits for the others' answers: helloQuiet after
// the last one. Those that come later are noted, too.
const (
	helloQuiet = 100 * time.Millisecond
	helloMost  = time.Second
)

// hello makes the Bus known to the others and learns of them. A server that no
// other is connected to needs no wait: whoever comes later finds this Bus.
func (b *Bus) hello(ctx context.Context) error {
	if b.server != nil && !b.server.networks {
		b.beat()
		return b.flush()
	}
	answers := make(chan struct{}, 1)
	s, err := b.conn.Subscribe(b.conn.NewInbox(), func(m *nats.Msg) {
		b.noteBeat(m.Data)
		select {
		case answers <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.own = append(b.own, s)
	b.mu.Unlock()
	// By then whoever stood still too long to answer in time has sent a heartbeat.
	// Unsubscribe fails when Close or the connection's end was first.
	time.AfterFunc(b.opts.Heartbeat, func() { _ = s.Unsubscribe() })
	if err := b.conn.PublishRequest(b.subjects.heartbeat(), s.Subject, b.beatNow(false)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, helloMost)
	defer cancel()
	quiet := time.NewTimer(helloQuiet)
	defer quiet.Stop()
	for {
		select {
		case <-answers:
			quiet.Reset(helloQuiet)
		case <-quiet.C:
			return b.flush()
		case <-ctx.Done():
			return b.flush()
		}
	}
}
