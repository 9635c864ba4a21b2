package consumertest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

// A consumer and its router in a test: the hour passes at once.
func Example() {
	testPatience := func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, err := router.New(nil, router.Table{"/ws/echo/": consumer.Type[struct{}]{
				Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
					return c.Send(ctx, f)
				},
			}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Shutdown(t.Context())

			client := consumertest.Dial(t, r, "/ws/echo/", nil)
			client.ReceiveNothing(time.Hour)
			client.SendText("still there?")
			if got, want := client.ReceiveText(), "still there?"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			client.Close(consumer.StatusNormalClosure, "")
		})
	}
	_ = testPatience // in a file of tests it is func TestPatience
}
