package bench

import (
	"context"
	"net/http"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
)

// groupPrefix and a number are the name of a group.
const groupPrefix = "bench."

// Tick is the message of all benchmarks.
type Tick struct {
	Text string `json:"text"` // a mark, and padding
}

// MessageType implements [layer.Payload].
func (Tick) MessageType() string { return "bench.tick" }

// The paths of the bench's server.
const (
	pathRoom    = "/ws/room/%d"    // members of a group, to whom ticks are forwarded
	pathHandled = "/ws/handled/%d" // the same, with a handler that runs for each connection
	pathEcho    = "/ws/echo/%d"
	pathReturn  = "/ws/return/%d" // as pathRoom, for who resumes
)

// table serves the paths.
func table() router.Table {
	forward := consumer.Table(consumer.Forward[member, Tick]())
	handle := consumer.Table(consumer.On((*member).tick))
	return router.Table{
		"/ws/room/{group}":    memberType(forward),
		"/ws/handled/{group}": memberType(handle),
		"/ws/return/{group}":  consumer.Type[member]{Connect: (*member).comeBack, Messages: forward},
		"/ws/echo/{group}":    consumer.Type[struct{}]{Receive: echoed},
	}
}

func memberType(m consumer.Messages[member]) consumer.Type[member] {
	return consumer.Type[member]{Connect: (*member).connect, Receive: (*member).receive, Messages: m}
}

// member is a connection in one group: what it says, all of the group hear.
type member struct {
	group string
}

func (m *member) connect(ctx context.Context, c *consumer.Conn) error {
	if err := m.find(c); err != nil {
		return err
	}
	return c.GroupAdd(ctx, m.group)
}

func (m *member) comeBack(ctx context.Context, c *consumer.Conn) error {
	if err := m.find(c); err != nil {
		return err
	}
	return c.Join(ctx, m.group, nil)
}

// find takes the group from the path.
func (m *member) find(c *consumer.Conn) error {
	m.group = groupPrefix + c.PathValue("group")
	if err := layer.CheckGroup(m.group); err != nil {
		return consumer.Deny(http.StatusBadRequest, err.Error())
	}
	return nil
}

func (m *member) receive(ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
	msg, err := layer.ParseMessage(f.Data)
	if err != nil {
		return err
	}
	return c.GroupSend(ctx, m.group, msg)
}

func (m *member) tick(ctx context.Context, c *consumer.Conn, t Tick) error {
	return c.SendJSON(ctx, t)
}

func echoed(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
	return c.Send(ctx, f)
}
