package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router/auth"
)

// process makes one more process of a network.
func process(t *testing.T, bus layer.Bus) *layer.Layer {
	t.Helper()
	l, err := layer.New(bus, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l
}

func newTickets(t *testing.T, l *layer.Layer, opts *Options) *Tickets {
	t.Helper()
	tickets, err := New(l, opts)
	if err != nil {
		t.Fatal(err)
	}
	return tickets
}

// nats starts a NATS server inside this process.
func nats(t *testing.T) layer.Bus {
	t.Helper()
	bus, err := natsbus.New(t.Context(), &natsbus.Options{Embedded: &natsbus.Embedded{StoreDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close(context.Background()) })
	return bus
}

func issue(t *testing.T, tickets *Tickets, u consumer.User) string {
	t.Helper()
	ticket, err := tickets.Issue(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func status(err error) int {
	var deny *consumer.DenyError
	if errors.As(err, &deny) {
		return deny.Status
	}
	return 0
}

func TestTicketWorksOnceAndOnAnyNode(t *testing.T) {
	bus := nats(t)
	issuer, redeemer := newTickets(t, process(t, bus), nil), newTickets(t, process(t, bus), nil)
	end := time.Now().Add(time.Hour).UTC()
	ticket := issue(t, issuer, consumer.User{ID: "ada", Session: "s1", Expires: end, Via: "0", Data: map[string]string{"role": "admin"}})

	r := httptest.NewRequest("GET", "/ws/?ticket="+ticket, nil)
	u, err := redeemer.Authenticate(r)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := u.Data.(json.RawMessage)
	if u.ID != "ada" || u.Session != "s1" || !u.Expires.Equal(end) || u.Via != "" || string(data) != `{"role":"admin"}` {
		t.Errorf("got %+v", u)
	}
	for _, tickets := range []*Tickets{issuer, redeemer} {
		if u, err := tickets.Authenticate(r); status(err) != http.StatusUnauthorized || !u.Anonymous() {
			t.Errorf("the second time: %+v, %v; want 401", u, err)
		}
	}
}

func TestOneOfFifty(t *testing.T) {
	bus := nats(t)
	nodes := []*Tickets{newTickets(t, process(t, bus), nil), newTickets(t, process(t, bus), nil)}
	for range 5 {
		ticket := issue(t, nodes[0], consumer.User{ID: "ada"})
		var mu sync.Mutex // guards in
		in := 0
		var all sync.WaitGroup
		start := make(chan struct{})
		for i := range 50 {
			all.Go(func() {
				<-start
				u, err := nodes[i%2].Redeem(t.Context(), ticket)
				switch {
				case err == nil && u.ID == "ada":
					mu.Lock()
					in++
					mu.Unlock()
				case status(err) != http.StatusUnauthorized:
					t.Errorf("got %+v, %v", u, err)
				}
			})
		}
		close(start)
		all.Wait()
		if in != 1 {
			t.Errorf("%d of 50 got in with one ticket", in)
		}
	}
}

func TestTicketEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := process(t, membus.New())
		tickets := newTickets(t, l, nil)
		long := issue(t, newTickets(t, l, &Options{TTL: time.Minute}), consumer.User{ID: "ada"})
		ticket, late := issue(t, tickets, consumer.User{ID: "ada"}), issue(t, tickets, consumer.User{ID: "ada"})
		time.Sleep(29 * time.Second)
		if _, err := tickets.Redeem(t.Context(), ticket); err != nil {
			t.Errorf("before its end: %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, err := tickets.Redeem(t.Context(), late); status(err) != http.StatusUnauthorized {
			t.Errorf("after its end: %v, want 401", err)
		}
		if _, err := tickets.Redeem(t.Context(), long); err != nil {
			t.Errorf("a ticket with more time: %v", err)
		}
	})
}

// Sites that share a network do not take each other's tickets.
func TestPurpose(t *testing.T) {
	l := process(t, membus.New())
	one, two := newTickets(t, l, &Options{Purpose: "one"}), newTickets(t, l, &Options{Purpose: "two"})
	ticket := issue(t, one, consumer.User{ID: "ada"})
	if _, err := two.Redeem(t.Context(), ticket); status(err) != http.StatusUnauthorized {
		t.Errorf("for another purpose: %v, want 401", err)
	}
	if _, err := one.Redeem(t.Context(), ticket); err != nil {
		t.Errorf("for its own: %v", err)
	}
}

func TestUserExpiredMeanwhile(t *testing.T) {
	tickets := newTickets(t, process(t, membus.New()), nil)
	ticket := issue(t, tickets, consumer.User{ID: "ada", Expires: time.Now().Add(-time.Second)})
	if _, err := tickets.Redeem(t.Context(), ticket); status(err) != http.StatusUnauthorized {
		t.Errorf("got %v, want 401", err)
	}
}

func TestStrangersTickets(t *testing.T) {
	tickets := newTickets(t, process(t, membus.New()), nil)
	good := issue(t, tickets, consumer.User{ID: "ada"})
	tests := []struct {
		query  string
		status int
	}{
		{"", 0},
		{"?other=1", 0},
		{"?ticket=", 401},
		{"?ticket=x", 401},
		{"?ticket=" + strings.Repeat("A", 26), 401},
		{"?ticket=" + strings.ToLower(good), 401},
		{"?ticket=" + good + "A", 401},
		{"?ticket=%3E", 401},
		{"?ticket=*", 401},
		{"?ticket=" + strings.Repeat(".", 26), 401},
		{"?ticket=" + strings.Repeat("A", 100_000), 401},
		{"?ticket=" + good + "&ticket=" + good, 400},
	}
	for _, tt := range tests {
		u, err := tickets.Authenticate(httptest.NewRequest("GET", "/ws/"+tt.query, nil))
		if status(err) != tt.status || !u.Anonymous() || err != nil && strings.Contains(err.Error(), good) {
			t.Errorf("%.60q: got %+v, %v; want status %d", tt.query, u, err, tt.status)
		}
	}
	if _, err := tickets.Redeem(t.Context(), good); err != nil {
		t.Errorf("the good one afterwards: %v", err)
	}
}

func TestIssueErrors(t *testing.T) {
	l := process(t, membus.New())
	tickets := newTickets(t, l, nil)
	if _, err := tickets.Issue(t.Context(), consumer.User{}); err == nil {
		t.Error("an anonymous user got a ticket")
	}
	if _, err := tickets.Issue(t.Context(), consumer.User{ID: "a", Data: make(chan int)}); err == nil || !strings.Contains(err.Error(), "chan int") {
		t.Errorf("Data that is no JSON: %v", err)
	}
	large := consumer.User{ID: "a", Data: strings.Repeat("x", 2<<20)}
	if _, err := tickets.Issue(t.Context(), large); !errors.Is(err, layer.ErrTooLarge) || errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("Data of 2 MiB: %v, want ErrTooLarge", err)
	}
	ticket := issue(t, tickets, consumer.User{ID: "ada"})
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := tickets.Issue(t.Context(), consumer.User{ID: "ada"}); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without a network: %v, want ErrUnavailable", err)
	}
	if _, err := tickets.Redeem(t.Context(), ticket); status(err) != http.StatusServiceUnavailable || !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without a network: %v, want 503", err)
	}
}

func TestNewErrors(t *testing.T) {
	l := process(t, membus.New())
	for want, opts := range map[string]*Options{
		"Options.TTL":            {TTL: time.Hour},
		"1.5s":                   {TTL: 1500 * time.Millisecond},
		"-1s":                    {TTL: -time.Second},
		"Options.TrustedOrigins": {TrustedOrigins: []string{"app.example.com"}},
	} {
		if _, err := New(l, opts); err == nil || !strings.HasPrefix(err.Error(), "ticket: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q in it", err, want)
		}
	}
	if _, err := New(nil, nil); err == nil {
		t.Error("a nil layer: no error")
	}
}

func TestRecheck(t *testing.T) {
	l := process(t, membus.New())
	plain := newTickets(t, l, nil)
	if _, err := plain.Recheck(t.Context(), consumer.User{ID: "ada"}); err != nil {
		t.Errorf("without an expiry: %v", err)
	}
	if _, err := plain.Recheck(t.Context(), consumer.User{ID: "ada", Expires: time.Now()}); consumer.CloseStatus(err) != consumer.StatusExpired {
		t.Errorf("expired: %v, want 4101", err)
	}
	asking := newTickets(t, l, &Options{Recheck: func(_ context.Context, u consumer.User) (consumer.User, error) {
		return consumer.User{}, &consumer.CloseError{Code: consumer.StatusForbidden}
	}})
	if _, err := asking.Recheck(t.Context(), consumer.User{ID: "ada"}); consumer.CloseStatus(err) != consumer.StatusForbidden {
		t.Errorf("got %v, want that of Options.Recheck", err)
	}
}

func TestHandler(t *testing.T) {
	tickets := newTickets(t, process(t, membus.New()), &Options{TrustedOrigins: []string{"https://app.example.com"}})
	users := auth.Func(func(r *http.Request) (consumer.User, error) {
		switch id := r.Header.Get("User"); id {
		case "banned":
			return consumer.User{}, &consumer.DenyError{Reason: "you are banned", Header: http.Header{"X-Why": {"spam"}}}
		case "broken":
			return consumer.User{}, errors.New("dial db:5432")
		case "odd":
			return consumer.User{ID: id, Data: make(chan int)}, nil
		default:
			return consumer.User{ID: id}, nil
		}
	})
	var failures []error
	site := httptest.NewServer(tickets.Handler(users, func(_ *http.Request, err error) { failures = append(failures, err) }))
	defer site.Close()

	tests := []struct {
		name, method string
		header       map[string]string
		want         int
		body         string
	}{
		{"good", "POST", map[string]string{"User": "ada"}, 200, `"expires_in":30`},
		{"own page", "POST", map[string]string{"User": "ada", "Sec-Fetch-Site": "same-origin"}, 200, `"ticket":"`},
		{"trusted page", "POST", map[string]string{"User": "ada", "Sec-Fetch-Site": "cross-site", "Origin": "https://app.example.com"}, 200, `"ticket":"`},
		{"foreign page", "POST", map[string]string{"User": "ada", "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}, 403, `"origin"`},
		{"foreign page, old browser", "POST", map[string]string{"User": "ada", "Origin": "https://evil.test"}, 403, `"origin"`},
		{"GET", "GET", map[string]string{"User": "ada"}, 405, `"method"`},
		{"anonymous", "POST", nil, 401, "log in first"},
		{"denied", "POST", map[string]string{"User": "banned"}, 403, "you are banned"},
		{"broken", "POST", map[string]string{"User": "broken"}, 500, `"internal"`},
		{"data that is no JSON", "POST", map[string]string{"User": "odd"}, 500, `"internal"`},
	}
	for _, tt := range tests {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, site.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range tt.header {
			r.Header.Set(k, v)
		}
		response, err := site.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != tt.want || !strings.Contains(string(body), tt.body) {
			t.Errorf("%s: got %d %s, %v; want %d %s", tt.name, response.StatusCode, body, err, tt.want, tt.body)
		}
		if response.Header.Get("Cache-Control") != "no-store" || strings.Contains(string(body), "db:5432") {
			t.Errorf("%s: header %v, body %s", tt.name, response.Header, body)
		}
		var got struct{ Ticket string }
		if err := json.Unmarshal(body, &got); err != nil {
			t.Errorf("%s: %v in %s", tt.name, err, body)
		} else if got.Ticket != "" {
			if u, err := tickets.Redeem(t.Context(), got.Ticket); err != nil || u.ID != "ada" {
				t.Errorf("%s: the ticket gave %+v, %v", tt.name, u, err)
			}
		}
	}
	if len(failures) != 6 {
		t.Errorf("%d failures were told, want 6: %v", len(failures), failures)
	}
}
