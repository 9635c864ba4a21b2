package bench

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// Own returns what starts the bench's own processes: a Tideway, a floor, or a
// load client.
func Own(log *slog.Logger) func(context.Context, Site) (Served, Opened, error) {
	return func(ctx context.Context, s Site) (Served, Opened, error) {
		if s.Floor {
			f, addr, err := startFloor()
			if err != nil {
				return nil, Opened{}, err
			}
			return &floorServer{f, addr, nil}, Opened{Addr: addr}, nil
		}
		t := &tideway{log: log}
		opened, err := t.start(ctx, s)
		if err != nil {
			t.Close()
			return nil, opened, err
		}
		return t, opened, nil
	}
}

// floorServer is a floor as a child.
type floorServer struct {
	*floor
	addr  string
	frame []byte
}

// Publish implements Served.
func (f *floorServer) Publish(room int, text []byte) error {
	data, err := layer.Encode(Tick{string(text)})
	f.frame = appendServerFrame(f.frame[:0], opText, data)
	f.send(room, f.frame)
	return err
}

// Connections implements Served. A floor does not notice who leaves.
func (f *floorServer) Connections() int { return 0 }

// Close implements Served.
func (f *floorServer) Close() { f.close(f.addr) }

// tideway is a Tideway server, with the NATS server inside it if no other is
// named.
type tideway struct {
	log    *slog.Logger
	bus    *natsbus.Bus
	layer  *layer.Layer
	router *router.Router
	server *http.Server
	served sync.WaitGroup
	groups []string // names by number, as far as they were needed
}

func (t *tideway) start(ctx context.Context, s Site) (opened Opened, err error) {
	opts := &natsbus.Options{URL: s.Broker, Prefix: s.Prefix, Logger: t.log}
	if s.Seat != nil {
		opts.Logger = silent // its routes fail until the others are up
	}
	if s.Broker == "" {
		opts.Embedded = embedded(s.Seat)
		opts.Embedded.NoJetStream = s.Seat != nil && s.Keep == 0 // an election would cost what no figure is about
		if s.Shared {
			opts.Embedded.Listen = "127.0.0.1:0"
		}
	}
	if t.bus, err = natsbus.New(ctx, opts); err != nil {
		return opened, err
	}
	if t.layer, err = layer.New(t.bus, s.layerOptions(t.log)); err != nil {
		return opened, err
	}
	opened.Broker = t.bus.ClientURL()
	if s.Serve {
		opened.Addr, err = t.serve(s)
	}
	return opened, err
}

// layerOptions makes the groups durable, if they are.
func (s Site) layerOptions(log *slog.Logger) *layer.Options {
	opts := &layer.Options{Logger: log}
	if s.Keep > 0 {
		opts.Groups = []layer.Retention{{Pattern: groupPrefix + ">", Messages: s.Keep, Age: time.Hour}}
	}
	return opts
}

// serve serves WebSocket connections without the limits on their number, which
// a load client breaks by trade.
func (t *tideway) serve(s Site) (addr string, err error) {
	opts := &router.Options{
		MaxConnections: -1,
		MaxPerAddress:  -1,
		MaxPerUser:     -1,
		Admission:      &router.Admission{Rate: s.Admission},
		Logger:         t.log,
		Limits:         router.Limits{MessageSize: 2 * maxSize, MessageRate: -1, FrameRate: -1, ByteRate: -1},
	}
	if s.Deflate {
		opts.Compression = &router.Compression{}
	}
	t.router, err = router.New(t.layer, table(), opts)
	if err != nil {
		return "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	t.server = &http.Server{Handler: t.router, ReadHeaderTimeout: 30 * time.Second}
	t.served.Go(func() { t.server.Serve(ln) }) // until Close
	return ln.Addr().String(), nil
}

// Publish implements Served.
func (t *tideway) Publish(room int, text []byte) error {
	for len(t.groups) <= room {
		t.groups = append(t.groups, groupPrefix+strconv.Itoa(len(t.groups)))
	}
	return t.layer.GroupSend(context.Background(), t.groups[room], Tick{string(text)})
}

// fillers is how many groups get messages at the same time.
const fillers = 64

// fill stores messages in durable groups: one group's in order, many groups at
// the same time.
func (t *tideway) fill(ctx context.Context, f fill) streamed {
	var mu sync.Mutex // guards r
	var r streamed
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(fillers, f.Groups) {
		wg.Go(func() {
			for g := int(next.Add(1)) - 1; g < f.Groups && ctx.Err() == nil; g = int(next.Add(1)) - 1 {
				sent, err := t.fillGroup(ctx, groupPrefix+strconv.Itoa(g), f)
				mu.Lock()
				if r.Sent += f.Each; err != nil {
					r.Failed += f.Each - sent
					r.Err = err.Error()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return r
}

func (t *tideway) fillGroup(ctx context.Context, group string, f fill) (sent int, err error) {
	for sent < f.Each {
		text := appendText(nil, f.First+int64(sent), f.Size)
		if err := t.layer.GroupSend(ctx, group, Tick{string(text)}); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, nil
}

// Connections implements Served.
func (t *tideway) Connections() int {
	if t.router == nil {
		return 0
	}
	return t.router.Stats().Open
}

// Close implements Served.
func (t *tideway) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if t.server != nil {
		t.server.Close()
		t.served.Wait()
	}
	if t.layer != nil {
		t.layer.Close(ctx)
	}
	if t.bus != nil {
		t.bus.Close(ctx) // removes the folder of its server
	}
}
