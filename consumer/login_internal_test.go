package consumer

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Whatever the first frame is, nobody is let in but by a token that is good.
func FuzzLogin(f *testing.F) {
	for _, s := range []string{
		`{"auth":"good"}`, `{"auth":"good","id":1}`, `{"auth":"bad"}`, `{"auth":""}`, `{"auth":"good","data":1}`, `{"data":1}`, `{"resume":{}}`, `{"Auth":"good"}`, `{"auth":"good","auth":"bad"}`, `[`, ``,
	} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, text bool) {
		asked := ""
		check := func(_ context.Context, token string) (User, error) {
			if asked = token; token != "good" {
				return User{}, Deny(http.StatusUnauthorized, "bad")
			}
			return User{ID: "ann"}, nil
		}
		c := newConn(t.Context(), Setup{
			Socket: deaf{}, Request: httptest.NewRequest("GET", "/", nil), Subprotocols: []string{Protocol}, Logger: slog.New(slog.DiscardHandler),
		})
		c.first = true
		if err := c.accept(Protocol); err != nil {
			t.Fatal(err)
		}
		frame := Frame{Text, data}
		if !text {
			frame.Type = Binary
		}
		err := c.loginBy(frame, &Login{time.Second, check})
		if in := !c.User().Anonymous(); in != (err == nil) || in && (asked != "good" || !text || !json.Valid(data)) {
			t.Errorf("%q: user %q, error %v", data, c.User().ID, err)
		}
	})
}
