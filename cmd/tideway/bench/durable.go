package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// durable measures messages to durable groups, each stored and acknowledged
// before its sender goes on, and delivered to the members on all nodes; and the
// same by JetStream's own calls, in turns on the same servers: a stream in
// files that publishes again what it stores, and a subscription.
func durable(ctx context.Context, s *Settings, p Point) (_ *sample, err error) {
	opts := &layer.Options{Groups: []layer.Retention{{Pattern: groupPrefix + ">", Messages: durableKept}}}
	nodes, closeNodes, err := network(ctx, s, p.Nodes, true, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeNodes()) }()
	d := &durableWay{groups: names(p.Groups), nodes: nodes}
	ours, bare := newRelay(s, p.Size), newRelay(s, p.Size)
	if err := d.overLayer(ctx, ours, p.Members); err != nil {
		return nil, err
	}
	stop, err := d.overJetStream(ctx, bare)
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := takeTurns(ctx, s.Duration, ours.run, bare.run); err != nil {
		return nil, err
	}
	out := &sample{latency: &ours.latency}
	out.add("messages_per_s", "messages stored and delivered", "1/s", float64(ours.sent)/ours.elapsed.Seconds())
	out.add("bare_per_s", "bare JetStream", "1/s", float64(bare.sent)/bare.elapsed.Seconds())
	out.compare(ours.cpu, ours.sent, bare.cpu, bare.sent, "bare JetStream")
	out.latencies("latency", "from send to a member", &ours.latency)
	out.latencies("bare_latency", "bare, the same", &bare.latency)
	out.add("lost", "lost", "", float64(ours.sent-ours.got.Load()))
	return out, nil
}

// durableKept is how many messages of each group are kept, in either way.
const durableKept = 1000

// durableWay is the two ways of a message to a durable group.
type durableWay struct {
	groups []string
	nodes  []*node
	next   atomic.Int64 // message
}

// scout is the member whose messages are counted, one of each group; the others
// only cost what members cost.
type scout struct {
	relay   *relay
	channel *layer.Channel
}

// Offer implements [layer.Tap].
func (c *scout) Offer(b *layer.Batch) bool {
	for _, m := range b.Messages {
		c.relay.arrived(m.Data)
	}
	return true
}

// Wake implements [layer.Tap].
func (c *scout) Wake() {
	for {
		m, ok := c.channel.Next()
		if !ok {
			return
		}
		c.relay.arrived(m.Data)
	}
}

// overLayer makes the members, spread over the nodes.
func (d *durableWay) overLayer(ctx context.Context, q *relay, members int) (err error) {
	for i, group := range d.groups {
		for k := range members {
			l := d.nodes[(i+k)%len(d.nodes)].layer
			var c *layer.Channel
			if k < members-1 {
				other := &counter{got: new(atomic.Int64)}
				c, err = l.Tap(ctx, other)
				other.channel = c
			} else {
				last := &scout{relay: q}
				c, err = l.Tap(ctx, last)
				last.channel = c
			}
			if err == nil {
				err = l.GroupAdd(ctx, group, c.Name())
			}
			if err != nil {
				return err
			}
		}
	}
	q.push = func(ctx context.Context, text []byte) error {
		return d.nodes[0].layer.GroupSend(ctx, d.group(), Tick{string(text)})
	}
	return nil
}

// group returns the next message's.
func (d *durableWay) group() string {
	return d.groups[int(d.next.Add(1))%len(d.groups)]
}

// overJetStream does the same with JetStream's own calls.
func (d *durableWay) overJetStream(ctx context.Context, q *relay) (stop func(), err error) {
	js, err := jetstream.New(d.nodes[0].bus.Conn())
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("tideway_bench_durable_%d", os.Getpid())
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: []string{name + ".in.>"}, Storage: jetstream.FileStorage, Replicas: replicas(len(d.nodes)),
		MaxMsgsPerSubject: durableKept + 1, MaxAge: 24 * time.Hour, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: name + ".in.>", Destination: name + ".out.>"},
	})
	if err != nil {
		return nil, err
	}
	in := make(chan *nats.Msg, 1<<16)
	conn := d.nodes[len(d.nodes)-1].bus.Conn()
	sub, err := conn.ChanSubscribe(name+".out.>", in)
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
			case m := <-in:
				q.arrived(m.Data)
			case <-quit:
				return
			}
		}
	}()
	q.push = func(ctx context.Context, text []byte) error {
		data, err := layer.Encode(Tick{string(text)})
		if err == nil {
			_, err = js.Publish(ctx, name+".in."+d.group(), data)
		}
		return err
	}
	return func() {
		sub.Unsubscribe()
		close(quit)
		<-done
		js.DeleteStream(context.WithoutCancel(ctx), name) // of a server that others use, too
	}, nil
}
