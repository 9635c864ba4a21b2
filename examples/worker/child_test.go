package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
)

// The environment makes the test's own program a worker.
const (
	urlVariable   = "TIDEWAY_TEST_WORKER"
	limitVariable = "TIDEWAY_TEST_TIMEOUT" // WorkOptions.Timeout; such a worker has little memory, too
)

func TestMain(m *testing.M) {
	queues[0].AckWait, queues[0].Backoff, queues[0].Attempts = time.Second, 10*time.Millisecond, 8
	queues = append(queues,
		layer.QueuePolicy{Pattern: "mixed", AckWait: 3 * time.Second, Attempts: 3, Backoff: 10 * time.Millisecond},
		layer.QueuePolicy{Pattern: "held", AckWait: 10 * time.Second, Backoff: 10 * time.Millisecond},
	)
	url := os.Getenv(urlVariable)
	if url == "" {
		os.Exit(m.Run())
	}
	if err := child(url); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child is a worker. In the end it says what it has done.
func child(url string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	l, leave, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer leave()
	var stats router.WorkStats
	o := &router.WorkOptions{Concurrency: 4, Grace: 10 * time.Second, Stats: &stats}
	if text := os.Getenv(limitVariable); text != "" {
		if o.Timeout, err = time.ParseDuration(text); err != nil {
			return err
		}
		if err := confine(); err != nil {
			return err
		}
	}
	app := consumer.Type[hasher]{Messages: consumer.Table(
		consumer.On((*hasher).hash), consumer.On((*hasher).slow), consumer.On((*hasher).poison), consumer.On((*hasher).held),
	)}
	fmt.Println("working")
	err = router.Work(ctx, l, router.Queues{"files": app, "mixed": app, "held": app}, o)
	fmt.Printf("done %d, returned %d, lost %d\n", stats.Done.Load(), stats.Returned.Load(), stats.Lost.Load())
	return err
}

// confine bounds the memory of this process, where that can be done.
var confine = func() error { return nil }

// Slow takes a while, and the process knows nothing of it if it is killed.
type Slow struct {
	Path string `json:"path"`
	Log  string `json:"log,omitempty"` // a file to note each run in
}

// MessageType implements layer.Payload.
func (Slow) MessageType() string { return "files.slow" }

func (h *hasher) slow(ctx context.Context, c *consumer.Conn, m Slow) error {
	if m.Log != "" {
		if err := note(m.Log, "slow %s", m.Path); err != nil {
			return err
		}
	}
	select {
	case <-time.After(20 * time.Millisecond):
		return h.hash(ctx, c, Hash{m.Path})
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Held is a message that is held until the file Gate with the number of the
// process is there, whatever its context says.
type Held struct {
	Log  string `json:"log"`
	Gate string `json:"gate"`
	Fail int    `json:"fail"` // the process in which it fails
}

// MessageType implements layer.Payload.
func (Held) MessageType() string { return "files.held" }

func (*hasher) held(_ context.Context, _ *consumer.Conn, m Held) error {
	if err := note(m.Log, "%d", os.Getpid()); err != nil {
		return err
	}
	for !exists(fmt.Sprint(m.Gate, os.Getpid())) {
		time.Sleep(5 * time.Millisecond)
	}
	if m.Fail == os.Getpid() {
		return errors.New("it shall fail")
	}
	return nil
}

// Poison is a message that harms whoever handles it.
type Poison struct {
	Kind string `json:"kind"`
	Log  string `json:"log,omitempty"`  // a file to note each run in
	Gate string `json:"gate,omitempty"` // no last attempt before this file is there
}

// MessageType implements layer.Payload.
func (Poison) MessageType() string { return "files.poison" }

func (*hasher) poison(ctx context.Context, c *consumer.Conn, m Poison) error {
	if m.Gate != "" && c.Delivery().Final() && !exists(m.Gate) {
		time.Sleep(50 * time.Millisecond)
		return consumer.ErrHandBack
	}
	if m.Log != "" {
		if err := note(m.Log, "poison %s", m.Kind); err != nil {
			return err
		}
	}
	switch m.Kind {
	case "panic":
		panic("poisoned")
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	case "hang for good":
		select {}
	case "memory":
		var all [][]byte
		for range 1 << 10 {
			all = append(all, make([]byte, 1<<20))
		}
		return fmt.Errorf("a gigabyte is there in %d pieces", len(all))
	}
	os.Exit(7)
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// note adds a line to a file that many processes write.
func note(path, format string, args ...any) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, format+"\n", args...)
	return errors.Join(err, f.Close())
}
