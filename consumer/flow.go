package consumer

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/tideway-go/tideway/layer"
)

const (
	// resumeWait is how long a join waits for the client's cursors, from Accept
	// on. A client that means to resume says so in its first frame.
	resumeWait = 2 * time.Second

	// sessionPurpose is what session tokens are signed for.
	sessionPurpose = "session"
)

// flow is what a connection has beyond plain frames: the protocol tideway.v1, if
// its client speaks it, and the joins that are under way. Most connections that
// speak plain frames have none. Conn.mu guards it.
type flow struct {
	v1      bool     // the client speaks tideway.v1; false before Accept
	early   [][]byte // frames that wait for hello, which Accept sends
	session string   // by which the client's own messages are known; "" in plain
	first   string   // what session was before the client resumed another

	rate allowance // for what the client sends

	plan     func(*layer.Batch) any // makes a plan for clients that speak tideway.v1; made once
	requests []string               // the id of each of inbox.frames, "" for none
	current  request                // of what is being handled

	known   bool              // the client's cursors have come, or are not awaited any more
	knowing chan struct{}     // closed when known; nil while nobody waits
	cursors map[string]string // for joins to come
	opened  time.Time         // when it was accepted
	decided bool              // the consumer has joined what it joins by itself

	joins     map[string]*join // those under way, and those whose seam may still show doubles
	queue     []*join          // for the replayer, in order
	replaying chan struct{}    // closed when the replayer has ended; nil without one
	cancel    context.CancelFunc

	// last is the newest message that was handled or forwarded, of durable groups
	// with messages for handlers: from there a connection that was too slow to be
	// handed all of them catches up.
	last map[string]layer.Position

	replayed []*layer.Message // to be handled, before what the channel holds
	emptied  chan struct{}    // closed when they have been handled; nil without any
}

// speaks reports whether the client speaks tideway.v1. The flow may be nil.
func (f *flow) speaks() bool { return f != nil && f.v1 }

// speaks is flow.speaks for who does not hold mu.
func (c *Conn) speaks() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flow.speaks()
}

// mayspeak reports whether the client speaks tideway.v1, or may yet. Mu is held.
func (c *Conn) maySpeak() bool {
	return c.flow.speaks() || !c.accepted && c.offers(Protocol)
}

// theFlow returns the connection's flow, which it begins if need be. Mu is held.
func (c *Conn) theFlow() *flow {
	if c.flow == nil {
		c.forward.Store(nil) // from now on each batch is looked at
		c.flow = &flow{joins: map[string]*join{}}
	}
	return c.flow
}

// greet begins the protocol that was agreed upon: hello is the first frame, and
// behind it stand the answers to the joins so far. Mu is held.
func (c *Conn) greet() {
	if c.subprotocol == Protocol {
		f := c.theFlow()
		f.v1, f.opened = true, time.Now()
		f.session = rand.Text()
		token := f.session
		if c.setup.Layer != nil {
			token = c.setup.Layer.Sign(sessionPurpose, []byte(token))
		}
		c.offer(helloFrame(token, max(c.setup.Terms.Ping, 0)))
		for _, b := range f.early {
			c.offer(b)
		}
	}
	if c.flow != nil {
		c.flow.early = nil
		c.replayOn()
	}
}

// offer sends a frame of the protocol without waiting. An error says that the
// connection has ended, which the reader finds out.
func (c *Conn) offer(b []byte) { c.setup.Socket.Offer(prepareText(b)) }

// tell is offer, for what follows from what the client sent: it does not hurry,
// so that a client that floods us with refusals is slowed by its own reading.
func (c *Conn) tell(b []byte) { c.setup.Socket.Send(&c.life, prepareText(b)) }

// begin makes the request of the frame that is taken out of the inbox the current
// one. Conn.mu is held.
func (f *flow) begin() {
	f.current = request{id: f.requests[0]}
	if f.requests = f.requests[1:]; len(f.requests) == 0 {
		f.requests = nil
	}
}

// handing reports whether messages of a replay wait to be handled, or for the
// word that they were. The flow may be nil.
func (f *flow) handing() bool { return f != nil && f.emptied != nil }

// planner returns what makes a plan for the connection's client, nil for one that
// speaks plain frames. Mu is held.
func (c *Conn) planner() func(*layer.Batch) any {
	if !c.flow.speaks() || c.typ == nil {
		return nil
	}
	if c.flow.plan == nil {
		t, l := c.typ.table(), c.setup.Layer
		c.flow.plan = func(b *layer.Batch) any { return t.makePlan(b, l) }
	}
	return c.flow.plan
}

// pass notes that a batch goes to the client, or reports that it is from there.
func (c *Conn) pass(b *layer.Batch, sender string) (own bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flow != nil && len(c.flow.last) > 0 {
		c.flow.passed(b.Messages[len(b.Messages)-1])
	}
	return c.isOwn(sender)
}

// Bye tells a client that speaks tideway.v1 that it will be closed with code, and
// to come back after a random wait between from and to, so that not all come at
// once. Close follows.
func (c *Conn) Bye(code StatusCode, from, to time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flow.speaks() {
		c.offer(byeFrame(code, from, to))
	}
}

// isOwn reports whether sender names this connection, or the one that its client
// had before. Mu is held.
func (c *Conn) isOwn(sender string) bool {
	switch {
	case sender == "":
		return false
	case c.channel != nil && sender == c.channel.Name():
		return true
	}
	return c.flow != nil && (sender == c.flow.session || sender == c.flow.first)
}

// sender is by what the connection's own messages are known; "" while it has no
// way to get any back.
func (c *Conn) sender() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.flow.speaks():
		return c.flow.session
	case c.channel != nil:
		return c.channel.Name()
	}
	return ""
}

// understand takes what a client that speaks tideway.v1 sent. What is for Receive
// comes back, with the id of the request that it is.
func (c *Conn) understand(f Frame) (data Frame, id string, forReceive bool) {
	if f.Type != Text {
		return f, "", !c.limited("")
	}
	in, err := parseClient(f.Data, c.mostGroups())
	switch {
	case err != nil && in.id != "":
		c.tell(replyErrorFrame(in.id, refusedFrame{Code: codeFrame, Message: err.Error()}))
	case err != nil:
		c.tell(errorFrame(codeFrame, err.Error()))
	case in.data != nil:
		c.settleCursors(nil, "")
		return Frame{Text, in.data}, in.id, !c.limited(in.id)
	case in.token != "":
		c.renew(in.token, in.id)
	case in.resume != nil:
		c.resume(in.resume, in.session)
	case in.ping != nil:
		c.tell(pongFrame(in.ping))
	default:
		c.tell(errorFrame(codeUnknown, "nothing in this frame is known here"))
	}
	return Frame{}, "", false
}

// resume takes the client's cursors. Groups that were joined without them have
// begun with what was live then: what came in between is missed.
func (c *Conn) resume(cursors map[string]string, token string) {
	session := ""
	if token != "" && c.setup.Layer != nil {
		ctx, cancel := context.WithTimeout(&c.life, readRetryMost)
		defer cancel()
		id, err := c.setup.Layer.Verify(ctx, sessionPurpose, token)
		if err == nil { // else it counts as another client
			session = string(id)
		}
	}
	if c.settleCursors(cursors, session) {
		return
	}
	c.tell(errorFrame(codeLate, "resume is the first frame; groups that were joined before it have begun anew"))
	var frames [][]byte
	c.mu.Lock()
	for group := range cursors {
		if c.isIn(group) {
			frames = append(frames, gapFrame(group, GapFar))
		} else {
			frames = append(frames, leftFrame(group))
		}
	}
	c.mu.Unlock()
	for _, b := range frames {
		c.tell(b)
	}
}

// settleCursors ends the wait for the client's cursors. It reports false when
// that was over already.
func (c *Conn) settleCursors(cursors map[string]string, session string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.flow
	if f.known {
		return false
	}
	f.known = true
	f.cursors = cursors
	c.unjoined()
	if session != "" {
		f.first, f.session = f.session, session
	}
	if f.knowing != nil {
		close(f.knowing)
		f.knowing = nil
	}
	return true
}

// awaitCursors waits until the client's cursors are known, or will not come.
func (c *Conn) awaitCursors(ctx context.Context) {
	c.mu.Lock()
	f := c.flow
	if f.known {
		c.mu.Unlock()
		return
	}
	if f.knowing == nil {
		f.knowing = make(chan struct{})
	}
	knowing, left := f.knowing, time.Until(f.opened.Add(resumeWait))
	c.mu.Unlock()
	timeout := time.NewTimer(left)
	defer timeout.Stop()
	select {
	case <-knowing:
	case <-timeout.C:
		c.settleCursors(nil, "")
	case <-ctx.Done():
	}
}

// takeCursor returns the cursor that the client has for a group, once; "" is none.
func (c *Conn) takeCursor(group string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	cursor := c.flow.cursors[group]
	delete(c.flow.cursors, group)
	return cursor
}
