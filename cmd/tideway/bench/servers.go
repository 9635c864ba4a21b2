package bench

import (
	"context"
	"errors"
	"net"
	"sync"
)

// serve starts the servers of a stand: one, or a cluster.
func (st *stand) serve(ctx context.Context) error {
	s, n := st.settings, max(st.point.Nodes, 1)
	site := Site{
		Broker: s.NATS, Prefix: s.Prefix, Shared: s.publisher() == Outside || n > 1, Serve: true,
		Floor: s.onFloor, Deflate: s.Deflate, Admission: s.Admission,
	}
	if st.point.Missed > 0 {
		site.Keep = kept(st.point.Missed)
	}
	if n > 1 && s.peer != nil {
		return st.servePeers(ctx, site, n)
	}
	sites := make([]Site, n)
	for i := range sites {
		sites[i] = site
	}
	if n == 1 || s.NATS != "" {
		var err error
		st.servers, err = startChildren(ctx, s, sites)
		return err
	}
	return st.serveCluster(ctx, sites)
}

// serveCluster starts servers that form a cluster. It tries three times: on a
// machine that is busy, addresses that were free may be taken meanwhile, and an
// election may outlast a start.
func (st *stand) serveCluster(ctx context.Context, sites []Site) (err error) {
	for range 3 {
		routes, failed := freeAddresses(len(sites))
		if failed != nil {
			return failed
		}
		for i := range sites {
			sites[i].Seat = &Seat{i, routes}
		}
		if st.servers, err = startChildren(ctx, st.settings, sites); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// servePeers starts servers of somebody else's that share a broker: that of the
// first one.
func (st *stand) servePeers(ctx context.Context, site Site, n int) error {
	for range n {
		c, err := startChild(ctx, st.settings.peer, site, st.settings.Stderr)
		if err != nil {
			return err // close ends those before it
		}
		st.servers = append(st.servers, c)
		site.Broker = st.servers[0].opened.Broker
	}
	return nil
}

// startChildren starts servers at the same time, as those of a cluster wait for
// each other.
func startChildren(ctx context.Context, s *Settings, sites []Site) ([]*child, error) {
	started, errs := make([]*child, len(sites)), make([]error, len(sites))
	var wg sync.WaitGroup
	for i, site := range sites {
		wg.Go(func() { started[i], errs[i] = startChild(ctx, s.peer, site, s.Stderr) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, closeChildren(started))
	}
	return started, nil
}

// closeChildren ends processes at the same time: a cluster's server says goodbye
// to the others.
func closeChildren(all []*child) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, c := range all {
		if c != nil {
			wg.Go(func() { errs[i] = c.close() })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// freeAddresses returns addresses of this machine where nobody listens.
func freeAddresses(n int) ([]string, error) {
	all := make([]string, n)
	for i := range all {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close() // when all are known, or one might come twice
		all[i] = ln.Addr().String()
	}
	return all, nil
}

// count returns the state of all servers together, behind a garbage collection
// if collect is set.
func (st *stand) count(collect bool) (*counts, error) {
	sum := &counts{}
	for _, c := range st.servers {
		a, err := c.ask(order{Stat: &stat{Collect: collect}})
		if err != nil {
			return nil, err
		}
		sum.Connections += a.Counts.Connections
		sum.Goroutines += a.Counts.Goroutines
		sum.Heap += a.Counts.Heap
		sum.Stack += a.Counts.Stack
	}
	return sum, nil
}
