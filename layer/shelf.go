package layer

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// shelves answer the readers of durable groups. After an outage all clients of a
// group come back at once; each asks for the tail and reads on from a place of
// its own, and most of what they read is the same.
//
// A tail may be shared only by who asked before the question left, or it might
// miss what was stored in between. So at most one question for a group is under
// way, and whoever comes meanwhile shares the next one.
//
// Messages are different: what follows a message is the same for as long as the
// store is the same. So what was read stays on the group's shelf for a moment,
// as one run without a hole, and serves everybody whose place is within it.
type shelves struct {
	layer *Layer

	mu    sync.Mutex             // guards all below, and the shelves
	tails map[string]*tailAnswer // of the next question; nil while there is one and nobody waits for another
	all   map[string]*shelf
	doubt int         // how often the store was in doubt
	timer *time.Timer // drops what is old; nil while there is nothing
}

// tailAnswer is what who asked for a tail waits for.
type tailAnswer struct {
	done  chan struct{} // closed when the others are set
	stamp Stamp
	err   error
}

// shelf is a run of messages of one group, and who waits for others.
type shelf struct {
	epoch   uint64
	after   uint64 // the message before the first one
	run     []*Message
	bytes   int
	since   time.Time // when the oldest of the reads that it is made of began
	waiting []*ask
	reading bool
}

// ask is a reader that waits for messages.
type ask struct {
	epoch, after uint64
	most         int
	passed       bool          // a read for others came before its turn
	done         chan struct{} // closed when found is set
	found        found
}

// found is a [Page] whose messages are parsed: one that is none has no type.
type found struct {
	epoch    uint64
	run      []*Message
	left     int
	anchored bool
	err      error
}

const (
	shelfLife    = time.Second
	shelfRoom    = 4 * pageMessages // of one group
	shelfBytes   = 4 << 20          // of one group; a page may be more
	readDeadline = 10 * time.Second
)

func newShelves(l *Layer) *shelves {
	return &shelves{layer: l, tails: map[string]*tailAnswer{}, all: map[string]*shelf{}}
}

// tail returns the stamp of a group's newest message, as [Link].Last does.
func (s *shelves) tail(ctx context.Context, group string) (Stamp, error) {
	s.mu.Lock()
	a, asking := s.tails[group]
	if a == nil {
		a = &tailAnswer{done: make(chan struct{})}
		s.tails[group] = a
	}
	s.mu.Unlock()
	if !asking {
		s.spawn(func() { s.askTails(group) })
	}
	select {
	case <-a.done:
		return a.stamp, a.err
	case <-ctx.Done():
		return Stamp{}, ctx.Err()
	}
}

// spawn runs f, which asks the network. On a closed layer that fails at once.
func (s *shelves) spawn(f func()) {
	if !s.layer.begin() {
		f()
		return
	}
	go func() {
		defer s.layer.busy.Done()
		f()
	}()
}

// askTails asks for a group's tail until nobody waits for it.
func (s *shelves) askTails(group string) {
	for {
		s.mu.Lock()
		a := s.tails[group]
		if a == nil {
			delete(s.tails, group)
			s.mu.Unlock()
			return
		}
		s.tails[group] = nil
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), readDeadline)
		a.stamp, a.err = s.layer.link.Last(ctx, group)
		cancel()
		close(a.done)
	}
}

// read returns messages that follow after, at most so many, as [Link].Read does
// for a reader of that epoch.
func (s *shelves) read(ctx context.Context, group string, epoch, after uint64, most int) found {
	s.mu.Lock()
	h := s.all[group]
	if h == nil {
		h = &shelf{}
		s.all[group] = h
		s.sweepLater()
	}
	if f, ok := h.find(epoch, after, most); ok {
		s.mu.Unlock()
		return f
	}
	a := &ask{epoch: epoch, after: after, most: most, done: make(chan struct{})}
	h.waiting = append(h.waiting, a)
	begin := !h.reading
	h.reading = true
	s.mu.Unlock()
	if begin {
		s.spawn(func() { s.readFor(group, h) })
	}
	select {
	case <-a.done:
		return a.found
	case <-ctx.Done():
		return found{err: ctx.Err()}
	}
}

// find looks for what follows after on the shelf. The shelves' mu is held.
func (h *shelf) find(epoch, after uint64, most int) (f found, ok bool) {
	if after == 0 || epoch != h.epoch || time.Since(h.since) >= shelfLife {
		return f, false
	}
	i, ok := h.index(after)
	if !ok || i == len(h.run) {
		return f, false
	}
	run := h.run[i:]
	run = run[:min(most, len(run)):min(most, len(run))]
	return found{epoch: epoch, run: run, anchored: true}, true
}

// index returns the place in the run of what follows a message that is in it, or
// right before it.
func (h *shelf) index(after uint64) (i int, ok bool) {
	if after == h.after {
		return 0, true
	}
	i, ok = slices.BinarySearchFunc(h.run, after, func(m *Message, sequence uint64) int {
		return cmp.Compare(m.Position.sequence, sequence)
	})
	return i + 1, ok
}

// readFor reads until nobody waits.
func (s *shelves) readFor(group string, h *shelf) {
	for {
		s.mu.Lock()
		first := s.serve(h)
		if first == nil {
			h.reading = false
			s.mu.Unlock()
			return
		}
		after, most := first.after, first.most
		for _, a := range h.waiting {
			if a.after > 0 && a.after < after && a.epoch == first.epoch && !first.passed {
				after = a.after
			}
			most = max(most, a.most)
		}
		if after == 0 {
			most = first.most
		}
		first.passed = true
		asked, doubt, began := slices.Clone(h.waiting), s.doubt, time.Now()
		s.mu.Unlock()

		f := s.fetch(group, after, most)
		s.mu.Lock()
		for _, a := range asked {
			if f.err != nil || a.after == after && (after > 0 || a.most == most) {
				a.answer(f)
			}
		}
		if doubt == s.doubt && f.err == nil && (f.anchored || after == 0) && len(f.run) > 0 {
			h.put(after, f, began)
		}
		s.mu.Unlock()
	}
}

// answer ends the wait. A page that was read for more is cut to what was asked.
func (a *ask) answer(f found) {
	if n := len(f.run) - a.most; n > 0 {
		f.run, f.left = f.run[:a.most:a.most], f.left+n
	}
	a.found = f
	close(a.done)
}

// serve answers who waits for what is on the shelf, forgets who has an answer,
// and returns the first of the rest. Mu is held.
func (s *shelves) serve(h *shelf) *ask {
	h.waiting = slices.DeleteFunc(h.waiting, func(a *ask) bool {
		select {
		case <-a.done:
			return true
		default:
		}
		f, ok := h.find(a.epoch, a.after, a.most)
		if ok {
			a.answer(f)
		}
		return ok
	})
	if len(h.waiting) == 0 {
		h.waiting = nil
		return nil
	}
	return h.waiting[0]
}

// fetch reads from the network.
func (s *shelves) fetch(group string, after uint64, most int) found {
	ctx, cancel := context.WithTimeout(context.Background(), readDeadline)
	defer cancel()
	page, err := s.layer.link.Read(ctx, group, after, most)
	f := found{epoch: page.Epoch, left: page.Left, anchored: page.Anchored, err: err}
	for i := range page.Messages {
		in := &page.Messages[i]
		in.Subscription.Group = group
		m := newDelivery(in)
		if err := s.layer.parse(&m.Message); err != nil {
			s.layer.malformed("group "+group, 1, err)
		}
		f.run = append(f.run, &m.Message)
	}
	return f
}

// put adds what was read to the run, if the two are one, or replaces it. The
// shelves' mu is held.
func (h *shelf) put(after uint64, f found, began time.Time) {
	fresh := shelf{epoch: f.epoch, after: after, run: f.run, since: began}
	for _, m := range f.run {
		fresh.bytes += len(m.Data)
	}
	joined := fresh
	if h.epoch == f.epoch && time.Since(h.since) < shelfLife && len(h.run) > 0 {
		joined = h.with(fresh)
	}
	if len(joined.run) > shelfRoom || joined.bytes > shelfBytes {
		joined = fresh
	}
	h.epoch, h.after, h.run, h.bytes, h.since = joined.epoch, joined.after, joined.run, joined.bytes, joined.since
}

// with returns one run made of two, or the other one alone if there is, or may
// be, a hole between them.
func (h *shelf) with(o shelf) shelf {
	front, back := h, &o
	if o.after < h.after {
		front, back = &o, h
	}
	i, ok := front.index(back.after)
	if !ok {
		return o
	}
	if front.last() >= back.last() {
		joined := *front
		joined.since = h.since
		return joined
	}
	joined := shelf{epoch: o.epoch, after: front.after, run: slices.Concat(front.run[:i], back.run), since: h.since}
	for _, m := range joined.run {
		joined.bytes += len(m.Data)
	}
	return joined
}

func (h *shelf) last() uint64 { return h.run[len(h.run)-1].Position.sequence }

// forget empties the shelves: the store may have lost its end, and what is
// stored next may have the places of what was read.
func (s *shelves) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubt++
	for _, h := range s.all {
		h.epoch, h.run = 0, nil
	}
}

// sweepLater makes sure that shelves which nobody uses are dropped. Mu is held.
func (s *shelves) sweepLater() {
	if s.timer == nil {
		s.timer = time.AfterFunc(shelfLife, s.sweep)
	}
}

func (s *shelves) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for group, h := range s.all {
		if !h.reading && time.Since(h.since) >= shelfLife {
			delete(s.all, group)
		}
	}
	s.timer = nil
	if len(s.all) > 0 {
		s.sweepLater()
	}
}

// close ends the sweeping.
func (s *shelves) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}
