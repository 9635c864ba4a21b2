package router_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// price is what a symbol costs. N counts the messages of all symbols.
type price struct {
	Symbol string `json:"symbol"`
	N      int    `json:"n"`
	Pad    string `json:"pad,omitempty"`
}

func (price) MessageType() string { return "price" }

// bySymbol is all that is Latest here.
func bySymbol() consumer.Policy { return consumer.Latest(func(p price) string { return p.Symbol }) }

const slowPatience = 2 * time.Minute

// market is a server whose clients get prices, in the groups p.ordinary and
// d.durable.
type market struct {
	*router.Router
	layer  *layer.Layer
	server *httptest.Server
}

func openMarket(t *testing.T, group string, lines ...consumer.Handler[struct{}]) *market {
	t.Helper()
	l, err := layer.New(membus.New(), &layer.Options{Groups: []layer.Retention{{Pattern: "d.>", Messages: 10_000}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	lines = append(lines, consumer.Forward[struct{}, price]())
	r, err := router.New(l, router.Table{"/": consumer.Type[struct{}]{
		Messages: consumer.Table(lines...),
		Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
			return c.GroupAdd(ctx, group)
		},
	}}, &router.Options{Limits: router.Limits{QueueBytes: 64 << 10, WriteTimeout: 10 * time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	m := &market{r, l, httptest.NewServer(r)}
	t.Cleanup(func() {
		r.Shutdown(context.Background())
		m.server.Close()
	})
	return m
}

// send sends prices from and up to two numbers, of three symbols in turn.
func (m *market) send(t *testing.T, group string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := m.layer.GroupSend(t.Context(), group, price{fmt.Sprint("S", n%3), n, strings.Repeat("x", 1000)}); err != nil {
			t.Fatal(err)
		}
	}
}

// slowClient reads when it is told to, and its kernel keeps little for it.
type slowClient struct {
	*websocket.Conn
	t    *testing.T
	come chan arrival // what was read, one at a time
}

type arrival struct {
	price price
	err   error
}

func (m *market) dial(t *testing.T, protocols ...string) *slowClient {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		return c, err
	}}
	ws, _, err := websocket.Dial(t.Context(), strings.Replace(m.server.URL, "http", "ws", 1),
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, Subprotocols: protocols})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	c := &slowClient{ws, t, make(chan arrival)}
	if len(protocols) > 0 {
		c.joined()
	}
	go func() {
		for err := error(nil); err == nil; {
			var p price
			p, err = c.read()
			select {
			case c.come <- arrival{p, err}:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return c
}

// next waits for the next price.
func (c *slowClient) next() (price, error) {
	select {
	case got := <-c.come:
		return got.price, got.err
	case <-time.After(slowPatience):
		return price{}, context.DeadlineExceeded
	}
}

// joined reads until the group was joined.
func (c *slowClient) joined() {
	for joined := false; !joined; {
		_, data, err := c.Read(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		joined = strings.HasPrefix(string(data), `{"joined"`)
	}
}

// frame is what a client may get, plain or with tideway.v1.
type frame struct {
	price
	Data *price                   `json:"data"`
	Gap  *struct{ Reason string } `json:"gap"`
}

// read returns the next price, without a number for a gap.
func (c *slowClient) read() (price, error) {
	_, data, err := c.Read(c.t.Context())
	if err != nil {
		return price{}, err
	}
	var f frame
	if err := json.Unmarshal(data, &f); err != nil {
		return price{}, fmt.Errorf("%.80s: %w", data, err)
	}
	switch {
	case f.Gap != nil && f.Gap.Reason != "slow":
		c.t.Errorf("a gap for the reason %q", f.Gap.Reason)
		return price{}, nil
	case f.Gap != nil:
		return price{}, nil
	case f.Data != nil:
		return *f.Data, nil
	}
	return f.price, nil
}

// until reads until the last prices, as many as are given, and returns all that
// came.
func (c *slowClient) until(last, many int) (all []price) {
	c.t.Helper()
	for left := many; left > 0; {
		p, err := c.next()
		if err != nil {
			c.t.Fatalf("after %d prices: %v", len(all), err)
		}
		if all = append(all, p); p.N > last-many {
			left--
		}
	}
	return all
}

// drain reads until done, of which it asks how many prices came, and returns what
// came.
func (c *slowClient) drain(done func(prices int) bool) (all []price) {
	c.t.Helper()
	deadline := time.After(slowPatience)
	for prices := 0; !done(prices); {
		select {
		case got := <-c.come:
			if got.err != nil {
				c.t.Fatalf("after %d prices: %v", prices, got.err)
			}
			if all = append(all, got.price); got.price.N > 0 {
				prices++
			}
		case <-time.After(5 * time.Millisecond): // what was left out is counted in its own time
		case <-deadline:
			c.t.Fatalf("after %d prices nothing more came", prices)
		}
	}
	return all
}

// Each policy with each kind of group and client: a client that does not read for
// a while, and what it gets then.
func TestOverflow(t *testing.T) {
	const n = 1500
	for _, test := range []struct {
		name, group string
		policy      consumer.Policy
		protocol    string
		whole       bool // it gets everything
		gaps        bool // it is told what it does not get
	}{
		{"drop", "p.ordinary", consumer.Drop(), "", false, false},
		{"drop to tideway.v1", "p.ordinary", consumer.Drop(), consumer.Protocol, false, false},
		{"drop in a durable group", "d.durable", consumer.Drop(), "", true, false},
		{"gap", "p.ordinary", consumer.Gap(), "", false, false},
		{"gap to tideway.v1", "p.ordinary", consumer.Gap(), consumer.Protocol, false, true},
		{"gap in a durable group", "d.durable", consumer.Gap(), "", true, false},
		{"gap in a durable group to tideway.v1", "d.durable", consumer.Gap(), consumer.Protocol, true, false},
		{"latest", "p.ordinary", bySymbol(), "", false, false},
		{"latest to tideway.v1", "p.ordinary", bySymbol(), consumer.Protocol, false, false},
		{"latest in a durable group", "d.durable", bySymbol(), consumer.Protocol, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := openMarket(t, test.group, consumer.Overflow[struct{}](test.group, test.policy))
			slow := m.dial(t, slices.DeleteFunc([]string{test.protocol}, func(s string) bool { return s == "" })...)
			good := m.dial(t)
			sent := 0
			send := func(many int) {
				m.send(t, test.group, sent+1, sent+many)
				for i := range many {
					if p, err := good.next(); err != nil || p.N != sent+1+i {
						t.Fatalf("the good client got %d, %v; want %d", p.N, err, sent+1+i)
					}
				}
				sent += many
			}
			send(1)
			got := slow.until(1, 1) // from now on messages are forwarded
			for sent < n {
				send(10)
			}
			latest := strings.HasPrefix(test.name, "latest")
			switch {
			case test.whole:
				got = append(got, slow.until(sent, 1)...)
			case latest:
				got = append(got, slow.until(sent, 3)...)
			default: // the end may be missing; once all is read, messages flow again
				got = append(got, slow.drain(func(prices int) bool { return 1+prices+int(m.Stats().Dropped) == sent })...)
				send(1)
				got = append(got, slow.until(sent, 1)...)
			}
			checkPrices(t, got, sent, test.whole, test.gaps, latest)
			s, prices := m.Stats(), slices.DeleteFunc(slices.Clone(got), func(p price) bool { return p.N == 0 })
			lost := int64(sent - len(prices))
			if latest && s.Replaced != lost || !latest && s.Dropped != lost {
				t.Errorf("%d of %d prices came; %d were dropped, %d replaced", len(prices), sent, s.Dropped, s.Replaced)
			}
			if test.whole != (lost == 0) {
				t.Errorf("%d prices did not come", lost)
			}
		})
	}
}

// checkPrices checks what a client got; in it, a gap is a price without a number.
func checkPrices(t *testing.T, got []price, sent int, whole, gaps, latest bool) {
	t.Helper()
	last, told, bySymbol := 0, false, map[string]int{}
	for _, p := range got {
		switch {
		case p.N == 0 && (told || !gaps):
			t.Fatalf("a gap too much behind %d", last)
		case p.N == 0:
			told = true
			continue
		case p.N <= bySymbol[p.Symbol], p.N <= last && !latest:
			t.Fatalf("%v came after %d", p.N, max(last, bySymbol[p.Symbol]))
		case (whole || gaps && !told) && p.N != last+1:
			t.Fatalf("%d came after %d, and nothing in between", p.N, last)
		case told && p.N == last+1:
			t.Fatalf("a gap was told behind %d, and there was none", last)
		}
		last, told = p.N, false
		bySymbol[p.Symbol] = p.N
	}
	if latest {
		for i := range 3 {
			if n := sent - i; bySymbol[fmt.Sprint("S", n%3)] != n {
				t.Errorf("the last price of S%d is %d, want %d", n%3, bySymbol[fmt.Sprint("S", n%3)], n)
			}
		}
	}
}

// Without a line for the group, and with one that says so, the client is closed.
func TestOverflowCloses(t *testing.T) {
	for name, lines := range map[string][]consumer.Handler[struct{}]{
		"nothing said":  nil,
		"another group": {consumer.Overflow[struct{}]("p.other", consumer.Drop())},
		"said":          {consumer.Overflow[struct{}](">", consumer.Drop()), consumer.Overflow[struct{}]("p.>", consumer.CloseSlow())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := openMarket(t, "p.ordinary", lines...)
			slow := m.dial(t)
			good := m.dial(t)
			m.send(t, "p.ordinary", 1, 1)
			slow.until(1, 1) // from now on messages are forwarded
			good.until(1, 1)
			for n := 2; n < 1500; n += 10 {
				m.send(t, "p.ordinary", n, n+9)
				good.until(n+9, 1)
			}
			for {
				if _, err := slow.next(); err != nil {
					if websocket.CloseStatus(err) != 4108 {
						t.Errorf("closed with %v, want 4108", err)
					}
					break
				}
			}
			if s := m.Stats(); s.Dropped != 0 || s.Replaced != 0 {
				t.Errorf("%d dropped, %d replaced, want none", s.Dropped, s.Replaced)
			}
		})
	}
}
