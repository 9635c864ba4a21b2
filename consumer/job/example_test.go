package job_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

var tables = []string{"users", "orders", "lines"}

func copyTable(_ context.Context, table string) error {
	fmt.Println("copied", table)
	return nil
}

// A job whose steps are not repeated when its worker dies.
func ExampleRun_Checkpoint() {
	handler := func(ctx context.Context, r *job.Run) error {
		next := 0
		if _, err := r.Restore(&next); err != nil {
			return err
		}
		for ; next < len(tables); next++ {
			if err := copyTable(ctx, tables[next]); err != nil {
				return err
			}
			if err := r.Checkpoint(ctx, next+1); err != nil {
				return err
			}
		}
		return nil
	}

	ctx, stop := context.WithCancel(context.Background())
	l, err := layer.New(membus.New(), &layer.Options{Groups: job.Groups(), Queues: job.Queues()})
	if err != nil {
		panic(err)
	}
	defer l.Close(context.Background())
	working := make(chan error)
	go func() { working <- job.Work(ctx, l, map[string]job.Handler{"copy": handler}, nil) }()

	id, err := job.Submit(ctx, l, "copy", nil, nil)
	if err != nil {
		panic(err)
	}
	for e, err := range job.Watch(ctx, l, id, layer.Position{}) {
		if err != nil {
			panic(err)
		}
		if e.Event == job.Ended {
			fmt.Println(e.State)
		}
	}
	stop()
	if err := <-working; err != nil {
		panic(err)
	}
	// Output:
	// copied users
	// copied orders
	// copied lines
	// succeeded
}

func ExampleRun_Lock() {
	_ = func(ctx context.Context, r *job.Run, name string) error {
		lock, err := r.Lock(ctx, "server."+name)
		if err != nil {
			return err
		}
		defer lock.Unlock(ctx)
		return copyTable(ctx, name)
	}
}

func ExampleCancel() {
	ctx := context.Background()
	l, err := layer.New(membus.New(), &layer.Options{Groups: job.Groups(), Queues: job.Queues()})
	if err != nil {
		panic(err)
	}
	defer l.Close(ctx)
	id, err := job.Submit(ctx, l, "copy", nil, nil)
	if err != nil {
		panic(err)
	}
	if err := job.Cancel(ctx, l, id, "bob"); err != nil {
		panic(err)
	}

	err = job.Cancel(ctx, l, id, "ann")
	var ended *job.EndedError
	if errors.As(err, &ended) {
		fmt.Println("too late, it is", ended.State)
	}
	// Output: too late, it is cancelled
}
