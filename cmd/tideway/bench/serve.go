package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"
)

// Served is a server that a child of a benchmark is.
type Served interface {
	// Publish sends a text, in which nothing needs escaping, to a room.
	Publish(room int, text []byte) error

	// Connections returns how many are open.
	Connections() int

	// Close gives up what was taken. Connections end with the process.
	Close()
}

// Serve is the child of a benchmark: it starts a server, or is a load client,
// carries out the orders that come as lines on in, and answers on out, until in
// ends or ctx does.
func Serve(ctx context.Context, in io.Reader, out io.Writer, start func(context.Context, Site) (Served, Opened, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &agent{begin: start, out: json.NewEncoder(out), credit: newCredit()}
	orders := make(chan order)
	failed := make(chan error, 1)
	go func() { // ends with the process when in does not
		failed <- a.read(ctx, in, orders)
		cancel() // whoever gave a stream has gone
	}()
	defer a.close()
	for {
		select {
		case o := <-orders:
			if err := a.carryOut(ctx, o); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// agent is a child at work.
type agent struct {
	begin  func(context.Context, Site) (Served, Opened, error)
	out    *json.Encoder
	credit *credit
	served Served // nil before the first order

	profiling *profile // nil while there is none
}

// read passes the orders on; grants are taken at once, since a stream waits for
// them.
func (a *agent) read(ctx context.Context, in io.Reader, orders chan<- order) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return fmt.Errorf("no order: %.80q: %w", lines.Bytes(), err)
		}
		if o.Grant > 0 {
			a.credit.grant(o.Grant)
			continue
		}
		if o.Stream != nil {
			a.credit.grant(0) // grants of a stream follow it
		}
		select {
		case orders <- o:
		case <-ctx.Done():
			return nil
		}
	}
	return lines.Err()
}

func (a *agent) carryOut(ctx context.Context, o order) error {
	var ans answer
	var err error
	switch {
	case o.Start != nil:
		ans.Opened, err = a.start(ctx, *o.Start)
	case a.served == nil:
		err = errors.New("the first order is start")
	case o.Stream != nil:
		r := a.stream(ctx, *o.Stream)
		ans.Streamed = &r
	case o.Fill != nil:
		var r streamed
		r, err = a.fill(ctx, *o.Fill)
		ans.Streamed = &r
	case o.Drive != nil || o.Gather != nil:
		err = a.asDriver(ctx, o, &ans)
	case o.Stat != nil:
		ans.Counts = a.count(*o.Stat)
	case o.Profile != nil:
		err = a.profile(*o.Profile)
	default:
		err = errors.New("there is no such order")
	}
	if err != nil {
		ans.Err = err.Error()
	}
	return a.out.Encode(ans)
}

// startTimeout is for a broker to come up.
const startTimeout = 20 * time.Second

func (a *agent) start(ctx context.Context, s Site) (*Opened, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if s.Drive {
		a.served = &driver{}
		return &Opened{}, nil
	}
	served, opened, err := a.begin(ctx, s)
	if err != nil {
		return nil, err
	}
	a.served = served
	return &opened, nil
}

// stream publishes.
func (a *agent) stream(ctx context.Context, s stream) streamed {
	var text []byte
	return s.run(ctx, a.credit, func(i int, due int64) error {
		text = appendText(text[:0], due, s.Size)
		return a.served.Publish(i%s.Groups, text)
	})
}

// fill stores messages, if the server can.
func (a *agent) fill(ctx context.Context, f fill) (streamed, error) {
	s, ok := a.served.(interface {
		fill(context.Context, fill) streamed
	})
	if !ok {
		return streamed{}, errors.New("it has no durable groups")
	}
	return s.fill(ctx, f), nil
}

// asDriver carries out an order for a driver.
func (a *agent) asDriver(ctx context.Context, o order, ans *answer) (err error) {
	d, ok := a.served.(*driver)
	switch {
	case !ok:
		err = errors.New("it is no driver")
	case o.Drive != nil:
		ans.Driven, err = d.drive(ctx, *o.Drive)
	default:
		ans.Gathered, err = d.gather(ctx, *o.Gather)
	}
	return err
}

func (a *agent) count(s stat) *counts {
	if s.Collect {
		runtime.GC() // twice: what finalizers and pools held goes with the second
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return &counts{
		Connections: a.served.Connections(), Goroutines: runtime.NumGoroutine(),
		Heap: int64(m.HeapAlloc), Stack: int64(m.StackInuse),
	}
}

func (a *agent) close() {
	if a.served != nil {
		a.served.Close()
	}
}
