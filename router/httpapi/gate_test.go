package httpapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router/httpapi"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

const (
	adminSecret = "admin-secret-0123456789"
	chatSecret  = "chat-secret-0123456789"
	shopSecret  = "shop-secret-0123456789"
)

var testKeys = []httpapi.Key{
	{Name: "admin", Secret: adminSecret, Scopes: []string{"*"}},
	{Name: "chat", Secret: chatSecret, Scopes: []string{"groups.write:chat.>", "groups.read:chat.lobby"}},
	{Name: "shop", SHA256: hashOf(shopSecret), Scopes: []string{"channels.send"}},
}

func hashOf(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// newAPI makes an API on a network of its own.
func newAPI(t *testing.T, opts *httpapi.Options, groups ...layer.Retention) (*httpapi.API, *layer.Layer) {
	t.Helper()
	return newAPIOn(t, membus.New(), opts, groups...)
}

func newAPIOn(t *testing.T, bus layer.Bus, opts *httpapi.Options, groups ...layer.Retention) (*httpapi.API, *layer.Layer) {
	t.Helper()
	l, err := layer.New(bus, &layer.Options{Groups: groups, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	var o httpapi.Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = quiet
	}
	a, err := httpapi.New(l, &o)
	if err != nil {
		t.Fatal(err)
	}
	return a, l
}

// request makes a request; headers are "Name: value".
func request(method, target, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	return r
}

// do returns the answer of a httpapi.
func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// codeOf returns the code of the error in an answer, "" for none.
func codeOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	if w.Code < 400 {
		return ""
	}
	var e struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error.Code == "" || e.Error.Message == "" {
		t.Errorf("status %d with the body %q, which is no error of ours (%v)", w.Code, w.Body, err)
	}
	return e.Error.Code
}

// ping adds a route that needs the scope groups.write for a name.
func ping(a *httpapi.API) {
	a.Handle("GET /api/v1/ping/{name}", func(w http.ResponseWriter, r *http.Request, c *httpapi.Caller) error {
		if err := c.May(httpapi.WriteGroups, r.PathValue("name")); err != nil {
			return err
		}
		httpapi.WriteJSON(w, http.StatusOK, c.Name())
		return nil
	})
}

func TestCredentials(t *testing.T) {
	a, _ := newAPI(t, &httpapi.Options{Keys: testKeys})
	ping(a)
	for _, c := range []struct {
		name   string
		path   string
		header []string
		status int
		code   string
	}{
		{"bearer", "/api/v1/ping/chat.lobby", []string{"Authorization: Bearer " + chatSecret}, 200, ""},
		{"another case", "/api/v1/ping/chat.lobby", []string{"Authorization: bearer " + chatSecret}, 200, ""},
		{"X-API-Key", "/api/v1/ping/chat.lobby", []string{"X-API-Key: " + chatSecret}, 200, ""},
		{"all scopes", "/api/v1/ping/other", []string{"X-API-Key: " + adminSecret}, 200, ""},
		{"outside its pattern", "/api/v1/ping/chat", []string{"X-API-Key: " + chatSecret}, 403, "forbidden"},
		{"another action's scope", "/api/v1/ping/chat.lobby", []string{"X-API-Key: " + shopSecret}, 403, "forbidden"},
		{"none", "/api/v1/ping/chat.lobby", nil, 401, "unauthorized"},
		{"wrong", "/api/v1/ping/chat.lobby", []string{"X-API-Key: " + chatSecret + "x"}, 401, "unauthorized"},
		{"empty", "/api/v1/ping/chat.lobby", []string{"X-API-Key: "}, 401, "unauthorized"},
		{"a hash is no key", "/api/v1/ping/chat.lobby", []string{"X-API-Key: " + hashOf(shopSecret)}, 401, "unauthorized"},
		{"too long", "/api/v1/ping/chat.lobby", []string{"X-API-Key: " + strings.Repeat("x", 5000)}, 401, "unauthorized"},
		{"basic", "/api/v1/ping/chat.lobby", []string{"Authorization: Basic " + chatSecret}, 401, "unauthorized"},
		{"two", "/api/v1/ping/chat.lobby", []string{"X-API-Key: " + chatSecret, "Authorization: Bearer " + chatSecret}, 400, "credentials"},
		{"a cookie is none", "/api/v1/ping/chat.lobby", []string{"Cookie: key=" + chatSecret}, 401, "unauthorized"},
		{"no such path", "/api/v1/pong", nil, 404, "not_found"},
		{"no such method", "/api/v1/ping/chat.lobby", []string{"Method: DELETE"}, 405, "method"},
	} {
		t.Run(c.name, func(t *testing.T) {
			method := "GET"
			if len(c.header) > 0 && strings.HasPrefix(c.header[0], "Method: ") {
				method = "DELETE"
			}
			w := do(a, request(method, c.path, "", c.header...))
			if got := codeOf(t, w); w.Code != c.status || got != c.code {
				t.Errorf("got %d %q, want %d %q: %s", w.Code, got, c.status, c.code, w.Body)
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("the answer repeats a secret: %s", w.Body)
			}
			if got := w.Header().Get("WWW-Authenticate"); (got != "") != (w.Code == 401) {
				t.Errorf("WWW-Authenticate is %q with status %d", got, w.Code)
			}
		})
	}
}

func TestNoKeysRefuseEverybody(t *testing.T) {
	a, _ := newAPI(t, nil)
	ping(a)
	for _, headers := range [][]string{nil, {"X-API-Key: "}, {"X-API-Key: x"}} {
		if w := do(a, request("GET", "/api/v1/ping/a", "", headers...)); w.Code != 401 {
			t.Errorf("%v: got %d, want 401", headers, w.Code)
		}
	}
}

func TestOpenIsForThisMachine(t *testing.T) {
	a, _ := newAPI(t, &httpapi.Options{Open: true})
	ping(a)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8000": 200, "127.0.0.1:8000": 200, "[::1]:8000": 200, "127.8.8.8": 200,
		"evil.example": 421, "127.0.0.1.evil.example:8000": 421, "": 421, "10.0.0.7": 421,
	} {
		if w := do(a, request("GET", "/api/v1/ping/a", "", "Host: "+host)); w.Code != want {
			t.Errorf("host %q: got %d, want %d", host, w.Code, want)
		}
	}
	if w := do(a, request("GET", "/api/v1/ping/a", "", "Host: localhost", "X-API-Key: wrong")); w.Code != 401 {
		t.Errorf("a wrong key: got %d, want 401", w.Code)
	}
}

// A browser names the page that it works for. What a foreign page can make it send
// is refused, with a key and without.
func TestForeignPages(t *testing.T) {
	a, _ := newAPI(t, &httpapi.Options{Keys: testKeys, Origins: []string{"https://app.example"}})
	ping(a)
	for _, c := range []struct {
		name    string
		headers []string
		status  int
		cors    string
	}{
		{"a program", nil, 200, ""},
		{"the own page, reading", []string{"Sec-Fetch-Site: same-origin"}, 200, ""},
		{"the own page, writing", []string{"Origin: https://api.example", "Sec-Fetch-Site: same-origin"}, 200, ""},
		{"the own page in an old browser", []string{"Origin: https://api.example"}, 200, ""},
		{"typed into the address bar", []string{"Sec-Fetch-Site: none"}, 200, ""},
		{"a listed page", []string{"Origin: https://app.example", "Sec-Fetch-Site: cross-site"}, 200, "https://app.example"},
		{"another scheme of a listed page", []string{"Origin: http://app.example"}, 403, ""},
		{"a stranger", []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}, 403, ""},
		{"a stranger in an old browser", []string{"Origin: https://evil.example"}, 403, ""},
		{"an image on a stranger's page", []string{"Sec-Fetch-Site: cross-site"}, 403, ""},
		{"a sister domain", []string{"Sec-Fetch-Site: same-site"}, 403, ""},
		{"a sandbox", []string{"Origin: null"}, 403, ""},
		{"another port", []string{"Origin: https://api.example:8443", "Sec-Fetch-Site: same-site"}, 403, ""},
		{"two origins", []string{"Origin: https://app.example", "Origin: https://app.example"}, 403, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := do(a, request("GET", "/api/v1/ping/a", "", append(c.headers, "Host: api.example", "X-API-Key: "+adminSecret)...))
			codeOf(t, w)
			if got := w.Header().Get("Access-Control-Allow-Origin"); w.Code != c.status || got != c.cors {
				t.Errorf("got %d with Access-Control-Allow-Origin %q, want %d with %q: %s", w.Code, got, c.status, c.cors, w.Body)
			}
			if w.Header().Get("Access-Control-Allow-Credentials") != "" {
				t.Error("credentials of a browser are allowed")
			}
		})
	}
}

func TestPreflight(t *testing.T) {
	a, _ := newAPI(t, &httpapi.Options{Keys: testKeys, Origins: []string{"https://app.example"}})
	ask := []string{"Host: api.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type"}
	w := do(a, request("OPTIONS", "/api/v1/groups/a/messages", "", append(ask, "Origin: https://app.example")...))
	if got := w.Header().Get("Access-Control-Allow-Headers"); w.Code != 204 || !strings.Contains(got, "Authorization") {
		t.Errorf("a listed page: got %d, allowed headers %q", w.Code, got)
	}
	w = do(a, request("OPTIONS", "/api/v1/groups/a/messages", "", append(ask, "Origin: https://evil.example")...))
	if w.Code != 403 || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a stranger: got %d, %v", w.Code, w.Header())
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, l := newAPI(t, &httpapi.Options{Keys: testKeys, Rate: 2, Burst: 3})
		defer l.Close(context.Background())
		ping(a)
		count := func(secret string, n int) (served int) {
			for range n {
				w := do(a, request("GET", "/api/v1/ping/chat.lobby", "", "X-API-Key: "+secret))
				if w.Code == 200 {
					served++
				} else if codeOf(t, w) != "rate_limited" || w.Header().Get("Retry-After") != "1" {
					t.Errorf("got %d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
				}
			}
			return served
		}
		if got := count(chatSecret, 10); got != 3 {
			t.Errorf("at once: served %d, want 3", got)
		}
		if got := count(adminSecret, 2); got != 2 {
			t.Errorf("another key: served %d, want 2", got)
		}
		time.Sleep(time.Second)
		if got := count(chatSecret, 10); got != 2 {
			t.Errorf("a second later: served %d, want 2", got)
		}
	})
}

func TestBadOptions(t *testing.T) {
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	key := func(k httpapi.Key) httpapi.Options { return httpapi.Options{Keys: []httpapi.Key{k}} }
	for want, o := range map[string]httpapi.Options{
		"want one that no other key has": key(httpapi.Key{Secret: adminSecret}),
		"either a Secret or a SHA256":    key(httpapi.Key{Name: "a"}),
		"want at least 16":               key(httpapi.Key{Name: "a", Secret: "short"}),
		"64 hexadecimal digits":          key(httpapi.Key{Name: "a", SHA256: "beef"}),
		`the scope "groups.reed"`:        key(httpapi.Key{Name: "a", Secret: adminSecret, Scopes: []string{"groups.reed"}}),
		`stands alone or behind`:         key(httpapi.Key{Name: "a", Secret: adminSecret, Scopes: []string{"groups.read:chat>"}}),
		`it is empty`:                    key(httpapi.Key{Name: "a", Secret: adminSecret, Scopes: []string{"groups.read:"}}),
		"a secret that another key has":  {Keys: []httpapi.Key{{Name: "a", Secret: adminSecret}, {Name: "b", SHA256: hashOf(adminSecret)}}},
		"write what browsers send":       {Origins: []string{"https://app.example/"}},
		"Options.Burst is -1":            {Burst: -1},
	} {
		_, err := httpapi.New(l, &o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
			continue
		}
		if strings.Contains(err.Error(), adminSecret) {
			t.Errorf("the error has a secret: %v", err)
		}
	}
}
