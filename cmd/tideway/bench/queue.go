package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// queue measures a durable queue: put in on the first node, take on all,
// acknowledge; and the same by JetStream's own calls, in turns on the same
// servers.
func queue(ctx context.Context, s *Settings, p Point) (_ *sample, err error) {
	opts := &layer.Options{Queues: []layer.QueuePolicy{{Pattern: queueName(), Capacity: queueCapacity}}}
	nodes, closeNodes, err := network(ctx, s, p.Nodes, true, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeNodes()) }()
	ours, bare := newRelay(s, p.Size), newRelay(s, p.Size)
	closeOurs, err := ours.overLayer(ctx, nodes)
	if err != nil {
		return nil, err
	}
	defer closeOurs()
	closeBare, err := bare.overJetStream(ctx, nodes)
	if err != nil {
		return nil, err
	}
	defer closeBare()
	if err := takeTurns(ctx, s.Duration, s.profiled(ours.run), bare.run); err != nil {
		return nil, err
	}
	out := &sample{latency: &ours.latency}
	out.add("messages_per_s", "messages", "1/s", float64(ours.sent)/ours.elapsed.Seconds())
	out.add("bare_per_s", "bare JetStream", "1/s", float64(bare.sent)/bare.elapsed.Seconds())
	out.compare(ours.cpu, ours.sent, bare.cpu, bare.sent, "bare JetStream")
	out.latencies("latency", "from send to receive", &ours.latency)
	out.latencies("bare_latency", "bare, the same", &bare.latency)
	out.add("lost", "lost", "", float64(ours.sent-ours.got.Load()))
	return out, nil
}

// compare adds what a message costs by either way, and the ratio.
func (out *sample) compare(ours time.Duration, n int64, bare time.Duration, of int64, what string) {
	if ours == 0 || bare == 0 || n == 0 || of == 0 {
		out.remarks = append(out.remarks, noteNoCPU)
		return
	}
	a, b := micro(ours)/float64(n), micro(bare)/float64(of)
	out.add("cpu_us", "CPU per message", "us", a)
	out.add("bare_cpu_us", what+", CPU per message", "us", b)
	out.add("ratio", "ratio of the two", "x", a/b)
}

// takeTurns lets two ways work in turns, twice each.
func takeTurns(ctx context.Context, d time.Duration, ours, bare func(context.Context, time.Duration) error) error {
	for range 2 {
		for _, work := range []func(context.Context, time.Duration) error{ours, bare} {
			if err := work(ctx, d/2); err != nil {
				return err
			}
		}
	}
	return nil
}

// relay is one way of messages from senders to workers through a queue.
type relay struct {
	settings *Settings
	size     int
	push     func(ctx context.Context, text []byte) error
	slots    chan struct{} // one for each message under way

	got     atomic.Int64
	sent    int64
	elapsed time.Duration
	cpu     time.Duration

	mu      sync.Mutex // guards latency
	latency Histogram
}

func newRelay(s *Settings, size int) *relay {
	return &relay{settings: s, size: size, slots: make(chan struct{}, s.Window)}
}

// arrived counts a message.
func (q *relay) arrived(data []byte) {
	now := time.Now().UnixNano()
	if due, _, ok := cutMark(data); ok {
		q.mu.Lock()
		q.latency.Add(now - due)
		q.mu.Unlock()
	}
	q.got.Add(1)
	select {
	case <-q.slots:
	default: // a message of an earlier benchmark
	}
}

// run sends for a time, with as many senders as there are workers and no more
// under way than the window, and waits until all has arrived.
func (q *relay) run(ctx context.Context, d time.Duration) error {
	start := time.Now()
	cpu, _ := processTime(os.Getpid())
	sending, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var sent atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, q.settings.Workers)
	before := q.got.Load()
	for range q.settings.Workers {
		wg.Go(func() {
			for sending.Err() == nil {
				select {
				case q.slots <- struct{}{}:
				case <-sending.Done():
					return
				}
				if err := q.push(ctx, appendText(nil, time.Now().UnixNano(), q.size)); err != nil {
					failed <- err
					return
				}
				sent.Add(1)
			}
		})
	}
	wg.Wait()
	deadline := time.Now().Add(drainTime)
	for q.got.Load()-before < sent.Load() && ctx.Err() == nil && time.Now().Before(deadline) {
		sleep(ctx, 200*time.Microsecond)
	}
	now, _ := processTime(os.Getpid())
	q.cpu += now - cpu
	q.elapsed += time.Since(start)
	q.sent += sent.Load()
	select {
	case err := <-failed:
		return err
	default:
		return ctx.Err()
	}
}

// overLayer puts messages into a durable queue and takes them from it.
func (q *relay) overLayer(ctx context.Context, nodes []*node) (stop func(), err error) {
	name := queueName()
	working, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range q.settings.Workers {
		l := nodes[i%len(nodes)].layer
		wg.Go(func() {
			for {
				d, err := l.Take(working, name)
				if err != nil {
					return
				}
				q.arrived(d.Data)
				_ = d.Ack(working) // one that is lost is delivered again, and the count shows it
			}
		})
	}
	q.push = func(ctx context.Context, text []byte) error {
		return nodes[0].layer.Send(ctx, name, Tick{string(text)})
	}
	return func() {
		cancel()
		wg.Wait()
		js, err := jetstream.New(nodes[0].bus.Conn())
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
		defer cancel()
		for name := range js.StreamNames(ctx, jetstream.WithStreamListSubject("*.q."+name)).Name() {
			_ = js.DeleteStream(ctx, name) // of a server that others use, too
		}
	}, nil
}

// queueName is this process's own.
func queueName() string { return fmt.Sprintf("bench.queue.%d", os.Getpid()) }

// overJetStream does the same with JetStream's own calls: a work queue in
// files, publishes that wait for the answer, pulled, acknowledged one by one.
func (q *relay) overJetStream(ctx context.Context, nodes []*node) (stop func(), err error) {
	js, err := jetstream.New(nodes[0].bus.Conn())
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("tideway_bench_%d", os.Getpid())
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: []string{name}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, MaxMsgs: queueCapacity, Replicas: replicas(len(nodes)),
	})
	if err != nil {
		return nil, err
	}
	made, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: queueCapacity})
	if err != nil {
		return nil, err
	}
	var reading []jetstream.ConsumeContext
	for i := range q.settings.Workers {
		r, err := q.consume(ctx, nodes[i%len(nodes)], name, made.CachedInfo().Name)
		if err != nil {
			return nil, err
		}
		reading = append(reading, r)
	}
	q.push = func(ctx context.Context, text []byte) error {
		data, err := layer.Encode(Tick{string(text)})
		if err == nil {
			_, err = js.Publish(ctx, name, data)
		}
		return err
	}
	return func() {
		for _, r := range reading {
			r.Stop()
			<-r.Closed()
		}
		js.DeleteStream(context.WithoutCancel(ctx), name) // of a server that others use, too
	}, nil
}

// consume takes messages by JetStream's own calls, on one node.
func (q *relay) consume(ctx context.Context, n *node, stream, consumer string) (jetstream.ConsumeContext, error) {
	js, err := jetstream.New(n.bus.Conn())
	if err != nil {
		return nil, err
	}
	reader, err := js.Consumer(ctx, stream, consumer)
	if err != nil {
		return nil, err
	}
	return reader.Consume(func(m jetstream.Msg) {
		q.arrived(m.Data())
		m.Ack() // one that is lost is delivered again, and the count shows it
	})
}
