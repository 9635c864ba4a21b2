package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// names takes every token for its user's name.
type names struct{}

func (names) Authenticate(*http.Request) (consumer.User, error) {
	return consumer.User{}, errors.Join(consumer.Deny(401, "log in first"), consumer.ErrNoCredentials)
}

func (names) Recheck(_ context.Context, u consumer.User) (consumer.User, error) { return u, nil }

func (names) AuthenticateToken(_ context.Context, token string) (consumer.User, error) {
	if token == "nobody" {
		return consumer.User{}, consumer.Deny(401, "there is no such user")
	}
	return consumer.User{ID: token}, nil
}

// A token that goes out as the first frame is in no header, and Dial says whether it
// is good.
func TestTokenInFrame(t *testing.T) {
	r, err := router.New(nil, router.Table{"/me/": consumer.Type[struct{}]{
		Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
			if h := c.Request().Header["Sec-Websocket-Protocol"]; len(h) != 1 || h[0] != consumer.Protocol {
				return fmt.Errorf("the handshake offers %q", h)
			}
			return c.SendJSON(ctx, c.User().ID)
		},
	}}, &router.Options{Authenticate: names{}, FirstToken: 10 * time.Second})
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
	c, err := client.Dial(ctx, srv.URL+"/me/", &client.Options{Token: "ann", TokenInFrame: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Vanish()
	if e, err := c.Receive(ctx); err != nil || string(e.Data) != `"ann"` {
		t.Errorf("got %+v, %v", e, err)
	}
	if err := c.Authenticate(ctx, "ann"); err != nil {
		t.Errorf("the same user's once more: %v", err)
	}
	for range 20 { // the refusal and the end that follows it come together
		refused := (*client.Error)(nil)
		if _, err := client.Dial(ctx, srv.URL+"/me/", &client.Options{Token: "nobody", TokenInFrame: true}); !errors.As(err, &refused) || refused.Code != "unauthorized" {
			t.Fatalf("got %v, want the code unauthorized", err)
		}
	}
}
