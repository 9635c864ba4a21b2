package jwt

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/auth"
)

// Through the whole stack: the token is heard, never echoed and never logged,
// and the connection ends with it.
func TestOverTheSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		l, err := layer.New(membus.New(), nil)
		if err != nil {
			t.Fatal(err)
		}
		whoami := consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
			if err := c.Accept("tideway.v1"); err != nil {
				return err
			}
			if err := c.Send(ctx, consumer.TextFrame(c.User().ID+" "+strings.Join(c.Subprotocols(), ","))); err != nil {
				return err
			}
			_, err := c.Receive(ctx)
			return err
		})
		r, err := router.New(l, router.Table{"/ws/": whoami}, &router.Options{
			Authenticate: auth.Required(newAuthenticator(t, valid())),
			Logger:       slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		if err != nil {
			t.Fatal(err)
		}

		offer := func(token string) *consumertest.Options {
			return &consumertest.Options{Subprotocols: []string{auth.BearerPrefix + base64.RawURLEncoding.EncodeToString([]byte(token)), "tideway.v1"}}
		}
		token := sign(t, jwt.SigningMethodHS256, secret, claims(nil))
		c := consumertest.Dial(t, r, "/ws/", offer(token))
		c.ReceiveText() // hello
		if got := c.ReceiveText(); got != `{"data":"ada tideway.v1"}` || c.Subprotocol() != "tideway.v1" {
			t.Errorf("got %q and the subprotocol %q", got, c.Subprotocol())
		}
		bad := token[:len(token)-4] + "AAAA"
		refused := consumertest.Refused(t, r, "/ws/", offer(bad))
		if refused.Status != http.StatusUnauthorized || refused.Header.Get("WWW-Authenticate") == "" || strings.TrimSpace(refused.Body) != "the token is not valid" {
			t.Errorf("a bad token: %+v", refused)
		}
		if refused := consumertest.Refused(t, r, "/ws/", nil); refused.Status != http.StatusUnauthorized {
			t.Errorf("no token: %+v", refused)
		}

		time.Sleep(time.Hour + time.Second)
		if code, _ := c.ReceiveClose(); code != consumer.StatusExpired {
			t.Errorf("at the token's end: closed with %d, want 4101", code)
		}
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		for _, secretText := range []string{token, bad, offer(token).Subprotocols[0], offer(bad).Subprotocols[0]} {
			if strings.Contains(lines.String(), secretText) {
				t.Errorf("a token is in the log: %s", lines.String())
			}
		}
	})
}

// A token is renewed over the open connection, by the same user alone.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := router.New(nil, router.Table{"/ws/": consumer.Type[struct{}]{}}, &router.Options{
			Authenticate: auth.Required(auth.First(newAuthenticator(t, valid()))),
			Logger:       slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		c, err := client.Dial(ctx, "ws://localhost/ws/", &client.Options{
			Token: sign(t, jwt.SigningMethodHS256, secret, claims(nil)), HTTPClient: consumertest.HTTPClient(t, r),
		})
		if err != nil {
			t.Fatal(err)
		}
		refused := (*client.Error)(nil)
		for _, token := range []string{"garbage", sign(t, jwt.SigningMethodHS256, secret, claims(map[string]any{"sub": "eve"}))} {
			if err := c.Authenticate(ctx, token); !errors.As(err, &refused) || refused.Code != "unauthorized" {
				t.Errorf("got %v, want unauthorized", err)
			}
		}
		time.Sleep(50 * time.Minute)
		if err := c.Authenticate(ctx, sign(t, jwt.SigningMethodHS256, secret, claims(nil))); err != nil {
			t.Error(err)
		}
		began := time.Now()
		if _, err := c.Receive(ctx); consumer.CloseStatus(err) != consumer.StatusExpired || time.Since(began) < 55*time.Minute {
			t.Errorf("ended after %v with %v; want 4101 when the new token ends", time.Since(began), err)
		}
		if err := r.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
}
