package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// storm measures what happens when many connections are lost at once and all
// come back, and what those notice that stayed.
func storm(ctx context.Context, s *Settings, p Point) (_ *sample, err error) {
	if s.Staying < 1 {
		return nil, settingsErrorf("--staying is %d; somebody has to stay", s.Staying)
	}
	own := *s
	own.Slow = 0
	returning := p.Clients
	p.Clients += s.Staying
	p.Groups = 1
	st, err := setUp(ctx, &own, p, pathRoom)
	if err != nil {
		return nil, err
	}
	defer func() { err = joinClose(err, st) }()
	if err := st.fleet.connect(ctx); err != nil {
		return nil, err
	}
	st.fleet.keep(s.Staying)
	if err := st.gone(ctx, s.Staying); err != nil {
		return nil, err
	}
	settle(ctx, p.Clients)
	if err := st.warmUp(ctx); err != nil {
		return nil, err
	}
	return st.storm(ctx, returning)
}

// keep loses all connections but the first n, and has what arrives on those
// counted apart from then on.
func (f *fleet) keep(n int) {
	f.sink.mu.Lock()
	f.sink.stayedOnly = true
	for _, c := range f.clients[:n] {
		c.stayed = true
	}
	f.sink.mu.Unlock()
	f.staying = n
	for i, c := range f.clients[n:] {
		f.sink.leave(c)
		f.clients[n+i] = nil
	}
}

// gone waits until the server has noticed that all but n connections have
// ended. A server of somebody else's is given a second.
func (st *stand) gone(ctx context.Context, n int) error {
	if st.server == nil {
		sleep(ctx, time.Second)
		return ctx.Err()
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); sleep(ctx, 10*time.Millisecond) {
		a, err := st.server.ask(order{Stat: &stat{}})
		if err != nil || a.Counts.Connections <= n {
			return err
		}
	}
	return fmt.Errorf("the server still counts more than %d connections after 30 s", n)
}

// storm streams to those who stay, first in peace, then while the others return.
func (st *stand) storm(ctx context.Context, returning int) (*sample, error) {
	if _, err := st.publish(ctx, st.settings.Duration); err != nil {
		return nil, err
	}
	peace := st.fleet.sink.counts()
	st.fleet.sink.reset()
	m := st.meter()
	d, err := st.streamWhile(ctx, func() (*dialed, error) {
		return st.fleet.dial(ctx, st.settings.Staying, len(st.fleet.clients), 0)
	})
	if err != nil {
		return nil, err
	}
	during := st.fleet.sink.counts()
	out := &sample{latency: &during.stayed}
	out.add("all_back_s", "all back after", "s", d.elapsed.Seconds())
	out.add("connects_per_s", "connections", "1/s", float64(returning)/d.elapsed.Seconds())
	if err := out.cost(m, int64(returning), "return"); err != nil {
		return nil, err
	}
	out.latencies("handshake", "handshake", &d.handshake)
	out.latencies("peace", "others' latency before,", &peace.stayed)
	out.latencies("storm", "others' latency meanwhile,", &during.stayed)
	out.add("refused", "told to come later", "", float64(d.refused))
	out.ends(during, streamed{})
	return out, nil
}

// streamWhile streams while work goes on. What was due when work had ended does
// not count any more.
func (st *stand) streamWhile(ctx context.Context, work func() (*dialed, error)) (d *dialed, err error) {
	ended := make(chan error, 1)
	go func() {
		var err error
		d, err = work()
		st.fleet.sink.until(time.Now().UnixNano())
		ended <- err
	}()
	for {
		_, failed := st.publish(ctx, max(st.settings.Duration/4, minDuration))
		select {
		case err := <-ended:
			return d, errors.Join(err, failed)
		default:
			if failed != nil {
				return nil, errors.Join(failed, <-ended)
			}
		}
	}
}
