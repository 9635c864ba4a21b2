// Peers are other servers that `tideway bench --peer` measures beside Tideway,
// each written as its own documentation shows it:
//
//	go -C cmd/tideway/bench/peers build -o peers .
//	tideway bench broadcast --floor --peer gws='peers gws' --peer centrifuge='peers centrifuge'
//
// It is a module of its own, so that nobody who imports Tideway gets them. The
// folder socketio has one for Node.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/tideway-go/tideway/cmd/tideway/bench"
)

// servers are all peers by name.
var servers = map[string]func(context.Context, bench.Site) (bench.Served, bench.Opened, error){
	"coder":            inProcess(newCoder),
	"coder-nats":       startNATS,
	"gorilla":          inProcess(newGorilla),
	"gws":              inProcess(newGWS),
	"centrifuge":       startCentrifuge,
	"centrifuge-redis": startCentrifugeRedis,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	names := strings.Join(slices.Sorted(maps.Keys(servers)), ", ")
	if len(args) != 1 {
		return fmt.Errorf("name one server of %s; `tideway bench --peer` starts it", names)
	}
	start, ok := servers[args[0]]
	if !ok {
		return fmt.Errorf("there is no server %q; there are %s", args[0], names)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return bench.Serve(ctx, os.Stdin, os.Stdout, start)
}
