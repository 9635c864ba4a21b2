// Notify is an inbox that loses nothing: package inbox, as a site of its own. Log
// in as ann in a browser, then tell ann something:
//
//	go run ./examples/notify
//	curl -d text='Your order is on its way' http://127.0.0.1:8000/inbox/notify/ann
//
// The sockets know their user by the cookie of the site's sessions. Any other
// process can notify, too, since a notification is a message to a group:
//
//	go run ./cmd/tideway send notify.ann '{"type":"notify.message","text":"hello"}'
//
// The NATS server is inside, unless -use names another: several of these programs
// on one NATS server are one site. Only pages of this machine may open sockets.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/tideway-go/tideway/examples/notify/inbox"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "address of the site")
	nats := flag.String("nats", "127.0.0.1:4222", "address of the NATS server inside")
	store := flag.String("store", "", "folder of what the NATS server inside keeps (default: one in the user's cache)")
	use := flag.String("use", "", "URL of a NATS server to use instead, such as nats://10.0.0.5:4222")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	opts := &natsbus.Options{URL: *use}
	if *use == "" {
		opts.Embedded = &natsbus.Embedded{Listen: *nats, StoreDir: cmp.Or(*store, defaultStore())}
	}
	if err := run(ctx, *addr, opts); err != nil {
		log.Fatal(err)
	}
}

// defaultStore is where an inbox outlives its server. Where there is no such
// folder it does not.
func defaultStore() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "tideway-notify")
}

// run serves the site until ctx ends.
func run(ctx context.Context, addr string, opts *natsbus.Options) (err error) {
	bus, err := natsbus.New(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bus.Close(context.WithoutCancel(ctx))) }()
	l, err := layer.New(bus, &layer.Options{Groups: inbox.Groups()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close(context.WithoutCancel(ctx))) }()

	site, err := inbox.New(l, nil)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(inbox.Path, site.Handler())
	mux.Handle("GET /{$}", http.RedirectHandler(inbox.Path, http.StatusSeeOther))
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	fmt.Printf("The page is at http://%s%s, NATS at %s\n", ln.Addr(), inbox.Path, cmp.Or(opts.URL, bus.ClientURL()))
	return router.Serve(ctx, &http.Server{Handler: mux}, ln, site.Router())
}
