// Package board is a board of quotes: twenty symbols whose prices change fifty
// times a second, each. Its consumer shows consumer.Latest: a client that reads too
// slowly gets the newest price of each symbol, and is spared the others.
package board

import (
	"context"
	"crypto/rand"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
)

// Quote is what a symbol costs.
type Quote struct {
	Symbol string  `json:"symbol"`
	Price  float64 `json:"price"`
	N      int64   `json:"n"`  // the how manieth price of the symbol it is: what is skipped can be counted
	At     int64   `json:"at"` // when, in milliseconds since 1970
}

// MessageType implements layer.Payload.
func (Quote) MessageType() string { return "quotes.quote" }

// Symbols are invented.
var Symbols = []string{
	"ALGA", "BUOY", "CORL", "DRFT", "EBBS", "FLOD", "GULF", "HELM", "ISLE", "JETY",
	"KELP", "LOCH", "MOOR", "NEAP", "OARS", "PIER", "QUAY", "REEF", "SAIL", "TIDE",
}

// interval is the time between two prices of a symbol.
const interval = 20 * time.Millisecond

// page is a client. It needs no state.
type page struct{}

// Board is a market that is open while somebody watches. Each process has one of
// its own, with a group of its own.
type Board struct {
	layer *layer.Layer
	log   *slog.Logger
	group string

	mu       sync.Mutex // guards all below
	watchers int
	closed   bool
	stop     context.CancelFunc // of the trade that goes on; nil while nobody watches
	trading  sync.WaitGroup
	prices   []Quote
}

// New makes a board on a layer. The default of log is slog.Default().
func New(l *layer.Layer, log *slog.Logger) *Board {
	if log == nil {
		log = slog.Default()
	}
	b := &Board{layer: l, log: log, group: "quotes." + strings.ToLower(rand.Text())[:8]}
	for i, s := range Symbols {
		b.prices = append(b.prices, Quote{Symbol: s, Price: 40 + 15*float64(i)})
	}
	return b
}

// Routes are the routes of the board's sockets. Those below slow are for links
// that [SlowLinks] makes slow.
func (b *Board) Routes() router.Table {
	return router.Table{"/ws/quotes/{$}": b.consumer(), "/ws/quotes/slow/{$}": b.consumer()}
}

func (b *Board) consumer() consumer.Type[page] {
	return consumer.Type[page]{
		Groups: []string{b.group},
		Connect: func(*page, context.Context, *consumer.Conn) error {
			b.watch(1)
			return nil
		},
		Disconnect: func(*page, context.Context, *consumer.Conn, consumer.StatusCode) { b.watch(-1) },
		Messages: consumer.Table(
			consumer.Forward[page, Quote](),
			consumer.Overflow[page](b.group, consumer.Latest(func(q Quote) string { return q.Symbol })),
		),
	}
}

// watch counts who watches, and opens and closes the market.
func (b *Board) watch(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers += n
	switch {
	case b.watchers > 0 && b.stop == nil && !b.closed:
		ctx, cancel := context.WithCancel(context.Background())
		b.stop = cancel
		b.trading.Go(func() { b.trade(ctx) })
	case b.watchers == 0 && b.stop != nil:
		b.stop()
		b.stop = nil
	}
}

// Close closes the market for good.
func (b *Board) Close() {
	b.mu.Lock()
	b.closed = true
	if b.stop != nil {
		b.stop()
		b.stop = nil
	}
	b.mu.Unlock()
	b.trading.Wait()
}

// trade sends prices until ctx ends.
func (b *Board) trade(ctx context.Context) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		for _, q := range b.next() {
			if err := b.layer.GroupSend(ctx, b.group, q); err != nil && ctx.Err() == nil {
				b.log.Warn("quotes: a price was not sent", "err", err)
				break // the next one makes up for it
			}
		}
	}
}

// next makes the next price of each symbol: a walk at random that is drawn back
// to where it began.
func (b *Board) next() []Quote {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now().UnixMilli()
	for i := range b.prices {
		q, home := &b.prices[i], 40+15*float64(i)
		step := 0.0005*mathrand.NormFloat64() + 0.002*(home-q.Price)/home
		q.Price = math.Round(q.Price*(1+step)*100) / 100
		q.N, q.At = q.N+1, now
	}
	return append([]Quote(nil), b.prices...)
}
