package router_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

// Cases 76, 77, 79 and 80: wildcards of the pattern, of the prefix and of the
// muxes around reach the consumer, wherever the router is mounted.
func TestMounting(t *testing.T) {
	shop := says("tenant", "shop", "item", "rest")
	for _, test := range []struct {
		name    string
		pattern string
		prefix  string
		around  func(http.Handler) http.Handler
		target  string
		want    string // "" is 404
	}{
		{"alone", "/ws/{shop}/{item}/", "", nil, "/ws/s1/i1/", "tenant= shop=s1 item=i1 rest="},
		{"what is below", "/ws/{shop}/", "", nil, "/ws/s1/a/b", "tenant= shop=s1 item= rest="},
		{"the path alone", "/ws/{shop}/{$}", "", nil, "/ws/s1/a", ""},
		{"the rest of the path", "/ws/{shop}/{rest...}", "", nil, "/ws/s1/a/b%2Fc", "tenant= shop=s1 item= rest=a/b/c"},
		{"a host", "localhost/ws/{shop}/", "", nil, "/ws/s1/", "tenant= shop=s1 item= rest="},
		{"a method", "GET /ws/{shop}/", "", nil, "/ws/s1/", "tenant= shop=s1 item= rest="},
		{"the root", "/", "", nil, "/anything", "tenant= shop= item= rest="},
		{"a prefix", "/ws/{shop}/", "/app", nil, "/app/ws/s1/", "tenant= shop=s1 item= rest="},
		{"not below the prefix", "/ws/{shop}/", "/app", nil, "/ws/s1/", ""},
		{"a prefix with a wildcard", "/ws/{shop}/", "/t/{tenant}", nil, "/t/t1/ws/s1/", "tenant=t1 shop=s1 item= rest="},
		{"a prefix behind a method and host", "GET localhost/ws/{shop}/", "/app", nil, "/app/ws/s1/", "tenant= shop=s1 item= rest="},
		{"StripPrefix", "/ws/{shop}/", "", func(h http.Handler) http.Handler {
			return http.StripPrefix("/app", h)
		}, "/app/ws/s1/", "tenant= shop=s1 item= rest="},
		{"a mux with wildcards", "/t/{tenant}/ws/{shop}/", "", func(h http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/t/{item}/ws/", h)
			return mux
		}, "/t/t1/ws/s1/", "tenant=t1 shop=s1 item=t1 rest="},
		{"a mux, StripPrefix and a prefix", "/ws/{shop}/", "/t/{tenant}", func(h http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/app/{rest}/", http.StripPrefix("/app/r1", h))
			return mux
		}, "/app/r1/t/t1/ws/s1/", "tenant=t1 shop=s1 item= rest=r1"},
		{"the inner name counts", "/app/{shop}/", "", func(h http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/{shop}/", h)
			return mux
		}, "/app/s1/", "tenant= shop=s1 item= rest="},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, router.Table{test.pattern: shop}, &router.Options{Prefix: test.prefix})
				h := http.Handler(s)
				if test.around != nil {
					h = test.around(h)
				}
				if test.want == "" {
					if got := consumertest.Refused(t, h, test.target, nil).Status; got != 404 {
						t.Errorf("got %d, want 404", got)
					}
					return
				}
				if got := consumertest.Dial(t, h, test.target, nil).ReceiveText(); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}

// Case 76: the more specific pattern wins, whatever the order.
func TestTheMoreSpecificPatternWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		named := func(name string) consumer.App {
			return asks(func(_ context.Context, c *consumer.Conn) error { c.Header().Set("X-Route", name); return nil })
		}
		s := open(t, router.Table{
			"/":              named("root"),
			"/ws/":           named("ws"),
			"/ws/{room}/{$}": named("room"),
			"/ws/lobby/{$}":  named("lobby"),
		}, nil)
		for target, want := range map[string]string{"/x": "root", "/ws/": "ws", "/ws/hall/": "room", "/ws/hall/x": "ws", "/ws/lobby/": "lobby", "/ws/lobby/x": "ws"} {
			if got := consumertest.Dial(t, s, target, nil).Header().Get("X-Route"); got != want {
				t.Errorf("%s: got %s, want %s", target, got, want)
			}
		}
	})
}

// Case 81: what no route of an inner router matches falls through to the next,
// three levels deep, and then to the site's pages.
func TestFallingThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "a page", http.StatusTeapot)
		})
		third := open(t, router.Table{"/app/three/{n}/": says("n")}, &router.Options{NotFound: pages})
		second := open(t, router.Table{"/two/{n}/": says("n")}, &router.Options{Prefix: "/app", NotFound: third})
		first := open(t, router.Table{"/app/one/{n}/": says("n")}, &router.Options{NotFound: second})
		for _, target := range []string{"/app/one/1/", "/app/two/1/", "/app/three/1/"} {
			if got := consumertest.Dial(t, first, target, nil).ReceiveText(); got != "n=1" {
				t.Errorf("%s: got %q, want n=1", target, got)
			}
		}
		if got := consumertest.Refused(t, first, "/app/four/1/", nil); got.Status != http.StatusTeapot {
			t.Errorf("got %d, want the page", got.Status)
		}
		for _, s := range []*site{first, second, third} {
			if got := s.log.String(); got != "" {
				t.Errorf("what falls through is no refusal, but was logged: %s", got)
			}
		}
	})
}

// A middleware's headers reach the consumer, which may change them, and the client.
func TestHeadersOfAMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": asks(func(_ context.Context, c *consumer.Conn) error {
			c.Header().Set("X-Both", c.Header().Get("X-Both")+" consumer")
			c.Header().Del("X-Removed")
			return nil
		})}, nil)
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Both", "middleware")
			w.Header().Set("X-Removed", "by the consumer")
			s.ServeHTTP(w, r)
		})
		got := consumertest.Dial(t, h, "/", nil).Header()
		if got.Get("X-Both") != "middleware consumer" || got.Get("X-Removed") != "" {
			t.Errorf("got %v", got)
		}
	})
}

func TestRoutes(t *testing.T) {
	r, err := router.New(nil, router.Table{"/b/": chat, "/a/{x}/": chat, "/a/": says()}, &router.Options{Prefix: "/app"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for pattern, app := range r.Routes() {
		if app == nil {
			t.Errorf("%s has no consumer", pattern)
		}
		got = append(got, pattern)
		if len(got) == 3 {
			break
		}
	}
	if want := []string{"/a/", "/a/{x}/", "/b/"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Mistakes of a table are found when the program starts. Case 75.
func TestBadTables(t *testing.T) {
	for _, test := range []struct {
		name  string
		table router.Table
		want  []string
	}{
		{"two patterns clash", router.Table{"/ws/{a}/x": chat, "/ws/y/{b}": chat}, []string{"/ws/{a}/x", "/ws/y/{b}", "conflicts"}},
		{"two patterns are the same", router.Table{"/ws/{a}/": chat, "/ws/{b}/": chat}, []string{"/ws/{a}/", "/ws/{b}/"}},
		{"no consumer", router.Table{"/ws/": nil}, []string{`"/ws/" has no consumer`}},
		{"no path", router.Table{"ws": chat}, []string{"ws"}},
		{"a bad wildcard", router.Table{"/ws/{room": chat}, []string{"/ws/{room"}},
		{"an empty pattern", router.Table{"": chat}, []string{"pattern"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer func() {
				got := fmt.Sprint(recover())
				for _, w := range test.want {
					if !strings.Contains(got, w) {
						t.Errorf("panicked with %q, want %q in it", got, w)
					}
				}
			}()
			router.New(nil, test.table, nil)
		})
	}
}
