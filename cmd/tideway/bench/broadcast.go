package bench

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// broadcast measures the way of messages from a publisher to the members of
// groups, and what the floor of the machine takes for the same.
func broadcast(ctx context.Context, s *Settings, p Point) (*sample, error) {
	return besideFloor(ctx, s, p, fanOut)
}

// besideFloor measures a server, and the floor as well if the settings say so.
func besideFloor(ctx context.Context, s *Settings, p Point, measure func(context.Context, *Settings, Point) (*sample, error)) (*sample, error) {
	out, err := measure(ctx, s, p)
	if err != nil || !s.Floor {
		return out, err
	}
	own := *s
	own.onFloor, own.URL, own.Publisher, own.PIDs, own.Deflate = true, "", Inside, nil, false
	own.Hello, own.Header = "", nil
	p.Clients, p.Slow, p.Nodes = p.Clients-p.Slow, 0, 1
	least, err := measure(ctx, &own, p)
	if err != nil {
		return nil, fmt.Errorf("the floor: %w", err)
	}
	out.above(least)
	return out, nil
}

// above adds what the floor took, and the ratio to it.
func (out *sample) above(least *sample) {
	for _, m := range least.metrics {
		switch m.Key {
		case "cpu_us", "latency_p50", "latency_p99", "connects_per_s", "all_back_s", "peace_p99", "loss_p99", "storm_p99":
			out.add("floor_"+m.Key, "floor: "+m.Title, m.Unit, m.Value)
		}
	}
	if cpu, ok := least.metric("cpu_us"); ok {
		out.over("ratio", floorRatio, cpu)
	}
}

// fanOut measures one server.
func fanOut(ctx context.Context, s *Settings, p Point) (*sample, error) {
	path := pathRoom
	if s.Handled {
		path = pathHandled
	}
	return flow(ctx, s, p, path)
}

// flow measures messages between clients that are connected to path.
func flow(ctx context.Context, s *Settings, p Point, path string) (_ *sample, err error) {
	st, err := setUp(ctx, s, p, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = joinClose(err, st) }()
	if err := st.fleet.connect(ctx); err != nil {
		return nil, err
	}
	settle(ctx, p.Clients)
	if err := st.warmUp(ctx); err != nil {
		return nil, err
	}
	if p.Rate > 0 && p.Clients > st.fleet.opts.groups && !s.Deflate {
		st.fleet.sink.noteLast()
	}
	m := st.meter()
	began := time.Now()
	r, err := st.publish(ctx, s.Duration)
	if err != nil {
		return nil, err
	}
	return st.delivered(r, m, began)
}

// warmUp sends for a fifth of a run's time, half a second at most, and forgets
// what arrived.
//
// A cluster that has only just formed may still be joining its nodes: there it
// is done again until nothing is lost.
func (st *stand) warmUp(ctx context.Context) error {
	for deadline := time.Now().Add(startTimeout); ; {
		r, err := st.publish(ctx, min(st.settings.Duration/5, 500*time.Millisecond))
		if err != nil {
			return err
		}
		got := st.fleet.sink.received.Load()
		if got == 0 && r.Sent > 0 {
			return fmt.Errorf("no message that was sent arrived: does the server pass them on to the client's group?%s", st.explain())
		}
		st.fleet.sink.reset()
		if len(st.servers) < 2 || got >= st.fleet.expected(r.Sent-r.Failed) || time.Now().After(deadline) {
			return nil
		}
	}
}

// explain returns what the server did instead, if that is known.
func (st *stand) explain() string {
	c := st.fleet.sink.counts()
	switch {
	case c.problem != nil:
		return fmt.Sprintf(" (%v)", c.problem)
	case len(c.closes) > 0:
		return fmt.Sprintf(" (it closed connections with the codes %v)", slices.Sorted(maps.Keys(c.closes)))
	case c.frames > 0:
		return fmt.Sprintf(" (it sent %d messages without the mark)", c.frames)
	}
	return ""
}

// delivered makes the sample of a stream that arrived.
func (st *stand) delivered(r streamed, m *meter, began time.Time) (*sample, error) {
	c := st.fleet.sink.counts()
	if c.problem != nil {
		return nil, c.problem
	}
	if c.messages == 0 {
		return nil, fmt.Errorf("nothing arrived%s", st.explain())
	}
	out := &sample{latency: &c.latency}
	span := time.Unix(0, c.last).Sub(began)
	out.add("deliveries_per_s", "deliveries", "1/s", float64(c.messages)/span.Seconds())
	if err := out.cost(m, c.messages, "delivery"); err != nil {
		return nil, err
	}
	out.latencies("latency", "latency", &c.latency)
	if len(c.lasts) > 0 {
		out.latencies("last", "last client's latency", c.lastClients())
	}
	want := st.fleet.expected(r.Sent - r.Failed)
	out.add("lost", "lost", "", float64(max(want-c.messages, 0)))
	if extra := c.messages - want; extra > 0 {
		out.remarks = append(out.remarks, "more messages arrived than were sent: the server doubles some, or somebody else publishes")
	}
	if st.settings.Deflate && c.compressed < c.frames {
		out.remarks = append(out.remarks, fmt.Sprintf("the server compressed %d of %d messages", c.compressed, c.frames))
	}
	out.ends(c, r)
	return out, st.slowClosed(out)
}

// slowClosed adds how many of those who never read the server has closed, which
// they themselves do not notice.
func (st *stand) slowClosed(out *sample) error {
	if len(st.servers) == 0 || st.point.Slow == 0 {
		return nil
	}
	c, err := st.count(false)
	if err == nil {
		out.add("slow_closed", "clients that never read, closed", "", float64(st.point.Clients-c.Connections))
	}
	return err
}

// cost adds what each of n deliveries, handshakes or messages cost, and what
// makes that doubtful.
func (out *sample) cost(m *meter, n int64, of string) error {
	if m == nil {
		out.remarks = append(out.remarks, noteNoCPU)
		return nil
	}
	u, err := m.stop()
	if err != nil {
		return fmt.Errorf("the server's CPU time: %w", err)
	}
	out.add("cpu_us", "server CPU per "+of, "us", micro(u.server)/float64(max(n, 1)))
	out.add("client_cpu_us", "load client CPU per "+of, "us", micro(u.client)/float64(max(n, 1)))
	out.add("server_cores", "server", "cores", float64(u.server)/float64(u.elapsed))
	out.add("client_busy", "load client's thread busy", "%", 100*u.reader)
	out.add("other_cores", "other load", "cores", u.other)
	out.remarks = append(out.remarks, u.remarks()...)
	return nil
}

const noteNoCPU = "the server's CPU time is not known: name its processes with --pid, on Linux"

func micro(d time.Duration) float64 { return float64(d) / 1e3 }

// ends notes what ended unexpectedly.
func (out *sample) ends(c tally, r streamed) {
	for _, code := range slices.Sorted(maps.Keys(c.closes)) {
		out.remarks = append(out.remarks, fmt.Sprintf("the server closed connections with the code %d", code))
	}
	if c.lost > 0 && len(c.closes) == 0 {
		out.remarks = append(out.remarks, "the server dropped connections without a close frame")
	}
	if c.disordered > 0 {
		out.remarks = append(out.remarks, "messages of one group arrived out of order")
	}
	if r.Failed > 0 {
		out.remarks = append(out.remarks, "some messages could not be sent: "+r.Err)
	}
	if late := time.Duration(r.Late); late > 100*time.Millisecond {
		out.remarks = append(out.remarks, fmt.Sprintf("the publisher fell behind its rate, by %v in the end: the server, or this machine, cannot keep it", late.Round(time.Millisecond)))
	}
}

// joinClose closes a stand, whose error counts when there is no other.
func joinClose(err error, st *stand) error {
	if closed := st.close(); err == nil {
		return closed
	}
	return err
}
