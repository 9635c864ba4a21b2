package layer

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"
)

// open has a table hear the others.
func (p *presences) open(t *table) {
	l := p.layer
	defer l.busy.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 2*subscribeTimeout)
	defer cancel()
	c := &Channel{layer: l, name: presenceMark + t.group, capacity: 1}
	c.tap = &presenceTap{p, t}
	err := l.join(ctx, Subscription{Group: presenceMark + t.group}, c)
	if err != nil {
		c.Close()
		if !errors.Is(err, ErrClosed) {
			l.lost.report(slog.LevelWarn, "presence", 1, "layer: the members of a group in other processes are not known yet; it tries again", "group", t.group, "err", err)
		}
	}
	p.opened(t, c, err)
}

// opened goes on with a table that hears the others, or could not be opened.
func (p *presences) opened(t *table, c *Channel, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.layer.now()
	t.opening = false
	if err != nil {
		t.retry = now + reopenTime
		return
	}
	t.channel, t.opened, t.first, t.ask = c, now, true, max(now, 1)
	p.hot[t] = struct{}{}
	notify(p.wake)
}

// presenceTap takes what the other processes say of a group.
type presenceTap struct {
	presences *presences
	table     *table
}

var _ GapTap = (*presenceTap)(nil)

// Offer takes all.
func (t *presenceTap) Offer(b *Batch) bool {
	for _, m := range b.Messages {
		if m.Group != "" {
			t.presences.receive(t.table, m)
		}
	}
	return true
}

// Wake is not called, as Offer takes all.
func (t *presenceTap) Wake() {}

// Gapped has the table ask for what it missed.
func (t *presenceTap) Gapped(Gap) {
	p := t.presences
	p.mu.Lock()
	defer p.mu.Unlock()
	p.askSoon(t.table, p.layer.now())
}

// receive takes what another process says.
func (p *presences) receive(t *table, m *Message) {
	s, err := parsePresence(m.Data)
	if err != nil {
		p.layer.malformed("presence", 1, err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.layer.now()
	if s.Process == p.layer.process {
		if s.Ask && t.asked == 0 {
			t.asked = max(now, 1)
		}
		return
	}
	if h := t.receive(s, now); h != nil {
		p.fetch(t, h, s.Process)
	}
	if t.answer || len(t.events) > 0 {
		p.hot[t] = struct{}{}
		notify(p.wake)
	}
}

// fetch asks a process for its state. Mu is held.
func (p *presences) fetch(t *table, h *holder, process string) {
	go func() {
		if !p.layer.begin() {
			return
		}
		defer p.layer.busy.Done()
		select {
		case p.room <- struct{}{}:
			defer func() { <-p.room }()
		case <-p.quit:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), fetchPatience)
		defer cancel()
		for again := true; again; again = again && pause(ctx, gatherTime) {
			var err error
			if again, err = p.fetchOnce(ctx, t, h, process); err != nil {
				again = !errors.Is(err, ErrNoChannel) && !errors.Is(err, ErrClosed)
			} else if !again {
				return
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		h.fetching, h.pending, h.missed = false, nil, false // what is missing shows by the next heartbeat
	}()
}

// fetchPatience is how long a state is tried to be had.
const fetchPatience = 5 * time.Second

// fetchOnce reports whether the state has to be fetched again.
func (p *presences) fetchOnce(ctx context.Context, t *table, h *holder, process string) (again bool, err error) {
	page, err := p.fetchAll(ctx, t.group, process)
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tables[t.group] != t || t.holders[process] != h {
		return false, nil
	}
	again = t.fetched(h, page)
	if len(t.events) > 0 {
		p.hot[t] = struct{}{}
		notify(p.wake)
	}
	return again, nil
}

// fetchAll returns a process's own members of a group. The pages after the first
// may be newer than its version, which what is said meanwhile makes good.
func (p *presences) fetchAll(ctx context.Context, group, process string) (*presencePage, error) {
	var all *presencePage
	for after := ""; ; {
		answers, err := p.layer.Command(ctx, process, "presence", presenceArgs{Group: group, After: after})
		if err != nil {
			return nil, err
		}
		if len(answers) != 1 {
			return nil, ErrNoChannel
		}
		page, err := parsePage(answers[0])
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = page
		} else {
			all.Seats = append(all.Seats, page.Seats...)
		}
		if !page.More || len(all.Seats) >= maxSeated {
			return all, nil
		}
		after = page.Seats[len(page.Seats)-1].User
	}
}

// answer carries out the command "presence".
func (p *presences) answer(_ context.Context, raw json.RawMessage) (any, error) {
	var args presenceArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, &MessageError{Why: "the arguments of the command presence", Err: err}
	}
	policy := p.layer.presenceOf(args.Group)
	if policy == nil {
		return &presencePage{}, nil
	}
	limit := snapshotSeats
	if args.Limit > 0 {
		limit = min(limit, args.Limit)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drain(p.layer.now())
	if t := p.tables[args.Group]; t != nil {
		return t.page(args.After, limit), nil
	}
	return &presencePage{Kept: true, TTL: policy.Lease.Milliseconds()}, nil
}

// close takes leave of the others. The layer is closed already.
func (p *presences) close(ctx context.Context) {
	p.line.Lock()
	p.closed, p.changes = true, nil
	p.line.Unlock()
	farewells := map[string]*presenceState{}
	p.mu.Lock()
	for _, t := range p.tables {
		if t.open() && len(t.home.seats)+t.home.nobody > 0 {
			farewells[t.group] = t.farewell(p.layer.process)
		}
	}
	p.mu.Unlock()
	for group, s := range farewells {
		if ctx.Err() == nil {
			p.publish(group, []*presenceState{s})
		}
	}
	close(p.quit)
}
