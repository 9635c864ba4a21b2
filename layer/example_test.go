package layer_test

import (
	"context"
	"fmt"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// Said is a message: its type is said here and nowhere else.
type Said struct {
	User string `json:"user"`
	Text string `json:"text"`
}

// MessageType returns the type of the message.
func (Said) MessageType() string { return "chat.said" }

func Example() {
	ctx := context.Background()
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		panic(err)
	}
	defer l.Close(ctx)

	ch, err := l.NewChannel(ctx)
	if err != nil {
		panic(err)
	}
	if err := l.Send(ctx, ch.Name(), Said{"ann", "hello"}); err != nil {
		panic(err)
	}
	m, err := ch.Receive(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Type)
	fmt.Printf("%s\n", m.Data)
	// Output:
	// chat.said
	// {"type":"chat.said","user":"ann","text":"hello"}
}

// Two processes on one network, each with a member of the group.
func ExampleLayer_GroupSend() {
	ctx := context.Background()
	bus := membus.New()
	here, _ := layer.New(bus, nil)
	there, _ := layer.New(bus, nil)
	defer here.Close(ctx)
	defer there.Close(ctx)

	ann, _ := here.NewChannel(ctx)
	bob, _ := there.NewChannel(ctx)
	here.GroupAdd(ctx, "chat.lobby", ann.Name())
	there.GroupAdd(ctx, "chat.lobby", bob.Name())

	if err := here.GroupSend(ctx, "chat.lobby", Said{"ann", "anybody here?"}); err != nil {
		panic(err)
	}
	for _, ch := range []*layer.Channel{ann, bob} {
		m, err := ch.Receive(ctx)
		if err != nil {
			panic(err)
		}
		var said Said
		if err := m.Decode(&said); err != nil {
			panic(err)
		}
		fmt.Println(m.Group, said.Text)
	}
	// Output:
	// chat.lobby anybody here?
	// chat.lobby anybody here?
}

// A shared channel keeps its messages until somebody reads them; each goes to
// one of its readers.
func ExampleLayer_Listen() {
	ctx := context.Background()
	l, _ := layer.New(membus.New(), nil)
	defer l.Close(ctx)

	for _, text := range []string{"first", "second"} {
		if err := l.Send(ctx, "thumbnails", Said{"shop", text}); err != nil {
			panic(err) // layer.ErrChannelFull: send again later
		}
	}
	worker, err := l.Listen(ctx, "thumbnails")
	if err != nil {
		panic(err)
	}
	for range 2 {
		m, err := worker.Receive(ctx)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s\n", m.Data)
	}
	// Output:
	// {"type":"chat.said","user":"shop","text":"first"}
	// {"type":"chat.said","user":"shop","text":"second"}
}

// All receives until the channel is closed.
func ExampleChannel_All() {
	ctx := context.Background()
	l, _ := layer.New(membus.New(), nil)
	defer l.Close(ctx)
	ch, _ := l.NewChannel(ctx)
	for _, text := range []string{"one", "two", "bye"} {
		l.Send(ctx, ch.Name(), Said{"ann", text})
	}
	for m, err := range ch.All(ctx) {
		if err != nil {
			panic(err)
		}
		var said Said
		if err := m.Decode(&said); err != nil {
			panic(err)
		}
		fmt.Println(said.Text)
		if said.Text == "bye" {
			ch.Close()
		}
	}
	// Output:
	// one
	// two
	// bye
}
