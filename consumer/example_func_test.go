package consumer_test

import (
	"context"
	"fmt"

	"github.com/tideway-go/tideway/consumer"
)

// A function that counts its client's messages.
func ExampleFunc() {
	app := consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
		n := 0
		for e, err := range c.Events(ctx) {
			if err != nil {
				return err
			}
			if e.Frame == nil {
				continue // a message of the layer
			}
			n++
			if err := c.Send(ctx, consumer.TextFrame(fmt.Sprintf("%d: %s", n, e.Frame.Data))); err != nil {
				return err
			}
		}
		return nil
	})
	talk(app, "hello", "world")
	// Output:
	// 1: hello
	// 2: world
}
