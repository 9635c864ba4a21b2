package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stand is a server under test with its publisher and the load client: what one
// run needs.
type stand struct {
	settings *Settings
	point    Point
	servers  []*child // of a cluster; none when a URL names the server
	outside  *child   // the publisher, if it is a process of its own
	driver   *child   // of connections beside the fleet's, see storm
	visit    visit    // of the fleet
	fleet    *fleet
}

// setUp starts what a run needs, on the path of the bench's own server. Nothing
// is connected yet.
func setUp(ctx context.Context, s *Settings, p Point, path string) (st *stand, err error) {
	st = &stand{settings: s, point: p}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.close())
		}
	}()
	st.visit = visit{
		URLs: []string{s.URL}, Header: s.Header, Stranger: s.Stranger, Deflate: s.Deflate, Hello: s.Hello, Replies: s.Replies,
		Groups: max(min(p.Groups, p.Clients), 1), Dialers: s.Workers, Nap: s.Nap,
	}
	if s.URL == "" {
		if err := st.serve(ctx); err != nil {
			return st, err
		}
		st.visit.URLs = nil
		for _, c := range st.servers {
			st.visit.URLs = append(st.visit.URLs, "ws://"+c.opened.Addr+cmp.Or(c.opened.Path, path))
		}
		st.visit.Hello, st.visit.Replies = st.servers[0].opened.Hello, st.servers[0].opened.Replies
	}
	if err := st.setUpPublisher(ctx); err != nil {
		return st, err
	}
	opts, err := st.visit.options(ctx)
	if err != nil {
		return st, err
	}
	opts.silent = p.Slow
	st.fleet, err = newFleet(p.Clients, opts)
	return st, err
}

// setUpPublisher starts the publisher, if it is a process of its own.
func (st *stand) setUpPublisher(ctx context.Context) (err error) {
	s := st.settings
	if s.publisher() != Outside {
		return nil
	}
	site := Site{Broker: s.NATS, Prefix: s.Prefix}
	if site.Broker == "" {
		site.Broker = st.servers[0].opened.Broker
	}
	st.outside, err = startChild(ctx, s.peer, site, s.Stderr)
	return err
}

// close ends all, the clients first: a server need not say goodbye to them.
func (st *stand) close() error {
	if st.fleet != nil {
		st.fleet.close()
	}
	var errs []error
	for _, c := range []*child{st.driver, st.outside} {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(append(errs, closeChildren(st.servers))...)
}

// pids are the server's processes, broker included where it has one of its own.
func (st *stand) pids() []int {
	all := slices.Clone(st.settings.PIDs)
	for _, c := range st.servers {
		all = append(append(all, c.pid()), c.opened.PIDs...)
	}
	return all
}

// meter begins to measure the server. nil when this machine or the settings
// name no process to measure.
func (st *stand) meter() *meter {
	var own []int
	for _, c := range []*child{st.driver, st.outside} {
		if c != nil {
			own = append(own, c.pid())
		}
	}
	if len(st.pids()) == 0 {
		return nil
	}
	profiled := st.profiled()
	m, err := startMeter(st.pids(), own, st.fleet)
	if err != nil {
		return nil
	}
	m.profiled = profiled
	return m
}

// settle gives the server a moment after its clients have come, so that what
// they cost is over.
func settle(ctx context.Context, clients int) {
	sleep(ctx, min(100*time.Millisecond+time.Duration(clients)*50*time.Microsecond, time.Second))
}

// publish has the publisher of the settings send a stream that begins at once,
// and waits until all has arrived that will.
func (st *stand) publish(ctx context.Context, d time.Duration) (streamed, error) {
	s := stream{
		Groups: st.fleet.opts.groups, Size: st.point.Size, Rate: st.point.Rate,
		Start: time.Now().Add(5 * time.Millisecond).UnixNano(), Duration: d,
	}
	send := st.sendAsClient
	if st.settings.publisher() != Client {
		send = st.sendAsChild
	}
	r, err := send(ctx, s)
	if err != nil {
		return r, err
	}
	if r.Failed > 0 && r.Failed == r.Sent {
		return r, fmt.Errorf("no message could be sent: %s", r.Err)
	}
	st.fleet.arrived(ctx, st.fleet.expected(r.Sent-r.Failed), quiet)
	return r, ctx.Err()
}

// quiet is how long nothing must arrive until what is missing is lost.
const quiet = 5 * time.Second

func (st *stand) sendAsChild(ctx context.Context, s stream) (streamed, error) {
	c := st.outside
	if c == nil {
		c = st.servers[0]
	}
	if err := c.tell(order{Stream: &s}); err != nil {
		return streamed{}, err
	}
	stop := st.lend(ctx, s, func(total int64) { c.tell(order{Grant: total}) })
	defer stop()
	a, err := c.answer()
	if err != nil {
		return streamed{}, err
	}
	return *a.Streamed, nil
}

// sendAsClient sends each message as the first client of its group.
func (st *stand) sendAsClient(ctx context.Context, s stream) (streamed, error) {
	lent := newCredit()
	stop := st.lend(ctx, s, lent.grant)
	defer stop()
	var text, body, frame []byte
	head, tail := st.template()
	return s.run(ctx, lent, func(i int, due int64) error {
		text = appendText(text[:0], due, s.Size)
		body = append(append(append(body[:0], head...), text...), tail...)
		frame = appendFrame(frame[:0], opText, body)
		return st.fleet.clients[i%s.Groups].wire.write(frame)
	}), nil
}

// template returns what stands before and behind the text of a message.
func (st *stand) template() (head, tail string) {
	m := st.settings.Message
	if m == "" {
		m = `{"type":` + strconv.Quote(Tick{}.MessageType()) + `,"text":"%s"}`
	}
	head, tail, _ = strings.Cut(m, "%s")
	return head, tail
}

// lend grants credit to a publisher without a rate: as many messages may be
// under way as the window says. What does not arrive for a while is written
// off, or the publisher would wait for ever.
func (st *stand) lend(ctx context.Context, s stream, grant func(int64)) (stop func()) {
	if s.Rate > 0 {
		return func() {}
	}
	ctx, cancel := context.WithDeadline(ctx, time.Unix(0, s.Start).Add(s.Duration+drainTime))
	done := make(chan struct{})
	perMessage := max(float64(st.fleet.expected(s.Groups))/float64(s.Groups), 1)
	go func() {
		defer close(done)
		window := int64(st.settings.Window)
		granted, writtenOff, moved := int64(0), int64(0), time.Now()
		for ctx.Err() == nil {
			total := int64(float64(st.fleet.sink.received.Load())/perMessage) + window + writtenOff
			switch {
			case total > granted:
				granted, moved = total, time.Now()
				grant(total)
			case time.Since(moved) > 500*time.Millisecond:
				writtenOff += window
			}
			sleep(ctx, 500*time.Microsecond)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
