package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// inLayer measures the layer without sockets: joins, and messages from the first
// node to the members on all; and the same messages by nats.go's own calls, in
// turns.
func inLayer(ctx context.Context, s *Settings, p Point) (_ *sample, err error) {
	if s.Durable {
		return durable(ctx, s, p)
	}
	nodes, closeNodes, err := network(ctx, s, p.Nodes, false, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeNodes()) }()
	out := &sample{}
	w := &twoWays{settings: s, groups: names(p.Groups), node: nodes[0]}
	if err := w.join(ctx, nodes, p, out); err != nil {
		return nil, err
	}
	if err := w.encode(p.Size); err != nil {
		return nil, err
	}
	if err := w.whole(ctx, p.Members); err != nil {
		return nil, err
	}
	ours := &lap{window: s.Window, perMessage: p.Members, send: w.groupSend, got: &w.got}
	bare := &lap{window: s.Window, perMessage: 1, send: w.publish, got: &w.bareGot}
	stop, err := w.listenBare()
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := ours.run(ctx, min(s.Duration/5, 200*time.Millisecond)); err != nil {
		return nil, err
	}
	*ours = lap{window: ours.window, perMessage: ours.perMessage, send: ours.send, got: ours.got}
	if err := takeTurns(ctx, s.Duration, s.profiled(ours.run), bare.run); err != nil {
		return nil, err
	}
	deliveries := float64(ours.arrived)
	out.add("messages_per_s", "messages", "1/s", float64(ours.sent)/ours.elapsed.Seconds())
	out.add("deliveries_per_s", "deliveries", "1/s", deliveries/ours.elapsed.Seconds())
	out.add("bare_per_s", "bare nats.go", "1/s", float64(bare.sent)/bare.elapsed.Seconds())
	out.compare(ours.cpu, ours.sent, bare.cpu, bare.sent, "bare nats.go")
	out.add("cpu_delivery_ns", "CPU per delivery", "ns", float64(ours.cpu)/max(deliveries, 1))
	out.add("allocs", "allocations per message, broker included", "", float64(ours.allocs)/float64(max(ours.sent, 1)))
	out.add("bare_allocs", "bare nats.go, the same", "", float64(bare.allocs)/float64(max(bare.sent, 1)))
	out.add("lost", "lost", "", float64(ours.sent*int64(p.Members)-ours.arrived))
	return out, nil
}

func names(n int) []string {
	groups := make([]string, n)
	for i := range groups {
		groups[i] = groupPrefix + strconv.Itoa(i)
	}
	return groups
}

// twoWays is the two ways of a message: the layer's and bare NATS's.
type twoWays struct {
	settings *Settings
	node     *node
	groups   []string
	data     []byte
	message  layer.Payload // the data, ready to be sent

	got, bareGot atomic.Int64
}

func (w *twoWays) encode(size int) (err error) {
	if w.data, err = layer.Encode(Tick{string(appendText(nil, time.Now().UnixNano(), size))}); err != nil {
		return err
	}
	m, err := layer.ParseMessage(w.data)
	w.message = m
	return err
}

// counter is a member: what a connection is to the layer.
type counter struct {
	got     *atomic.Int64
	channel *layer.Channel
}

// Offer implements [layer.Tap].
func (c *counter) Offer(b *layer.Batch) bool {
	c.got.Add(int64(len(b.Messages)))
	return true
}

// Wake implements [layer.Tap].
func (c *counter) Wake() {
	for {
		if _, ok := c.channel.Next(); !ok {
			return
		}
		c.got.Add(1)
	}
}

// join makes the members, spread over the nodes, and measures it.
func (w *twoWays) join(ctx context.Context, nodes []*node, p Point, out *sample) error {
	var joins Histogram
	var mu sync.Mutex // guards joins and failed
	var failed error
	var next atomic.Int64
	total := int64(p.Groups) * int64(p.Members)
	heap := heapInUse()
	start := time.Now()
	var wg sync.WaitGroup
	for range min(int64(w.settings.Workers), total) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < total && ctx.Err() == nil; i = next.Add(1) - 1 {
				began := time.Now()
				err := w.member(ctx, nodes[i/int64(p.Groups)%int64(len(nodes))].layer, w.groups[i%int64(p.Groups)])
				mu.Lock()
				joins.Add(int64(time.Since(began)))
				failed = errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	if failed == nil {
		failed = ctx.Err()
	}
	out.add("joins_per_s", "joins", "1/s", float64(total)/elapsed.Seconds())
	out.latencies("join", "join", &joins)
	if total >= 1000 { // of fewer the noise is larger
		out.add("member_heap", "heap per membership", "B", float64(heapInUse()-heap)/float64(total))
	}
	if failed != nil {
		return failed
	}
	return w.joinMore(ctx, nodes[0].layer, out)
}

// moreJoins is how many joins joinMore makes.
const moreJoins = 1000

// joinMore measures joins of groups of their own, one after the other, where all
// the others exist.
func (w *twoWays) joinMore(ctx context.Context, l *layer.Layer, out *sample) error {
	var joins Histogram
	for i := range moreJoins {
		group := groupPrefix + "more." + strconv.Itoa(i)
		c, err := l.Tap(ctx, &counter{got: new(atomic.Int64)})
		if err != nil {
			return err
		}
		began := time.Now()
		err = l.GroupAdd(ctx, group, c.Name())
		joins.Add(int64(time.Since(began)))
		c.Close()
		if err != nil {
			return err
		}
	}
	out.latencies("more", "one more join", &joins)
	return nil
}

// whole waits until a message to each group reaches all its members: a cluster
// that has only just formed may still be joining its nodes.
func (w *twoWays) whole(ctx context.Context, members int) error {
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		before, want := w.got.Load(), int64(len(w.groups)*members)
		for i := range w.groups {
			if err := w.groupSend(ctx, int64(i)); err != nil {
				return err
			}
		}
		for retry := time.Now().Add(time.Second); time.Now().Before(retry); sleep(ctx, time.Millisecond) {
			if w.got.Load()-before >= want {
				return ctx.Err()
			}
		}
	}
	return fmt.Errorf("not all members are reached after %v", startTimeout)
}

func (w *twoWays) member(ctx context.Context, l *layer.Layer, group string) (err error) {
	c := &counter{got: &w.got}
	if c.channel, err = l.Tap(ctx, c); err != nil {
		return err
	}
	return l.GroupAdd(ctx, group, c.channel.Name())
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func (w *twoWays) groupSend(ctx context.Context, i int64) error {
	return w.node.layer.GroupSend(ctx, w.groups[i%int64(len(w.groups))], w.message)
}

const bareSubject = "tideway.bench.bare"

func (w *twoWays) publish(_ context.Context, _ int64) error {
	return w.node.bus.Conn().Publish(bareSubject, w.data)
}

// listenBare counts what arrives by nats.go's own means.
func (w *twoWays) listenBare() (stop func(), err error) {
	conn := w.node.bus.Conn()
	in := make(chan *nats.Msg, max(1<<16, w.settings.Window))
	sub, err := conn.ChanSubscribe(bareSubject, in)
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		return nil, err
	}
	done, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-in:
				w.bareGot.Add(1)
			case <-quit:
				return
			}
		}
	}()
	return func() {
		sub.Unsubscribe()
		close(quit)
		<-done
	}, nil
}
