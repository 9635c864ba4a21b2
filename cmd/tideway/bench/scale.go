package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// scaling measures as many connections as this machine bears: a cluster of
// servers, and load clients in several processes, as one may not have so many
// descriptors. One after the other: what it takes to come, what it weighs to be
// there, and messages from the first server to groups that have members on all.
func scaling(ctx context.Context, s *Settings, p Point) (_ *sample, err error) {
	n := max(p.Nodes, 1)
	if p.Clients < n {
		return nil, settingsErrorf("--clients is %d; each of %d nodes needs one", p.Clients, n)
	}
	sc := &scaled{stand: &stand{settings: s, point: p}}
	if err := sc.stand.serve(ctx); err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, closeChildren(sc.drivers))
		if err == nil {
			err = sc.stand.gone(ctx, 0) // so many at once keep a server busy for a while
		}
		err = errors.Join(err, closeChildren(sc.stand.servers))
	}()
	sites := make([]Site, n*driversFor(p.Clients, n))
	for i := range sites {
		sites[i] = Site{Drive: true}
	}
	if sc.drivers, err = startChildren(ctx, s, sites); err != nil {
		return nil, err
	}
	sc.out = &sample{}
	for _, step := range []func(context.Context) error{sc.come, sc.rest, sc.flow} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return sc.out, nil
}

// mostDriven is how many connections a driver has at most.
const mostDriven = 15_000

// driversFor returns how many drivers each of n servers needs.
func driversFor(clients, n int) int {
	each := (clients + n - 1) / n
	return (each + mostDriven - 1) / mostDriven
}

// scaled is one run of scale.
type scaled struct {
	stand   *stand
	drivers []*child
	out     *sample

	counts *counts // before anybody came
	rss    int64
	kernel int64
}

// clients is how many connections there are: as many at each driver.
func (sc *scaled) clients() int {
	return sc.stand.point.Clients / len(sc.drivers) * len(sc.drivers)
}

// ask gives all drivers an order, at the same time.
func (sc *scaled) ask(of func(i int) order) ([]answer, error) {
	answers, errs := make([]answer, len(sc.drivers)), make([]error, len(sc.drivers))
	var wg sync.WaitGroup
	for i, d := range sc.drivers {
		wg.Go(func() { answers[i], errs[i] = d.ask(of(i)) })
	}
	wg.Wait()
	return answers, errors.Join(errs...)
}

// meter measures the servers beside the drivers.
func (sc *scaled) meter() *meter {
	var own []int
	for _, d := range sc.drivers {
		own = append(own, d.pid())
	}
	m, err := startMeter(sc.stand.pids(), own, nil)
	if err != nil {
		return nil
	}
	return m
}

// come opens all connections.
func (sc *scaled) come(ctx context.Context) (err error) {
	if sc.counts, sc.rss, err = sc.stand.weigh(); err != nil {
		return err
	}
	sc.kernel = kernelMemory()
	s, p, m, start := sc.stand.settings, sc.stand.point, sc.meter(), time.Now()
	answers, err := sc.ask(func(i int) order {
		server := sc.stand.servers[i%len(sc.stand.servers)]
		return order{Drive: &drive{
			Clients: sc.clients() / len(sc.drivers),
			visit: visit{
				URLs: []string{"ws://" + server.opened.Addr + pathRoom}, Groups: max(p.Groups, 1),
				Dialers: max(s.Workers/len(sc.drivers), 1), Nap: s.Nap,
			},
		}}
	})
	if err != nil {
		return err
	}
	elapsed, shakes := time.Since(start), &Histogram{}
	for _, a := range answers {
		shakes.Merge(&a.Driven.Handshake)
	}
	n := sc.clients()
	sc.out.add("connections", "connections", "", float64(n))
	sc.out.add("connects_per_s", "connections that come", "1/s", float64(n)/elapsed.Seconds())
	if m != nil {
		u, err := m.stop()
		if err != nil {
			return err
		}
		sc.out.add("connect_cpu_us", "server CPU per connection that comes", "us", micro(u.server)/float64(n))
	}
	sc.out.latencies("handshake", "handshake", shakes)
	settle(ctx, n)
	return ctx.Err()
}

// rest weighs connections that do nothing.
func (sc *scaled) rest(ctx context.Context) error {
	m, n := sc.meter(), float64(sc.clients())
	sleep(ctx, sc.stand.settings.Duration)
	if m != nil {
		u, err := m.stop()
		if err != nil {
			return err
		}
		sc.out.add("idle_cpu", "server CPU while idle", "ms/s", 1e3*u.server.Seconds()/u.elapsed.Seconds())
	}
	after, rss, err := sc.stand.weigh()
	if err != nil {
		return err
	}
	sc.out.add("heap", "heap per connection", "B", float64(after.Heap-sc.counts.Heap)/n)
	sc.out.add("goroutines", "goroutines per connection", "", float64(after.Goroutines-sc.counts.Goroutines)/n)
	if rss > 0 {
		sc.out.add("rss", "resident memory per connection", "B", float64(rss-sc.rss)/n)
		sc.out.add("kernel", "the kernel's objects per connection, both ends", "B", float64(kernelMemory()-sc.kernel)/n)
	}
	return ctx.Err()
}

// flow sends messages, first some that are not counted.
func (sc *scaled) flow(ctx context.Context) error {
	_, before, err := sc.send(ctx, min(sc.stand.settings.Duration/5, time.Second))
	if err != nil {
		return err
	}
	m, start := sc.meter(), time.Now()
	r, all, err := sc.send(ctx, sc.stand.settings.Duration)
	if err != nil {
		return err
	}
	span := time.Since(start)
	sum := gathered{}
	for i, g := range all {
		sum.Busy = max(sum.Busy, g.Busy-before[i].Busy)
		sum.Want += g.Want
		sum.Messages += g.Messages
		sum.Lost += g.Lost
		sum.Latency.Merge(&g.Latency)
		if g.Problem != "" {
			return errors.New(g.Problem)
		}
	}
	if sum.Messages == 0 {
		return errors.New("nothing arrived")
	}
	sc.out.latency = &sum.Latency
	sc.out.add("deliveries_per_s", "deliveries", "1/s", float64(sum.Messages)/span.Seconds())
	if err := sc.out.cost(m, sum.Messages, "delivery"); err != nil {
		return err
	}
	if busy := float64(sum.Busy) / float64(span); busy > busyReader {
		sc.out.remarks = append(sc.out.remarks, noteReader)
	}
	sc.out.latencies("latency", "latency", &sum.Latency)
	sc.out.add("lost", "lost", "", float64(max(sum.Want-sum.Messages, 0)))
	if sum.Lost > 0 {
		sc.out.remarks = append(sc.out.remarks, fmt.Sprintf("%d connections ended", sum.Lost))
	}
	sc.out.ends(tally{}, r)
	return nil
}

// send has the first server publish, and the drivers say what arrived.
func (sc *scaled) send(ctx context.Context, d time.Duration) (streamed, []*gathered, error) {
	p := sc.stand.point
	a, err := sc.stand.servers[0].ask(order{Stream: &stream{
		Groups: min(max(p.Groups, 1), sc.clients()/len(sc.drivers)), Size: p.Size, Rate: p.Rate,
		Start: time.Now().Add(5 * time.Millisecond).UnixNano(), Duration: d,
	}})
	if err != nil {
		return streamed{}, nil, err
	}
	answers, err := sc.ask(func(int) order { return order{Gather: &gather{a.Streamed.Sent - a.Streamed.Failed}} })
	var all []*gathered
	for _, one := range answers {
		all = append(all, one.Gathered)
	}
	return *a.Streamed, all, errors.Join(err, ctx.Err())
}
