package client_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/router"
)

type upper struct{ Text string }

// Over a real socket: data, a request, a refusal, the end.
func TestOverTCP(t *testing.T) {
	r, err := router.New(nil, router.Table{
		"/echo/": consumer.Type[struct{}]{
			Receive: consumer.Answer(func(_ *struct{}, _ context.Context, _ *consumer.Conn, m upper) (upper, error) {
				if m.Text == "" {
					return m, &consumer.ReplyError{Code: "empty", Message: "say something"}
				}
				return upper{strings.ToUpper(m.Text)}, nil
			}),
		},
		"/deny/": consumer.Type[struct{}]{Connect: func(*struct{}, context.Context, *consumer.Conn) error {
			return consumer.Deny(403, "not you")
		}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(r)
	t.Cleanup(func() {
		if err := r.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, srv.URL+"/echo/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Session() == "" || c.PingInterval() != 25*time.Second {
		t.Errorf("session %q, ping %v", c.Session(), c.PingInterval())
	}
	var got upper
	if err := c.Request(ctx, upper{"hi"}, &got); err != nil || got.Text != "HI" {
		t.Errorf("got %+v, %v", got, err)
	}
	refused := (*client.Error)(nil)
	if err := c.Request(ctx, upper{}, nil); !errors.As(err, &refused) || refused.Code != "empty" {
		t.Errorf("got %v, want the code empty", err)
	}
	if err := c.Request(ctx, 5, nil); !errors.As(err, &refused) || refused.Code != "bad_data" {
		t.Errorf("got %v, want the code bad_data", err)
	}
	if err := c.Send(ctx, upper{"ho"}); err != nil {
		t.Fatal(err)
	}
	if e, err := c.Receive(ctx); err != nil || string(e.Data) != `{"Text":"HO"}` {
		t.Errorf("got %+v, %v", e, err)
	}
	if err := c.Close(consumer.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	denied := (*client.RefusedError)(nil)
	if _, err := client.Dial(ctx, srv.URL+"/deny/", nil); !errors.As(err, &denied) || denied.Status != 403 {
		t.Errorf("got %v, want 403", err)
	}
}
