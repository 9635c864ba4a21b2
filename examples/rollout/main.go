// Rollout is a site on which operators update forty game servers and everybody
// who may watches it live. Run it, and log in as ann with the password that it
// prints:
//
//	go run ./examples/rollout
//
// It is one program here, and four kinds of process when it matters what dies:
// NATS, web processes, workers, and the simulated game servers. To end any of
// them, and to see that nothing is lost, start them one by one:
//
//	nats-server -js
//	go run ./examples/rollout -role servers -addr 127.0.0.1:8100
//	go run ./examples/rollout -role worker -nats nats://127.0.0.1:4222 -servers http://127.0.0.1:8100
//	go run ./examples/rollout -role web -addr 127.0.0.1:8000 -nats nats://127.0.0.1:4222 \
//	    -servers http://127.0.0.1:8100 -users ann:operator:word-of-ann,bob:viewer:word-of-bob
//
// Of the web processes and the workers there may be any number. Only pages of this
// machine may open sockets. To serve others, name them with -host.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tideway-go/tideway/examples/rollout/fleet"
	"github.com/tideway-go/tideway/examples/rollout/gameserver"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// settings are the flags.
type settings struct {
	role, addr, nats, servers, users, hosts string
	pace, ackWait, timeout, ping            time.Duration
	secure                                  bool
}

func main() {
	var s settings
	flag.StringVar(&s.role, "role", "all", "what to be: web, worker, servers, or all")
	flag.StringVar(&s.addr, "addr", "127.0.0.1:8000", "address of the site, or of the game servers")
	flag.StringVar(&s.nats, "nats", "", "URL of the NATS server (default: one inside, for -role all)")
	flag.StringVar(&s.servers, "servers", "", "URL of the game servers (default: a process of its own, for -role all)")
	flag.StringVar(&s.users, "users", "", "name:role:password of each user, with commas between (default: ann and bob, with passwords that are printed)")
	flag.StringVar(&s.hosts, "host", "", "names by which browsers address the site, with commas between (default: those of this machine)")
	flag.DurationVar(&s.pace, "pace", 0, "time that a game server takes for a step (default 600ms)")
	flag.DurationVar(&s.ackWait, "ack-wait", 0, "how soon a job goes on whose worker has died, the same for all processes (default 30s)")
	flag.DurationVar(&s.timeout, "timeout", 0, "bound for one try of one server (default 15s)")
	flag.DurationVar(&s.ping, "ping", 0, "silence after which a socket is pinged (default 25s)")
	flag.BoolVar(&s.secure, "secure", false, "browsers reach the site by https alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := s.run(ctx, os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run is what the role says, until ctx ends.
func (s *settings) run(ctx context.Context, in io.Reader, out io.Writer) error {
	switch s.role {
	case "servers":
		return gameserver.Serve(ctx, s.addr, s.pace, nil, out)
	case "child":
		return gameserver.Serve(context.WithoutCancel(ctx), "127.0.0.1:0", s.pace, in, out)
	case "all":
		return s.all(ctx, out)
	case "web", "worker":
		if s.nats == "" || s.servers == "" {
			return fmt.Errorf("rollout: -role %s needs -nats and -servers", s.role)
		}
		return s.join(ctx, &natsbus.Options{URL: s.nats}, out)
	}
	return fmt.Errorf("rollout: -role is %q; want web, worker, servers or all", s.role)
}

// all is everything but the game servers, which are a process that ends with this
// one.
func (s *settings) all(ctx context.Context, out io.Writer) (err error) {
	if s.servers == "" {
		url, stop, err := gameserver.Child("-role", "child", "-pace", s.pace.String())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		s.servers = url
	}
	opts := &natsbus.Options{URL: s.nats}
	if s.nats == "" {
		opts.Embedded = &natsbus.Embedded{}
	}
	return s.join(ctx, opts, out)
}

// join joins the network, and works there.
func (s *settings) join(ctx context.Context, opts *natsbus.Options, out io.Writer) error {
	bus, err := natsbus.New(ctx, opts)
	if err != nil {
		return err
	}
	defer bus.Close(context.Background())
	l, err := layer.New(bus, &layer.Options{Groups: fleet.Groups(), Queues: fleet.Queues(s.ackWait)})
	if err != nil {
		return err
	}
	defer l.Close(context.Background())

	work := func() error { return fleet.Work(ctx, l, &fleet.WorkOptions{Servers: s.servers, Timeout: s.timeout}) }
	if s.role == "worker" {
		fmt.Fprintln(out, "At work")
		return work()
	}
	if s.role == "web" {
		return s.serve(ctx, l, out)
	}
	worked := make(chan error, 1)
	go func() { worked <- work() }()
	return errors.Join(s.serve(ctx, l, out), <-worked)
}

// serve serves the site.
func (s *settings) serve(ctx context.Context, l *layer.Layer, out io.Writer) error {
	users := fleet.DemoUsers()
	if s.users != "" {
		var err error
		if users, err = fleet.ParseUsers(s.users); err != nil {
			return err
		}
	}
	sockets := &router.Options{Limits: router.Limits{PingInterval: s.ping}}
	if s.hosts != "" {
		sockets.Hosts = append(strings.Split(s.hosts, ","), "localhost", "127.0.0.1", "[::1]")
		sockets.Origins = sockets.Hosts
	}
	site, err := fleet.New(l, &fleet.Options{Servers: s.servers, Users: users, Printed: s.users == "", SecureCookies: s.secure, Router: sockets})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(fleet.Path, site.Handler())
	mux.Handle("GET /{$}", http.RedirectHandler(fleet.Path, http.StatusSeeOther))
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("rollout: %w", err)
	}
	fmt.Fprintf(out, "The page is at http://%s%s\n", ln.Addr(), fleet.Path)
	if s.users == "" {
		for _, u := range users {
			fmt.Fprintf(out, "Log in as %s (%s) with the password %s\n", u.Name, u.Role, u.Password)
		}
	}
	return router.Serve(ctx, &http.Server{Handler: mux}, ln, site.Router())
}
