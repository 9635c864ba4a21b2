package mounting

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// said is what the consumer tells a client: what it knows of the request, and
// the message.
type said struct {
	Room, Query, Text string
}

func (said) MessageType() string { return "said" }

// room is a consumer that answers with its path value, and hears its group.
type room struct{ name string }

func connect(r *room, ctx context.Context, c *consumer.Conn) error {
	r.name = c.PathValue("room")
	return c.GroupAdd(ctx, "room."+r.name)
}

func receive(r *room, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
	return c.GroupSend(ctx, "room."+r.name, said{r.name, c.Query().Get("q"), string(f.Data)})
}

var rooms = consumer.Type[room]{
	Connect:  connect,
	Receive:  receive,
	Messages: consumer.Table(consumer.Forward[room, said]()),
}

// hosts are the ways to mount h at the top, and below a prefix, each with the
// middlewares that its users have as a matter of course.
var hosts = map[string]func(h http.Handler) http.Handler{
	"net/http": func(h http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/ws/", h)
		mux.Handle("/below/", http.StripPrefix("/below", h))
		return mux
	},
	"chi": func(h http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Use(middleware.RequestID, middleware.Logger, middleware.Recoverer, middleware.Compress(5))
		r.Handle("/ws/*", h)
		r.Mount("/below", http.StripPrefix("/below", h))
		return r
	},
	"gin": func(h http.Handler) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		r := gin.New()
		r.Use(gin.Logger(), gin.Recovery())
		r.Any("/ws/*rest", gin.WrapH(h))
		r.Any("/below/*rest", gin.WrapH(http.StripPrefix("/below", h)))
		return r
	},
	"echo": func(h http.Handler) http.Handler {
		e := echo.New()
		// echo's Gzip holds every response's header back, that of an upgrade, too:
		// the client would wait for ever.
		gzip := echomiddleware.GzipWithConfig(echomiddleware.GzipConfig{
			Skipper: func(c echo.Context) bool { return c.IsWebSocket() },
		})
		e.Use(echomiddleware.RequestLogger(), echomiddleware.Recover(), gzip)
		e.Any("/ws/*", echo.WrapHandler(h))
		e.Any("/below/*", echo.WrapHandler(http.StripPrefix("/below", h)))
		return e
	},
}

func TestMounting(t *testing.T) {
	for name, mount := range hosts {
		t.Run(name, func(t *testing.T) {
			site := httptest.NewServer(mount(newRouter(t)))
			t.Cleanup(site.Close)
			for _, prefix := range []string{"", "/below"} {
				converse(t, site.URL+prefix)
				notFound(t, site.URL+prefix+"/ws/nowhere/")
			}
		})
	}
}

func newRouter(t *testing.T) *router.Router {
	t.Helper()
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := router.New(l, router.Table{"/ws/chat/{room}/": rooms}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Errorf("shut down the router: %v", err)
		}
		if err := l.Close(ctx); err != nil {
			t.Errorf("close the layer: %v", err)
		}
	})
	return r
}

// converse has two clients of one room hear each other.
func converse(t *testing.T, site string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	url := strings.Replace(site, "http:", "ws:", 1) + "/ws/chat/lobby/?q=1"
	alice, bob := dial(ctx, t, url), dial(ctx, t, url)
	defer alice.Close(websocket.StatusNormalClosure, "")
	defer bob.Close(websocket.StatusNormalClosure, "")
	if err := alice.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*websocket.Conn{alice, bob} {
		_, data, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Type string
			said
		}
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if want := (said{"lobby", "1", "hello"}); got.said != want || got.Type != "said" {
			t.Errorf("got %s, want %+v", data, want)
		}
	}
}

func dial(ctx context.Context, t *testing.T, url string) *websocket.Conn {
	t.Helper()
	c, response, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatalf("%s: %v (%+v)", url, err, response)
	}
	return c
}

func notFound(t *testing.T, url string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("%s: got status %d, want 404", url, response.StatusCode)
	}
}
