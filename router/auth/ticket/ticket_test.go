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
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
)

// broker starts a NATS server without a listener and connects to it.
func broker(t *testing.T) *nats.Conn {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func newTickets(t *testing.T, nc *nats.Conn, opts *Options) *Tickets {
	t.Helper()
	tickets, err := New(t.Context(), nc, opts)
	if err != nil {
		t.Fatal(err)
	}
	return tickets
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
	nc := broker(t)
	issuer, redeemer := newTickets(t, nc, nil), newTickets(t, nc, nil)
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
	nc := broker(t)
	tickets := newTickets(t, nc, nil)
	for range 5 {
		ticket := issue(t, tickets, consumer.User{ID: "ada"})
		var mu sync.Mutex // guards in
		in := 0
		var all sync.WaitGroup
		start := make(chan struct{})
		for range 50 {
			all.Go(func() {
				<-start
				u, err := tickets.Redeem(t.Context(), ticket)
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
	nc := broker(t)
	tickets := newTickets(t, nc, &Options{TTL: time.Second})
	kept := issue(t, newTickets(t, nc, nil), consumer.User{ID: "ada"})
	ticket := issue(t, tickets, consumer.User{ID: "ada"})
	watch, err := tickets.kv.Watch(t.Context(), key(ticket), jetstream.UpdatesOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	ended := time.After(10 * time.Second)
	for over := false; !over; {
		select {
		case update := <-watch.Updates():
			over = update != nil && update.Operation() == jetstream.KeyValuePurge
		case <-ended:
			t.Fatal("the ticket did not end")
		}
	}
	if _, err := tickets.Redeem(t.Context(), ticket); status(err) != http.StatusUnauthorized {
		t.Errorf("after its end: %v, want 401", err)
	}
	if _, err := tickets.Redeem(t.Context(), kept); err != nil {
		t.Errorf("a ticket with more time: %v", err)
	}
}

// The bucket does not fill with what is left of used tickets.
func TestRedeemedTicketLeavesNothing(t *testing.T) {
	tickets := newTickets(t, broker(t), &Options{TTL: time.Second})
	if _, err := tickets.Redeem(t.Context(), issue(t, tickets, consumer.User{ID: "ada"})); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		status, err := tickets.kv.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if status.Values() == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are left", status.Values())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestUserExpiredMeanwhile(t *testing.T) {
	tickets := newTickets(t, broker(t), nil)
	ticket := issue(t, tickets, consumer.User{ID: "ada", Expires: time.Now().Add(-time.Second)})
	if _, err := tickets.Redeem(t.Context(), ticket); status(err) != http.StatusUnauthorized {
		t.Errorf("got %v, want 401", err)
	}
}

func TestStrangersTickets(t *testing.T) {
	tickets := newTickets(t, broker(t), nil)
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

func TestBucketHoldsNoTicket(t *testing.T) {
	tickets := newTickets(t, broker(t), nil)
	ticket := issue(t, tickets, consumer.User{ID: "ada"})
	keys, err := tickets.kv.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		entry, err := tickets.kv.Get(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(k, ticket) || strings.Contains(string(entry.Value()), ticket) {
			t.Errorf("the ticket is in %s = %s", k, entry.Value())
		}
	}
}

func TestIssueErrors(t *testing.T) {
	nc := broker(t)
	tickets := newTickets(t, nc, nil)
	if _, err := tickets.Issue(t.Context(), consumer.User{}); err == nil {
		t.Error("an anonymous user got a ticket")
	}
	if _, err := tickets.Issue(t.Context(), consumer.User{ID: "a", Data: make(chan int)}); err == nil || !strings.Contains(err.Error(), "chan int") {
		t.Errorf("Data that is no JSON: %v", err)
	}
	ticket := issue(t, tickets, consumer.User{ID: "ada"})
	nc.Close()
	if _, err := tickets.Issue(t.Context(), consumer.User{ID: "ada"}); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without a broker: %v, want ErrUnavailable", err)
	}
	if _, err := tickets.Redeem(t.Context(), ticket); status(err) != http.StatusServiceUnavailable || !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without a broker: %v, want 503", err)
	}
}

func TestNewErrors(t *testing.T) {
	nc := broker(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "plain"}); err != nil {
		t.Fatal(err)
	}
	for want, opts := range map[string]*Options{
		"Options.TTL":            {TTL: time.Hour},
		"1.5s":                   {TTL: 1500 * time.Millisecond},
		"-1s":                    {TTL: -time.Second},
		"LimitMarkerTTL":         {Bucket: "plain"},
		`bucket "a b"`:           {Bucket: "a b"},
		"Options.TrustedOrigins": {TrustedOrigins: []string{"app.example.com"}},
	} {
		if _, err := New(t.Context(), nc, opts); err == nil || !strings.HasPrefix(err.Error(), "ticket: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q in it", err, want)
		}
	}
	if _, err := New(t.Context(), nil, nil); err == nil {
		t.Error("a nil connection: no error")
	}
}

func TestRecheck(t *testing.T) {
	nc := broker(t)
	plain := newTickets(t, nc, nil)
	if _, err := plain.Recheck(t.Context(), consumer.User{ID: "ada"}); err != nil {
		t.Errorf("without an expiry: %v", err)
	}
	if _, err := plain.Recheck(t.Context(), consumer.User{ID: "ada", Expires: time.Now()}); consumer.CloseStatus(err) != consumer.StatusExpired {
		t.Errorf("expired: %v, want 4101", err)
	}
	asking := newTickets(t, nc, &Options{Recheck: func(_ context.Context, u consumer.User) (consumer.User, error) {
		return consumer.User{}, &consumer.CloseError{Code: consumer.StatusForbidden}
	}})
	if _, err := asking.Recheck(t.Context(), consumer.User{ID: "ada"}); consumer.CloseStatus(err) != consumer.StatusForbidden {
		t.Errorf("got %v, want that of Options.Recheck", err)
	}
}

func TestHandler(t *testing.T) {
	tickets := newTickets(t, broker(t), &Options{TrustedOrigins: []string{"https://app.example.com"}})
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
