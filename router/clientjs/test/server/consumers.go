package main

import (
	"context"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router"
)

// line is what the groups carry.
type line struct {
	N int `json:"n"`
}

// MessageType implements layer.Payload.
func (line) MessageType() string { return "line" }

var lines = consumer.Table(consumer.Forward[struct{}, line]())

// member hears one group, with what it missed.
var member = consumer.Type[struct{}]{
	Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
		return c.Join(ctx, c.PathValue("group"), nil)
	},
	Receive:  consumer.Answer(answer),
	Messages: lines,
}

// question is what a client may ask for.
type question struct {
	Echo  any                 `json:"echo"`
	Wait  int                 `json:"wait"`  // milliseconds before the answer
	Fail  string              `json:"fail"`  // the code of a refusal
	Close consumer.StatusCode `json:"close"` // the code of a close
}

func answer(_ *struct{}, ctx context.Context, c *consumer.Conn, q question) (any, error) {
	switch {
	case q.Fail != "":
		return nil, &consumer.ReplyError{Code: q.Fail, Message: "as you asked"}
	case q.Close != 0:
		return nil, &consumer.CloseError{Code: q.Close, Reason: "as you asked"}
	}
	select {
	case <-time.After(time.Duration(q.Wait) * time.Millisecond):
	case <-ctx.Done():
	}
	return q.Echo, nil
}

// private is for users alone, and says who they are.
var private = consumer.Type[struct{}]{
	Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
		if c.User().Anonymous() {
			return consumer.Deny(401, "who are you?")
		}
		return c.SendJSON(ctx, map[string]string{"type": "user", "id": c.User().ID})
	},
	Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, _ consumer.Frame) error {
		return c.Reply(ctx, c.User().ID)
	},
}

// mirror sends back what it gets, text or binary.
var mirror = consumer.Type[struct{}]{
	Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
		if string(f.Data) == "restart" {
			return &consumer.CloseError{Code: consumer.StatusServiceRestart, Reason: "as you asked"}
		}
		return c.Send(ctx, f)
	},
}

// guest joins nothing, and says by which name others can add it.
var guest = consumer.Type[struct{}]{
	Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
		return c.SendJSON(ctx, map[string]string{"type": "name", "channel": c.ChannelName()})
	},
	Messages: lines,
}

// strictTable is served to those alone who have logged in.
var strictTable = router.Table{
	"/login/group/{group}": member,
	"/login/private":       private,
}

var table = router.Table{
	"/ws/group/{group}": member,
	"/ws/private":       private,
	"/ws/mirror":        mirror,
	"/ws/guest":         guest,
}
