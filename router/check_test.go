package router_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
)

// asks is an App whose Connect is f.
func asks(f func(ctx context.Context, c *consumer.Conn) error) consumer.App {
	return consumer.Type[struct{}]{Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error { return f(ctx, c) }}
}

func header(pairs ...string) *consumertest.Options {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return &consumertest.Options{Header: h}
}

// Cases 78, 82, 92 and what Channels leaves to guessing: every refusal comes
// before the upgrade, with its status, and with one line in the log that says why.
func TestRefusals(t *testing.T) {
	refuse := func(err error) consumer.App {
		return asks(func(context.Context, *consumer.Conn) error { return err })
	}
	table := router.Table{
		"/ws/{room}/":  chat,
		"/deny/":       refuse(consumer.Deny(402, "pay first")),
		"/deny/zero/":  refuse(&consumer.DenyError{}),
		"/deny/odd/":   refuse(consumer.Deny(200, "fine")),
		"/deny/long/":  refuse(&consumer.DenyError{Status: 503, Reason: "full", Header: http.Header{"retry-after": {"77"}}}),
		"/wrapped/":    refuse(fmt.Errorf("no way: %w", consumer.Deny(409, "taken"))),
		"/error/":      refuse(errors.New("the database is on fire")),
		"/down/":       refuse(fmt.Errorf("joining: %w", layer.ErrUnavailable)),
		"/panic/":      asks(func(context.Context, *consumer.Conn) error { panic("oh no") }),
		"/nothing/":    consumer.Func(func(context.Context, *consumer.Conn) error { return nil }),
		"/subprotocol": asks(func(_ context.Context, c *consumer.Conn) error { return c.Accept("soap") }),
	}
	for _, test := range []struct {
		name   string
		target string
		opts   *consumertest.Options
		status int
		body   string
		header [2]string
		why    string
	}{
		{"wrong path", "/nowhere/", nil, 404, "no consumer at this path\n", [2]string{}, "no route matches the path"},
		{"no slash at the end", "/ws/lobby", nil, 404, "no consumer at this path\n", [2]string{}, "with a slash at its end"},
		{"two slashes", "/ws//lobby/", nil, 404, "no consumer at this path\n", [2]string{}, "no route matches"},
		{"foreign origin", "/ws/lobby/", header("Origin", "https://evil.example"), 403, "this origin may not connect\n", [2]string{}, "evil.example"},
		{"no origin, but a cookie", "/ws/lobby/", header("Cookie", "a=1"), 403, "this origin may not connect\n", [2]string{}, "cookie"},
		{"foreign host", "/ws/lobby/", &consumertest.Options{Host: "evil.example"}, 403, "this host is not served here\n", [2]string{}, "evil.example"},
		{"a room that no group can be named after", "/ws/not%20a%20name/", nil, 400, "there can be no such name\n", [2]string{}, "chat.not a name"},
		{"denied", "/deny/", nil, 402, "pay first\n", [2]string{}, "pay first"},
		{"denied with nothing", "/deny/zero/", nil, 403, "Forbidden\n", [2]string{}, "denied"},
		{"denied with success", "/deny/odd/", nil, 403, "fine\n", [2]string{}, "fine"},
		{"denied with a header", "/deny/long/", nil, 503, "full\n", [2]string{"Retry-After", "77"}, "full"},
		{"denied inside", "/wrapped/", nil, 409, "taken\n", [2]string{}, "no way"},
		{"an error", "/error/", nil, 500, "Internal Server Error\n", [2]string{}, "the database is on fire"},
		{"the network is down", "/down/", nil, 503, "try again later\n", [2]string{"Retry-After", "5"}, "joining"},
		{"a panic", "/panic/", nil, 500, "Internal Server Error\n", [2]string{}, "check_test.go"},
		{"a function that never accepts", "/nothing/", nil, 403, "the consumer ended without accepting\n", [2]string{}, "without accepting"},
		{"an unknown subprotocol", "/subprotocol", nil, 500, "Internal Server Error\n", [2]string{}, "soap"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, table, nil)
				got := consumertest.Refused(t, s, test.target, test.opts)
				if got.Status != test.status || got.Body != test.body {
					t.Errorf("got %d %q, want %d %q", got.Status, got.Body, test.status, test.body)
				}
				if h := test.header; got.Header.Get(h[0]) != h[1] {
					t.Errorf("%s: got %q, want %q", h[0], got.Header.Get(h[0]), h[1])
				}
				synctest.Wait()
				s.log.expect(t, "level=WARN", fmt.Sprintf("status=%d", test.status), test.why, "remote=127.0.0.1")
				if got := s.Stats(); got.Refused != 1 || got.Open != 0 {
					t.Errorf("got %+v, want one refused", got)
				}
			})
		})
	}
}

// What is no handshake is answered like a page, which a proxy or a person may ask
// for.
func TestNoHandshake(t *testing.T) {
	s := open(t, router.Table{"/ws/{room}/": chat}, nil)
	server := httptest.NewServer(s)
	defer server.Close()
	for _, test := range []struct {
		name   string
		method string
		header []string // in pairs
		status int
		why    string
	}{
		{"a page", "GET", nil, 426, "dropped its Upgrade header"},
		{"another upgrade", "GET", []string{"Connection", "Upgrade", "Upgrade", "h2c"}, 426, "no WebSocket handshake"},
		{"half of the headers", "GET", []string{"Upgrade", "websocket"}, 426, "no WebSocket handshake"},
		{"another method", "POST", []string{"Connection", "keep-alive, Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13"}, 405, "handshake failed"},
		{"another version", "GET", []string{"Connection", "Upgrade", "Upgrade", "WebSocket", "Sec-WebSocket-Version", "8", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}, 400, "handshake failed"},
		{"no key", "GET", []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13"}, 400, "handshake failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.log.reset()
			req, err := http.NewRequest(test.method, server.URL+"/ws/lobby/", nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(test.header); i += 2 {
				req.Header.Set(test.header[i], test.header[i+1])
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != test.status {
				t.Errorf("got %d %q, want %d", res.StatusCode, body, test.status)
			}
			if test.status == 426 && !strings.EqualFold(res.Header.Get("Upgrade"), "websocket") {
				t.Errorf("Upgrade: got %q, want websocket", res.Header.Get("Upgrade"))
			}
			s.log.expect(t, test.why)
		})
	}
}

// A path that a stranger made up does not fill the log.
func TestLongPathInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/ws/{room}/": chat}, nil)
		consumertest.Refused(t, s, "/"+strings.Repeat("x", 10_000), nil)
		if n := len(s.log.String()); n > 600 {
			t.Errorf("the line has %d bytes, want 600 at most", n)
		}
		s.log.expect(t, "no route matches")
	})
}

// A Connect that takes too long is answered with 503, its context ends, and it
// cannot accept any more. Disconnect runs once it has returned.
func TestHandshakeTimeout(t *testing.T) {
	for _, accepts := range []bool{false, true} {
		t.Run(fmt.Sprintf("accepts late: %v", accepts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended, late := make(chan time.Time, 1), make(chan error, 1)
				s := open(t, router.Table{"/": consumer.Type[struct{}]{
					Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
						<-ctx.Done()
						ended <- time.Now()
						time.Sleep(time.Second)
						if accepts {
							late <- c.Send(ctx, consumer.TextFrame("too late"))
							return nil
						}
						late <- c.GroupAdd(context.Background(), "g")
						return ctx.Err()
					},
					Disconnect: func(*struct{}, context.Context, *consumer.Conn, consumer.StatusCode) { late <- nil },
				}}, nil)
				began := time.Now()
				got := consumertest.Refused(t, s, "/", &consumertest.Options{Timeout: time.Minute})
				if got.Status != 503 || got.Header.Get("Retry-After") != "5" || time.Since(began) != 10*time.Second {
					t.Errorf("got %d, Retry-After %q, after %v, want 503, 5, after 10 s", got.Status, got.Header.Get("Retry-After"), time.Since(began))
				}
				if d := (<-ended).Sub(began); d != 10*time.Second {
					t.Errorf("Connect's context ended after %v, want 10 s", d)
				}
				if err := <-late; accepts && !errors.Is(err, consumer.ErrNotOpen) || !accepts && err != nil {
					t.Errorf("got %v", err)
				}
				<-late // Disconnect
				s.log.expect(t, "Connect did not decide within 10s", "status=503")
			})
		})
	}
}

// A client that leaves during Connect ends its context, too, and is no failure of
// Connect, whoever notices first.
func TestClientLeavesDuringConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, disconnected := make(chan struct{}), make(chan consumer.StatusCode, 1)
		s := open(t, router.Table{"/": consumer.Type[struct{}]{
			Groups: []string{"g"},
			Connect: func(_ *struct{}, ctx context.Context, _ *consumer.Conn) error {
				began <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			},
			Disconnect: func(_ *struct{}, _ context.Context, _ *consumer.Conn, code consumer.StatusCode) { disconnected <- code },
		}}, nil)
		for range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-began
				cancel()
			}()
			s.ServeHTTP(httptest.NewRecorder(), handshake("/").WithContext(ctx))
			if code := <-disconnected; code != 1006 {
				t.Errorf("Disconnect got %d, want 1006", code)
			}
			synctest.Wait()
			s.log.expect(t, "the client left during the handshake")
		}
		if got := s.Stats(); got.Open != 0 {
			t.Errorf("got %+v, want nobody", got)
		}
	})
}

// handshake is a request that is one.
func handshake(target string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	r.Host = "localhost"
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		r.Header.Set(k, v)
	}
	return r
}

// A ResponseWriter that hides the connection is the operator's to find: the line
// names it.
func TestNoHijacker(t *testing.T) {
	s := open(t, router.Table{"/": chat}, nil)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, handshake("/"))
	if w.Code != 501 {
		t.Errorf("got %d, want 501", w.Code)
	}
	s.log.expect(t, "*httptest.ResponseRecorder")
	if got := s.Stats(); got.Refused != 1 || got.Open != 0 {
		t.Errorf("got %+v, want one refused", got)
	}
}
