package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// resume measures clients of durable groups that were away while messages came,
// and return, to the next node if there are several. Each has to get every
// message that it missed, once and in order.
func resume(ctx context.Context, s *Settings, p Point) (_ *sample, err error) {
	st, err := setUp(ctx, s, p, pathReturn)
	if err != nil {
		return nil, err
	}
	defer func() { err = joinClose(err, st) }()
	for _, t := range st.fleet.opts.targets {
		t.header += "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	r := newReturn(st)
	if err := r.comeAndGo(ctx); err != nil {
		return nil, err
	}
	return r.comeBack(ctx)
}

// protocol is the subprotocol that resumes.
const protocol = "tideway.v1"

// kept is how many messages of each group the server keeps: those that are
// missed, and the one that clients have seen before.
func kept(missed int) int { return missed + 10 }

// comeBackTime is for all clients to come back.
const comeBackTime = 2 * time.Minute

// homecoming is clients that come back.
type homecoming struct {
	stand   *stand
	first   int64        // the mark of the first message; those of a group count up from it
	guests  []guest      // by client
	members atomic.Int64 // joins that were answered, the first time
	done    atomic.Int64 // clients that have all
	last    atomic.Int64 // when the last of them had, in ns since 1970
	latency Histogram    // guarded by the sink's lock
}

// guest is what a client that comes back has seen. The sink's lock guards it.
type guest struct {
	at    []byte // its place, as the server said it
	next  int64  // the mark of the message that comes next
	began int64  // to come back
	state guestState
	why   string // it is wrong
}

type guestState int

const (
	guestComes   guestState = iota // for the first time
	guestResumes                   // waits for the answer to its join
	guestReads                     // was told that it gets all
	guestHasAll
	guestWrong
)

func newReturn(st *stand) *homecoming {
	r := &homecoming{stand: st, first: time.Now().UnixNano(), guests: make([]guest, len(st.fleet.clients))}
	for i := range r.guests {
		r.guests[i].next = r.first
	}
	st.fleet.sink.watch = r.take
	st.fleet.opts.first = r.hello
	st.fleet.opts.begin = func(i int, due time.Time) { r.guests[i].began = due.UnixNano() }
	return r
}

// hello is the first frame of a client: where it was.
func (r *homecoming) hello(c *client) []byte {
	at := r.guests[c.index].at
	if at == nil {
		return []byte(`{"resume":{}}`)
	}
	return fmt.Appendf(nil, `{"resume":{"%s%d":"%s"}}`, groupPrefix, r.stand.fleet.group(c.index), at)
}

// comeAndGo has all clients see one message, and miss the next ones.
func (r *homecoming) comeAndGo(ctx context.Context) error {
	f, p := r.stand.fleet, r.stand.point
	if err := f.connect(ctx); err != nil {
		return err
	}
	if err := r.joinedAll(ctx); err != nil {
		return err
	}
	if err := r.fill(ctx, 0, 1); err != nil {
		return err
	}
	f.arrived(ctx, int64(len(f.clients)), quiet)
	for i := range r.guests {
		if g := &r.guests[i]; g.at == nil || g.next != r.first+1 {
			return fmt.Errorf("client %d did not get the message before all left", i+1)
		}
	}
	f.lose()
	if err := r.stand.gone(ctx, 0); err != nil {
		return err
	}
	if err := r.fill(ctx, 1, p.Missed); err != nil {
		return err
	}
	settle(ctx, len(f.clients))
	return ctx.Err()
}

// joinedAll waits until all clients are members: a handshake is answered before
// its client has joined, as the client says first where it was.
func (r *homecoming) joinedAll(ctx context.Context) error {
	want := int64(len(r.guests))
	for deadline := time.Now().Add(startTimeout); r.members.Load() < want; sleep(ctx, time.Millisecond) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d clients are members after %v", r.members.Load(), want, startTimeout)
		}
	}
	return nil
}

// fill has the first server store messages from to from+each in every group.
func (r *homecoming) fill(ctx context.Context, from, each int) error {
	f := fill{Groups: r.stand.fleet.opts.groups, Each: each, First: r.first + int64(from), Size: r.stand.point.Size}
	a, err := r.stand.servers[0].ask(order{Fill: &f})
	if err == nil && a.Streamed == nil {
		err = errors.New("the bench's server does not say what it stored")
	}
	if err == nil && a.Streamed.Failed > 0 {
		err = fmt.Errorf("%d of %d messages could not be stored: %s", a.Streamed.Failed, a.Streamed.Sent, a.Streamed.Err)
	}
	return errors.Join(err, ctx.Err())
}

// comeBack has all clients return, and measures it.
func (r *homecoming) comeBack(ctx context.Context) (*sample, error) {
	f, p := r.stand.fleet, r.stand.point
	f.sink.mu.Lock()
	for i := range r.guests {
		r.guests[i].state = guestResumes
	}
	f.sink.mu.Unlock()
	f.sink.reset()
	f.round++
	m, start := r.stand.meter(), time.Now()
	d, err := f.dial(ctx, 0, len(f.clients), p.Rate)
	if err != nil {
		return nil, err
	}
	r.wait(ctx)
	out, wrong := r.verdict()
	n := int64(len(f.clients))
	span := time.Unix(0, max(r.last.Load(), start.UnixNano()+1)).Sub(start).Seconds()
	out.add("resumes_per_s", "resumes", "1/s", float64(r.done.Load())/span)
	out.add("messages_per_s", "messages replayed", "1/s", float64(f.sink.received.Load())/span)
	if err := out.cost(m, n, "resume"); err != nil {
		return nil, err
	}
	if cpu, ok := out.metric("cpu_us"); ok {
		out.add("cpu_message_us", "the same per message", "us", cpu/float64(p.Missed))
	}
	out.latencies("resume", "back with all,", out.latency)
	out.latencies("handshake", "handshake", &d.handshake)
	out.add("wrong", "wrong outcomes", "", float64(wrong))
	out.ends(f.sink.counts(), streamed{})
	return out, ctx.Err()
}

// wait waits until all have what they missed, or nothing has come for a while.
func (r *homecoming) wait(ctx context.Context) {
	f := r.stand.fleet
	last, since := int64(-1), time.Now()
	for end := time.Now().Add(comeBackTime); ctx.Err() == nil && time.Now().Before(end); sleep(ctx, time.Millisecond) {
		got := f.sink.frames.Load()
		if r.done.Load() == int64(len(f.clients)) || got == last && time.Since(since) > quiet {
			break
		}
		if got != last {
			last, since = got, time.Now()
		}
	}
	// What comes twice comes behind what is complete.
	sleep(ctx, 100*time.Millisecond)
}

// verdict counts the clients that did not get exactly what they missed.
func (r *homecoming) verdict() (out *sample, wrong int) {
	f := r.stand.fleet
	f.sink.mu.Lock()
	defer f.sink.mu.Unlock()
	latency := r.latency
	out = &sample{latency: &latency}
	for i := range r.guests {
		g := &r.guests[i]
		if g.state == guestHasAll {
			continue
		}
		if g.why == "" {
			g.why = fmt.Sprintf("it has %d of %d messages", max(g.next-r.first-1, 0), r.stand.point.Missed)
		}
		if wrong++; wrong == 1 {
			out.remarks = append(out.remarks, fmt.Sprintf("client %d did not come back as it should: %s", i+1, g.why))
		}
	}
	return out, wrong
}

// take reads a frame of the protocol. The sink's lock is held.
func (r *homecoming) take(c *client, body []byte, now int64) {
	g := &r.guests[c.index]
	switch {
	case bytes.HasPrefix(body, []byte(`{"group":`)):
		r.message(g, body, now)
	case bytes.HasPrefix(body, []byte(`{"joined":`)):
		r.joined(g, body)
	case bytes.HasPrefix(body, []byte(`{"gap":`)), bytes.HasPrefix(body, []byte(`{"error":`)):
		g.wrong("the server said %.100s", body)
	}
}

// wrong notes the first thing that was wrong with a client.
func (g *guest) wrong(format string, a ...any) {
	if g.state != guestComes && g.state != guestWrong {
		g.state, g.why = guestWrong, fmt.Sprintf(format, a...)
	}
}

// joined takes the answer to a join.
func (r *homecoming) joined(g *guest, body []byte) {
	if g.state == guestComes {
		r.members.Add(1)
		return
	}
	var answer struct {
		Outcome  string `json:"outcome"`
		Replayed int    `json:"replayed"`
	}
	err := json.Unmarshal(body, &answer)
	switch missed := r.stand.point.Missed; {
	case err != nil || answer.Outcome != "resumed" || answer.Replayed != missed:
		g.wrong("its join was answered with %.200s", body)
	case g.state != guestResumes:
		g.wrong("it joined twice")
	default:
		g.state = guestReads
	}
}

// message takes a message of a group.
func (r *homecoming) message(g *guest, body []byte, now int64) {
	mark, _, ok := cutMark(body)
	if _, rest, found := bytes.Cut(body, []byte(`"at":"`)); found {
		at, _, _ := bytes.Cut(rest, []byte(`"`))
		g.at = append(g.at[:0], at...)
	}
	switch {
	case !ok || mark != g.next:
		g.wrong("message %d came where %d was due", mark-r.first, g.next-r.first)
		return
	case g.state == guestResumes:
		g.wrong("a message came before the answer to its join")
		return
	}
	g.next++
	if g.state == guestReads && g.next == r.first+int64(r.stand.point.Missed)+1 {
		g.state = guestHasAll
		r.latency.Add(now - g.began)
		r.last.Store(now)
		r.done.Add(1)
	}
}
