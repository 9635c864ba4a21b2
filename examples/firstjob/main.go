// Command firstjob is the program of docs/tutorial-job.md: a page that updates
// game servers, and the worker that does it.
//
//	go run ./examples/firstjob
//	go run ./examples/firstjob worker
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// Update is what an operator asks for.
type Update struct {
	Version string `json:"version"`
}

var servers = []string{"alpha", "bravo", "charlie", "delta", "echo", "foxtrot"}

func open(bus layer.Bus) (*layer.Layer, error) {
	return layer.New(bus, &layer.Options{Groups: job.Groups(), Queues: job.Queues()})
}

// update does the work: it is called for each attempt of each job.
func update(ctx context.Context, r *job.Run) error {
	var u Update
	if err := r.Decode(&u); err != nil {
		return job.Fail(err)
	}
	return r.Each(ctx, func(ctx context.Context, server *job.Target) error {
		return install(ctx, server, u.Version)
	}, &job.EachOptions{Concurrency: 3, Tries: 2, Timeout: time.Minute})
}

// install updates one server, which is only played here.
func install(ctx context.Context, server *job.Target, version string) error {
	if err := server.Log(ctx, "installing "+version); err != nil {
		return err
	}
	const steps = 10
	for i := range int64(steps) {
		select {
		case <-time.After(time.Duration(200+rand.IntN(600)) * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := server.Progress(ctx, i+1, steps); err != nil {
			return err
		}
	}
	return server.Log(ctx, "done")
}

// start answers the button: it submits a job and sends the browser to its page.
func start(l *layer.Layer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u := Update{Version: r.FormValue("version")}
		id, err := job.Submit(r.Context(), l, "update", u, &job.SubmitOptions{
			Key: r.FormValue("key"), By: r.FormValue("who"), Targets: servers,
		})
		if err != nil {
			http.Error(w, "not accepted: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, "/?job="+id, http.StatusSeeOther)
	}
}

// control says who may cancel and retry: here, everybody who says a name.
func control(_ context.Context, c *consumer.Conn, _ *job.Status) (string, error) {
	if who := c.Query().Get("who"); who != "" {
		return who, nil
	}
	return "", errors.New("who are you?")
}

//go:embed page.html
var html []byte

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(html)
}

// site is the web process.
func site(l *layer.Layer) (*router.Router, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", page)
	mux.HandleFunc("POST /updates", start(l))
	return router.New(l, router.Table{
		"/ws/jobs/{id}/{$}": job.Watcher(&job.WatcherOptions{Control: control}),
	}, &router.Options{NotFound: mux})
}

// work is the worker process.
func work(ctx context.Context, l *layer.Layer) error {
	return job.Work(ctx, l, map[string]job.Handler{"update": update}, nil)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		err = worker(ctx)
	} else {
		err = web(ctx)
	}
	if err != nil {
		log.Fatal(err)
	}
}

const addr, nats = "127.0.0.1:8000", "127.0.0.1:4222"

func web(ctx context.Context) error {
	store := filepath.Join(os.TempDir(), "tideway-firstjob")
	bus, err := natsbus.New(ctx, &natsbus.Options{Embedded: &natsbus.Embedded{Listen: nats, StoreDir: store}})
	if err != nil {
		return err
	}
	defer bus.Close(context.Background())
	l, err := open(bus)
	if err != nil {
		return err
	}
	defer l.Close(context.Background())
	r, err := site(l)
	if err != nil {
		return err
	}
	s := &http.Server{Addr: addr, Handler: r, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() {
		r.Shutdown(context.Background())
		s.Shutdown(context.Background())
	})
	fmt.Println("Open http://" + addr + "/ and, in another terminal: go run ./examples/firstjob worker")
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func worker(ctx context.Context) error {
	bus, err := natsbus.New(ctx, &natsbus.Options{URL: "nats://" + nats})
	if err != nil {
		return err
	}
	defer bus.Close(context.Background())
	l, err := open(bus)
	if err != nil {
		return err
	}
	defer l.Close(context.Background())
	fmt.Println("waiting for jobs")
	return work(ctx, l)
}
