package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// silent is for parts whose errors come back anyway.
var silent = slog.New(slog.DiscardHandler)

// node is one process's place in a network, all of it in this process.
type node struct {
	bus   *natsbus.Bus
	layer *layer.Layer
}

// queueCapacity is more than is ever under way.
const queueCapacity = 1 << 16

func newNode(ctx context.Context, opts *natsbus.Options, settings *layer.Options) (n *node, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	n = &node{}
	if n.bus, err = natsbus.New(ctx, opts); err != nil {
		return nil, err
	}
	own := layer.Options{}
	if settings != nil {
		own = *settings
	}
	own.Capacity, own.Logger = queueCapacity, opts.Logger
	n.layer, err = layer.New(n.bus, &own)
	if err != nil {
		return nil, errors.Join(err, n.bus.Close(ctx))
	}
	return n, nil
}

func (n *node) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(n.layer.Close(ctx), n.bus.Close(ctx))
}

// network makes nodes: one alone, or a cluster of embedded servers on loopback.
// With store they keep streams.
func network(ctx context.Context, s *Settings, n int, store bool, opts *layer.Options) (nodes []*node, closeAll func() error, err error) {
	closeAll = func() error {
		var errs []error
		for _, n := range nodes {
			errs = append(errs, n.close())
		}
		return errors.Join(errs...)
	}
	all := make([]*natsbus.Options, n)
	if n == 1 || s.NATS != "" {
		for i := range all {
			all[i] = &natsbus.Options{URL: s.NATS, Prefix: s.Prefix, Logger: silent}
		}
	} else if err := clusterOptions(all, s.Prefix, store); err != nil {
		return nil, nil, err
	}
	type made struct {
		node *node
		err  error
	}
	ready := make(chan made, n) // at the same time: each waits for the others
	for _, o := range all {
		o.Logger = silent
		go func() {
			n, err := newNode(ctx, o, opts)
			ready <- made{n, err}
		}()
	}
	for range all {
		m := <-ready
		err = errors.Join(err, m.err)
		if m.node != nil {
			nodes = append(nodes, m.node)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, closeAll())
	}
	return nodes, closeAll, nil
}

// replicas is how many of so many nodes keep a message, as natsbus has it.
func replicas(nodes int) int {
	if nodes < 3 {
		return 1
	}
	return 3
}

// clusterOptions makes the options of a full mesh.
func clusterOptions(all []*natsbus.Options, prefix string, store bool) error {
	routes, err := freeAddresses(len(all))
	if err != nil {
		return err
	}
	for i := range all {
		all[i] = &natsbus.Options{Prefix: prefix, Embedded: embedded(&Seat{i, routes})}
		all[i].Embedded.NoJetStream = !store
	}
	return nil
}

// embedded returns a NATS server inside a process, at its seat of a cluster if
// it has one.
func embedded(seat *Seat) *natsbus.Embedded {
	if seat == nil {
		return &natsbus.Embedded{}
	}
	return &natsbus.Embedded{
		Name:    fmt.Sprint("bench", seat.Index),
		Cluster: &natsbus.Cluster{Name: "bench", Listen: seat.Routes[seat.Index], Routes: seat.Routes, Wait: 10 * time.Second},
	}
}
