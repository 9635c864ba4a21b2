package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// Serve is the child of a benchmark: it carries out the orders that come as
// lines on in, and answers on out, until in ends or ctx does.
func Serve(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &agent{log: log, out: json.NewEncoder(out), credit: newCredit()}
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
	log    *slog.Logger
	out    *json.Encoder
	credit *credit

	bus    *natsbus.Bus
	layer  *layer.Layer
	router *router.Router
	server *http.Server
	served sync.WaitGroup

	floor     *floor // in the place of all those
	floorAddr string
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
		ans, err = a.start(ctx, *o.Start)
	case a.layer == nil && a.floor == nil:
		err = errors.New("the first order is start")
	case o.Stream != nil:
		r := a.stream(ctx, *o.Stream)
		ans.Streamed = &r
	case o.Stat != nil:
		ans.Counts = a.count(*o.Stat)
	default:
		err = errors.New("there is no such order")
	}
	if err != nil {
		ans.Err = err.Error()
	}
	return a.out.Encode(ans)
}

// startTimeout is for the NATS server to come up.
const startTimeout = 20 * time.Second

func (a *agent) start(ctx context.Context, s site) (ans answer, err error) {
	if s.Floor {
		a.floor, a.floorAddr, err = startFloor()
		return answer{Addr: a.floorAddr}, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	opts := &natsbus.Options{URL: s.NATS, Prefix: s.Prefix, Logger: a.log}
	if s.NATS == "" {
		opts.Embedded = &natsbus.Embedded{}
		if s.ListenNATS {
			opts.Embedded.Listen = "127.0.0.1:0"
		}
	}
	if a.bus, err = natsbus.New(ctx, opts); err != nil {
		return ans, err
	}
	if a.layer, err = layer.New(a.bus, &layer.Options{Logger: a.log}); err != nil {
		return ans, err
	}
	ans.NATS = a.bus.ClientURL()
	if s.Serve {
		ans.Addr, err = a.serve(s.Admission)
	}
	return ans, err
}

// serve serves WebSocket connections without the limits on their number, which
// a load client breaks by trade.
func (a *agent) serve(admission int) (addr string, err error) {
	a.router, err = router.New(a.layer, table(), &router.Options{
		MaxConnections: -1,
		MaxPerAddress:  -1,
		MaxPerUser:     -1,
		Admission:      &router.Admission{Rate: admission},
		Logger:         a.log,
		Limits:         router.Limits{MessageSize: 2 * maxSize, MessageRate: -1, FrameRate: -1, ByteRate: -1},
	})
	if err != nil {
		return "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	a.server = &http.Server{Handler: a.router, ReadHeaderTimeout: 30 * time.Second}
	a.served.Go(func() { a.server.Serve(ln) }) // until close
	return ln.Addr().String(), nil
}

// stream publishes to the layer.
func (a *agent) stream(ctx context.Context, s stream) streamed {
	groups := make([]string, s.Groups)
	for g := range groups {
		groups[g] = groupPrefix + strconv.Itoa(g)
	}
	var text, frame []byte
	return s.run(ctx, a.credit, func(i int, due int64) error {
		text = appendText(text[:0], due, s.Size)
		if a.floor != nil {
			data, err := layer.Encode(Tick{string(text)})
			frame = appendServerFrame(frame[:0], opText, data)
			a.floor.send(i%s.Groups, frame)
			return err
		}
		return a.layer.GroupSend(ctx, groups[i%s.Groups], Tick{string(text)})
	})
}

func (a *agent) count(s stat) *counts {
	if s.Collect {
		runtime.GC() // twice: what finalizers and pools held goes with the second
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c := &counts{Goroutines: runtime.NumGoroutine(), Heap: int64(m.HeapAlloc), Stack: int64(m.StackInuse)}
	if a.router != nil {
		c.Connections = a.router.Stats().Open
	}
	return c
}

// close gives up what start took. Connections end with the process.
func (a *agent) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if a.floor != nil {
		a.floor.close(a.floorAddr)
	}
	if a.server != nil {
		a.server.Close()
		a.served.Wait()
	}
	if a.layer != nil {
		a.layer.Close(ctx)
	}
	if a.bus != nil {
		a.bus.Close(ctx) // removes the folder of its server
	}
}
