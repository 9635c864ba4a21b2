package layer_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// Line is a line of a job's log.
type Line struct {
	Text string `json:"text"`
}

// MessageType returns the type of the message.
func (Line) MessageType() string { return "job.line" }

// durable makes a layer that keeps what is sent to groups like job.42.
func durable(bus layer.Bus) (*layer.Layer, error) {
	return layer.New(bus, &layer.Options{
		Groups: []layer.Retention{
			{Pattern: "job.>", Messages: 10_000, Age: 7 * 24 * time.Hour},
		},
	})
}

// A message to a durable group is stored, and can be read back.
func ExampleLayer_Publish() {
	ctx := context.Background()
	l, err := durable(membus.New())
	if err != nil {
		panic(err)
	}
	defer l.Close(ctx)

	receipt, err := l.Publish(ctx, "job.42", Line{"server 7 is updated"}, &layer.PublishOptions{ID: "server-7"})
	if errors.Is(err, layer.ErrUnknown) {
		// Stored or not: publish it again, with the same ID.
		receipt, err = l.Publish(ctx, "job.42", Line{"server 7 is updated"}, &layer.PublishOptions{ID: "server-7"})
	}
	if err != nil {
		panic(err)
	}
	again, err := l.Publish(ctx, "job.42", Line{"server 7 is updated"}, &layer.PublishOptions{ID: "server-7"})
	if err != nil {
		panic(err)
	}
	fmt.Println(again.Duplicate, again.Position == receipt.Position)
	// Output: true true
}

// A page is rendered with what there is, and goes on from there.
func ExampleLayer_History() {
	ctx := context.Background()
	l, err := durable(membus.New())
	if err != nil {
		panic(err)
	}
	defer l.Close(ctx)
	for i := range 3 {
		l.GroupSend(ctx, "job.42", Line{fmt.Sprintf("server %d is updated", i)})
	}

	var from layer.Position // the zero Position: from the oldest that is kept
	for m, err := range l.History(ctx, "job.42", from, 0) {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s\n", m.Data)
		from = m.Position
	}

	l.GroupSend(ctx, "job.42", Line{"all servers are updated"})
	for m, err := range l.History(ctx, "job.42", from, 100) {
		var gap *layer.GapError
		if errors.As(err, &gap) {
			fmt.Println("fetch the state anew:", gap.Reason)
			break
		}
		if err != nil {
			panic(err)
		}
		fmt.Printf("later: %s\n", m.Data)
	}
	// Output:
	// {"type":"job.line","text":"server 0 is updated"}
	// {"type":"job.line","text":"server 1 is updated"}
	// {"type":"job.line","text":"server 2 is updated"}
	// later: {"type":"job.line","text":"all servers are updated"}
}

// A condition lets one of many writers go on.
func ExamplePublishOptions_after() {
	ctx := context.Background()
	l, err := durable(membus.New())
	if err != nil {
		panic(err)
	}
	defer l.Close(ctx)

	at, err := l.Position(ctx, "job.42")
	if err != nil {
		panic(err)
	}
	l.GroupSend(ctx, "job.42", Line{"server 7 is updated"}) // by another process

	_, err = l.Publish(ctx, "job.42", Line{"server 8 is updated"}, &layer.PublishOptions{After: &at})
	var lost *layer.ConflictError
	if errors.As(err, &lost) {
		fmt.Println("somebody else wrote first")
	}
	// Output: somebody else wrote first
}

// A page whose state comes from a database needs the place alone, taken before
// the state is read.
func ExampleLayer_Position() {
	ctx := context.Background()
	l, err := durable(membus.New())
	if err != nil {
		panic(err)
	}
	defer l.Close(ctx)

	at, err := l.Position(ctx, "job.42")
	if err != nil {
		panic(err)
	}
	page := at.String() // goes into the page, and comes back with a request

	l.GroupSend(ctx, "job.42", Line{"while the page was on its way"})

	from, err := layer.ParsePosition(page)
	if err != nil {
		panic(err)
	}
	for m, err := range l.History(ctx, "job.42", from, 0) {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s\n", m.Data)
	}
	// Output: {"type":"job.line","text":"while the page was on its way"}
}
