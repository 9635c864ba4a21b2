package consumer_test

import (
	"fmt"

	"github.com/tideway-go/tideway/consumer"
)

// Quote is what a symbol costs.
type Quote struct {
	Symbol string  `json:"symbol"`
	Price  float64 `json:"price"`
}

// MessageType implements layer.Payload.
func (Quote) MessageType() string { return "quote" }

// page is a client of the quotes. It needs no state.
type page struct{}

// Of quotes a slow client gets the newest of each symbol.
var quotes = consumer.Type[page]{
	Groups: []string{"quotes"},
	Messages: consumer.Table(
		consumer.Forward[page, Quote](),
		consumer.Overflow[page]("quotes", consumer.Latest(func(q Quote) string { return q.Symbol })),
	),
}

func ExampleOverflow() {
	fmt.Println(quotes.Groups)
	// Output: [quotes]
}
