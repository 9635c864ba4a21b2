// Worker hashes files in the background. Submit puts them into a durable queue,
// and any number of workers take them from there, on any machine that sees the
// files:
//
//	go run ./cmd/tideway demo
//	go run ./examples/worker work
//	go run ./examples/worker submit README.md go.mod
//	go run ./cmd/tideway tail files
//
// Kill a worker at any moment, with SIGKILL even: another one, or the next one,
// does its files again. A file that is not there goes to the dead letters:
//
//	go run ./cmd/tideway dead list
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// queues is the same in all programs of the site.
var queues = []layer.QueuePolicy{{Pattern: "files", AckWait: 5 * time.Second}}

// Hash asks for the hash of a file.
type Hash struct {
	Path string `json:"path"`
}

// MessageType implements layer.Payload.
func (Hash) MessageType() string { return "files.hash" }

// Hashed tells the group "files" of a file that is done.
type Hashed struct {
	Path string `json:"path"`
	Sum  string `json:"sum"`
}

// MessageType implements layer.Payload.
func (Hashed) MessageType() string { return "files.hashed" }

// hasher is the state of one message.
type hasher struct{}

// Hasher handles the messages of the queue.
var Hasher = consumer.Type[hasher]{
	Messages: consumer.Table(consumer.On((*hasher).hash)),
}

// hash writes the hash of a file beside it. It may run twice for one message:
// then it writes the same once more, and nobody ever sees half a file.
func (*hasher) hash(ctx context.Context, c *consumer.Conn, m Hash) error {
	f, err := os.Open(m.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return &consumer.DeadError{Reason: err.Error()} // no attempt will find it
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, reader{ctx, f}); err != nil {
		return err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if err := replace(m.Path+".sha256", sum+"\n"); err != nil {
		return err
	}
	return c.GroupSend(ctx, "files", Hashed{m.Path, sum})
}

// reader ends a long copy when its context does.
type reader struct {
	ctx context.Context
	f   *os.File
}

// Read implements io.Reader.
func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.f.Read(p)
}

// replace writes a file in one step.
func replace(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".hash-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails when it has its new name
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func main() {
	nats := flag.String("nats", "nats://127.0.0.1:4222", "address of the NATS server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	switch flag.Arg(0) {
	case "work":
		err = work(ctx, *nats, Hasher)
	case "submit":
		err = submit(ctx, *nats, flag.Args()[1:])
	default:
		err = errors.New("usage: worker [-nats URL] work | submit FILES")
	}
	if err != nil {
		log.Fatal(err)
	}
}

// open takes part in the site's network.
func open(ctx context.Context, url string) (l *layer.Layer, leave func(), err error) {
	bus, err := natsbus.New(ctx, &natsbus.Options{URL: url})
	if err != nil {
		return nil, nil, err
	}
	if l, err = layer.New(bus, &layer.Options{Queues: queues}); err != nil {
		return nil, nil, errors.Join(err, bus.Close(ctx))
	}
	return l, func() {
		l.Close(context.Background())
		bus.Close(context.Background())
	}, nil
}

// work handles messages until ctx ends. Then it finishes those it has, or hands
// them back.
func work(ctx context.Context, url string, app consumer.App) error {
	l, leave, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer leave()
	fmt.Println("working")
	return router.Work(ctx, l, router.Queues{"files": app}, &router.WorkOptions{
		Concurrency: 4,
		Timeout:     10 * time.Minute,
		Grace:       10 * time.Second,
	})
}

// submit puts files into the queue: one that is waiting already only once.
func submit(ctx context.Context, url string, files []string) error {
	l, leave, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer leave()
	for _, name := range files {
		path, err := filepath.Abs(name)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		key := fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, path, info.ModTime())))
		r, err := l.Enqueue(ctx, "files", Hash{path}, &layer.EnqueueOptions{ID: key})
		if err != nil {
			return err
		}
		fmt.Println(name, map[bool]string{false: "waits for a worker", true: "was submitted already"}[r.Duplicate])
	}
	return nil
}
