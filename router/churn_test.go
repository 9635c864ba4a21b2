package router_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
)

// numbered is one of a series of messages.
type numbered struct {
	N int `json:"n"`
}

func (numbered) MessageType() string { return "numbered" }

// A thousand clients come, join and leave, in all the ways there are, while
// messages flow: members that stay miss none and get none twice.
func TestChurn(t *testing.T) {
	const (
		stayers, workers, rounds = 10, 50, 20
		interval                 = 500 * time.Microsecond
	)
	synctest.Test(t, func(t *testing.T) {
		table := router.Table{"/{room}/": consumer.Type[room]{
			Groups:   []string{"busy"},
			Connect:  chat.Connect,
			Receive:  func(*room, context.Context, *consumer.Conn, consumer.Frame) error { panic("as told") },
			Messages: consumer.Table(consumer.Forward[room, numbered]()),
		}}
		opts := &router.Options{MaxPerAddress: -1}
		nodes := []*site{open(t, table, opts), nil}
		nodes[1] = join(t, nodes[0].bus, table, opts)

		var staying []*consumertest.Client
		for i := range stayers {
			staying = append(staying, consumertest.Dial(t, nodes[i%2], "/x/", nil))
		}
		stop := make(chan struct{})
		sent := make(chan int)
		go publish(t, nodes[0].layer, interval, stop, sent)
		got := make(chan int, stayers)
		for _, c := range staying {
			go func() { got <- series(t, c) }()
		}
		var churning sync.WaitGroup
		for w := range workers {
			churning.Go(func() {
				for i := range rounds {
					comeAndGo(t, nodes[(w+i)%2], w+i)
				}
			})
		}
		churning.Wait()
		close(stop)
		total := <-sent
		if total < 100 {
			t.Errorf("%d messages were sent, want a flow", total)
		}
		for range stayers {
			if n := <-got; n != total {
				t.Errorf("a member that stayed got %d messages, want %d", n, total)
			}
		}
		time.Sleep(time.Minute)
		open := nodes[0].Stats().Open + nodes[1].Stats().Open
		channels := nodes[0].layer.Stats().Channels + nodes[1].layer.Stats().Channels
		if open != stayers || channels != stayers {
			t.Errorf("%d connections and %d channels, want %d of each", open, channels, stayers)
		}
	})
}

// publish sends numbered messages until it is stopped, and tells how many. The
// last one has the number -1.
func publish(t *testing.T, l *layer.Layer, every time.Duration, stop <-chan struct{}, sent chan<- int) {
	send := func(n int) {
		if err := l.GroupSend(context.Background(), "busy", numbered{n}); err != nil {
			t.Error(err)
		}
	}
	for n := 0; ; n++ {
		select {
		case <-stop:
			send(-1)
			sent <- n
			return
		case <-time.After(every):
			send(n)
		}
	}
}

// series reads numbers in their order until -1, and returns how many there were.
func series(t *testing.T, c *consumertest.Client) int {
	for want := 0; ; want++ {
		var m numbered
		c.ReceiveJSON(&m)
		if m.N == -1 {
			return want
		}
		if m.N != want {
			t.Errorf("got message %d, want %d", m.N, want)
			return -1
		}
	}
}

// comeAndGo connects, stays for a moment, and leaves in one of several ways.
func comeAndGo(t *testing.T, s *site, i int) {
	c := consumertest.Dial(t, s, fmt.Sprintf("/%d/", i%7), nil)
	time.Sleep(time.Duration(i%13) * time.Millisecond)
	switch i % 3 {
	case 0:
		c.Close(1000, "")
	case 1:
		c.Vanish()
	case 2:
		c.SendText("panic")
		c.ReceiveClose()
	}
}
