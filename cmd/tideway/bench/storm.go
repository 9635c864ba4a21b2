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
// dearer, and the figures would tell of the messages. They are in a process of
// their own: thousands of handshakes would keep this one from reading.
func storm(ctx context.Context, s *Settings, p Point) (*sample, error) {
	return besideFloor(ctx, s, p, storming)
}

func storming(ctx context.Context, s *Settings, p Point) (_ *sample, err error) {
	if s.Staying < 1 {
		return nil, settingsErrorf("--staying is %d; somebody has to stay", s.Staying)
	}
	stays := p
	stays.Clients, stays.Groups = s.Staying, 1
	st, err := setUp(ctx, s, stays, pathRoom)
	if err != nil {
		return nil, err
	}
	defer func() { err = joinClose(err, st) }()
	if err := st.fleet.connect(ctx); err != nil {
		return nil, err
	}
	if st.driver, err = startChild(ctx, nil, Site{Drive: true}, s.Stderr); err != nil {
		return nil, err
	}
	crowd := drive{st.visit, p.Clients}
	crowd.First, crowd.Groups = 1, max(p.Groups, 1)
	if _, err := st.drive(crowd); err != nil {
		return nil, err
	}
	settle(ctx, s.Staying+p.Clients)
	if err := st.warmUp(ctx); err != nil {
		return nil, err
	}
	return st.storm(ctx, crowd)
}

// drive has the driver open connections, or break those that it has.
func (st *stand) drive(o drive) (*driven, error) {
	a, err := st.driver.ask(order{Drive: &o})
	if err != nil {
		return nil, err
	}
	return a.Driven, nil
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
func (st *stand) storm(ctx context.Context, crowd drive) (*sample, error) {
	window := max(st.settings.Duration/4, minDuration)
	peace, err := st.others(ctx, func() error { sleep(ctx, st.settings.Duration); return nil })
	if err != nil {
		return nil, err
	}
	loss, err := st.others(ctx, func() error {
		_, err := st.drive(drive{})
		sleep(ctx, window)
		return err
	})
	if err == nil {
		err = st.gone(ctx, st.settings.Staying)
	}
	if err != nil {
		return nil, err
	}
	settle(ctx, st.settings.Staying+crowd.Clients)
	m := st.meter()
	var d *driven
	meanwhile, err := st.others(ctx, func() (err error) {
		d, err = st.drive(crowd)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &sample{latency: &meanwhile.latency}
	out.add("all_back_s", "all back after", "s", d.Elapsed.Seconds())
	out.add("connects_per_s", "connections", "1/s", float64(crowd.Clients)/d.Elapsed.Seconds())
	if err := out.cost(m, int64(crowd.Clients), "return"); err != nil {
		return nil, err
	}
	out.latencies("handshake", "handshake", &d.Handshake)
	out.latencies("peace", "others' latency before,", &peace.latency)
	out.latencies("loss", "others' latency as they are lost,", &loss.latency)
	out.latencies("storm", "others' latency as they return,", &meanwhile.latency)
	out.add("refused", "told to come later", "", float64(d.Refused))
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
