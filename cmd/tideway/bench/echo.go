package bench

import (
	"context"
	"errors"
)

// echo measures round trips: clients take turns to send, and get their own
// message back.
func echo(ctx context.Context, s *Settings, p Point) (*sample, error) {
	p.Groups = p.Clients // nobody hears anybody else
	own := *s
	own.Publisher = Client
	return flow(ctx, &own, p, pathEcho)
}

// connect measures handshakes, up to and including the membership in a group.
func connect(ctx context.Context, s *Settings, p Point) (*sample, error) {
	return besideFloor(ctx, s, p, connecting)
}

func connecting(ctx context.Context, s *Settings, p Point) (_ *sample, err error) {
	st, err := setUp(ctx, s, p, pathRoom)
	if err != nil {
		return nil, err
	}
	defer func() { err = joinClose(err, st) }()
	m := st.meter()
	d, err := st.fleet.dial(ctx, 0, p.Clients, p.Rate)
	if err == nil {
		err = st.fleet.greeted(ctx, p.Clients)
	}
	if err != nil {
		return nil, err
	}
	out := &sample{latency: &d.handshake}
	out.add("connects_per_s", "connections", "1/s", float64(p.Clients)/d.elapsed.Seconds())
	if err := out.cost(m, int64(p.Clients), "connection"); err != nil {
		return nil, err
	}
	out.latencies("handshake", "handshake", &d.handshake)
	out.add("refused", "told to come later", "", float64(d.refused))
	return out, nil
}

// idle measures what connections weigh that do nothing.
func idle(ctx context.Context, s *Settings, p Point) (_ *sample, err error) {
	st, err := setUp(ctx, s, p, pathRoom)
	if err != nil {
		return nil, err
	}
	defer func() { err = joinClose(err, st) }()
	before, rssBefore, err := st.weigh()
	if err != nil {
		return nil, err
	}
	if err := st.fleet.connect(ctx); err != nil {
		return nil, err
	}
	settle(ctx, p.Clients)
	m := st.meter()
	sleep(ctx, s.Duration)
	out, n := &sample{}, float64(p.Clients)
	if m != nil {
		u, err := m.stop()
		if err != nil {
			return nil, err
		}
		out.add("idle_cpu", "server CPU while idle", "ms/s", 1e3*u.server.Seconds()/u.elapsed.Seconds())
	}
	after, rss, err := st.weigh()
	if err != nil {
		return nil, err
	}
	if rss > 0 {
		out.add("rss", "resident memory per connection", "B", float64(rss-rssBefore)/n)
	}
	if before != nil {
		out.add("heap", "heap per connection", "B", float64(after.Heap-before.Heap)/n)
		out.add("stack", "stacks per connection", "B", float64(after.Stack-before.Stack)/n)
		out.add("goroutines", "goroutines per connection", "", float64(after.Goroutines-before.Goroutines)/n)
	} else {
		out.remarks = append(out.remarks, "a server that --url names collects its garbage when it likes: resident memory holds garbage, too")
	}
	if len(out.metrics) == 0 {
		return nil, errors.New("nothing can be measured: name the server's processes with --pid, on Linux")
	}
	return out, nil
}

// weigh has the bench's own server collect its garbage and count, and reads the
// resident memory of the server's processes. Either is zero where it is unknown.
func (st *stand) weigh() (c *counts, rss int64, err error) {
	if len(st.servers) > 0 {
		if c, err = st.count(true); err != nil {
			return nil, 0, err
		}
	}
	for _, pid := range st.pids() {
		n, err := residentBytes(pid)
		if err != nil {
			return c, 0, nil // another system, or a process that is gone
		}
		rss += n
	}
	return c, rss, nil
}
