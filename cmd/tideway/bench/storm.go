package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// storm measures what happens when many connections are lost at once and all
// come back, and what those notice that stayed. They alone get messages: those
// who return are in other groups, or each of them would make every message
// dearer, and the figures would tell of the messages.
func storm(ctx context.Context, s *Settings, p Point) (*sample, error) {
	return besideFloor(ctx, s, p, storming)
}

func storming(ctx context.Context, s *Settings, p Point) (_ *sample, err error) {
	if s.Staying < 1 {
		return nil, settingsErrorf("--staying is %d; somebody has to stay", s.Staying)
	}
	p.Clients, p.staying = p.Clients+s.Staying, s.Staying
	st, err := setUp(ctx, s, p, pathRoom)
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
	return st.storm(ctx)
}

// lose breaks all connections but those that stay.
func (f *fleet) lose() {
	for i, c := range f.clients[f.opts.staying:] {
		f.sink.leave(c)
		f.clients[f.opts.staying+i] = nil
	}
}

// gone waits until the server has noticed that all but n connections have
// ended. A server of somebody else's is given a second.
func (st *stand) gone(ctx context.Context, n int) error {
	if len(st.servers) == 0 {
		sleep(ctx, time.Second)
		return ctx.Err()
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); sleep(ctx, 10*time.Millisecond) {
		c, err := st.count(false)
		if err != nil || c.Connections <= n {
			return err
		}
	}
	return fmt.Errorf("the server still counts more than %d connections after 30 s", n)
}

// storm streams to those who stay: in peace, while the others are lost, and
// while they return.
func (st *stand) storm(ctx context.Context) (*sample, error) {
	f, window := st.fleet, max(st.settings.Duration/4, minDuration)
	peace, err := st.others(ctx, func() error { sleep(ctx, st.settings.Duration); return nil })
	if err != nil {
		return nil, err
	}
	loss, err := st.others(ctx, func() error { f.lose(); sleep(ctx, window); return nil })
	if err == nil {
		err = st.gone(ctx, f.opts.staying)
	}
	if err != nil {
		return nil, err
	}
	settle(ctx, len(f.clients))
	m := st.meter()
	var d *dialed
	meanwhile, err := st.others(ctx, func() (err error) {
		d, err = f.dial(ctx, f.opts.staying, len(f.clients), 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	out, returned := &sample{latency: &meanwhile.stayed}, len(f.clients)-f.opts.staying
	out.add("all_back_s", "all back after", "s", d.elapsed.Seconds())
	out.add("connects_per_s", "connections", "1/s", float64(returned)/d.elapsed.Seconds())
	if err := out.cost(m, int64(returned), "return"); err != nil {
		return nil, err
	}
	out.latencies("handshake", "handshake", &d.handshake)
	out.latencies("peace", "others' latency before,", &peace.stayed)
	out.latencies("loss", "others' latency as they are lost,", &loss.stayed)
	out.latencies("storm", "others' latency as they return,", &meanwhile.stayed)
	out.add("refused", "told to come later", "", float64(d.refused))
	out.ends(meanwhile, streamed{})
	return out, nil
}

// others streams to those who stay while work goes on, and returns what arrived.
func (st *stand) others(ctx context.Context, work func() error) (tally, error) {
	st.fleet.sink.reset()
	err := st.streamWhile(ctx, work)
	return st.fleet.sink.counts(), err
}

// streamWhile streams while work goes on. What was due when work had ended does
// not count any more.
func (st *stand) streamWhile(ctx context.Context, work func() error) error {
	ended := make(chan error, 1)
	go func() {
		err := work()
		st.fleet.sink.until(time.Now().UnixNano())
		ended <- err
	}()
	for {
		_, failed := st.publish(ctx, max(st.settings.Duration/4, minDuration))
		select {
		case err := <-ended:
			return errors.Join(err, failed)
		default:
			if failed != nil {
				return errors.Join(failed, <-ended)
			}
		}
	}
}
