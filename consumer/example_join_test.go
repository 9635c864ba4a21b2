package consumer_test

import (
	"context"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

type progress struct{}

func (p *progress) connect(ctx context.Context, c *consumer.Conn) error {
	return c.Join(ctx, "job."+c.PathValue("id"), &consumer.JoinOptions{FromStart: true})
}

// A consumer whose clients see every line of a job, whenever they come and however
// often they are cut off.
func ExampleConn_Join() {
	bus := membus.New()
	l, err := layer.New(bus, &layer.Options{
		Groups: []layer.Retention{{Pattern: "job.>", Messages: 10_000, Age: 7 * 24 * time.Hour}},
	})
	if err != nil {
		panic(err)
	}
	defer l.Close(context.Background())

	_ = consumer.Type[progress]{
		Connect:  (*progress).connect,
		Messages: consumer.Table(consumer.Forward[progress, line]()),
	}
}

// A page that is rendered with a group's state gets the position that goes with it.
func ExampleCursor() {
	_ = func(ctx context.Context, l *layer.Layer, group string) (string, error) {
		position, err := l.Position(ctx, group)
		if err != nil {
			return "", err
		}
		return consumer.Cursor(l, group, position), nil
	}
}

// Coming back from where an earlier connection was.
func dialFrom(ctx context.Context, url string, from client.Resume) (*client.Conn, error) {
	conn, err := client.Dial(ctx, url, &client.Options{Resume: from})
	return conn, err
}

var _ = dialFrom
