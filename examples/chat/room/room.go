// Package room is a chat room: the consumer that serves its sockets, and the
// page that opens them.
//
// One message goes both ways, from the browser and to it:
//
//	{"type":"chat.message","user":"ann","text":"hello"}
//
// Whoever is in the room "lobby" is a member of the group "chat.lobby", so
// anything that sends such a message to the group speaks in the room. There is no
// login: a user is whoever the message says. The notify example has one.
package room

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
)

// Message is what somebody says in a room.
type Message struct {
	User string `json:"user"` // 1 to 40 characters
	Text string `json:"text"` // 1 to 2,000 characters
}

// MessageType implements [layer.Payload].
func (Message) MessageType() string { return "chat.message" }

// Refusal tells a client, and nobody else, why its message was not passed on.
type Refusal struct {
	Text string `json:"text"`
}

// MessageType implements [layer.Payload].
func (Refusal) MessageType() string { return "chat.refusal" }

// Consumer serves the path /ws/chat/{room}/{$}.
var Consumer = consumer.Type[visitor]{
	Connect:  (*visitor).connect,
	Receive:  consumer.JSON((*visitor).receive),
	Messages: consumer.Table(consumer.Forward[visitor, Message]()),
}

// visitor is one open page.
type visitor struct {
	group string
}

func (v *visitor) connect(ctx context.Context, c *consumer.Conn) error {
	v.group = "chat." + c.PathValue("room")
	if err := layer.CheckGroup(v.group); err != nil {
		return consumer.Deny(http.StatusBadRequest, "there can be no such room: "+err.Error())
	}
	return c.GroupAdd(ctx, v.group)
}

// inbound is a message of a client, which may be of any type.
type inbound struct {
	Type string `json:"type"`
	Message
}

func (v *visitor) receive(ctx context.Context, c *consumer.Conn, in inbound) error {
	if problem := in.problem(); problem != "" {
		return c.SendJSON(ctx, Refusal{problem})
	}
	return c.GroupSend(ctx, v.group, in.Message)
}

const maxUser, maxText = 40, 2000

// problem says what is wrong with a message, "" when nothing is.
func (in inbound) problem() string {
	switch {
	case in.Type != in.MessageType():
		return fmt.Sprintf("the type is %.40q; this room takes %q", in.Type, in.MessageType())
	case strings.TrimSpace(in.User) == "":
		return "the message has no user"
	case utf8.RuneCountInString(in.User) > maxUser:
		return fmt.Sprintf("the user's name is longer than %d characters", maxUser)
	case strings.TrimSpace(in.Text) == "":
		return "the message has no text"
	case utf8.RuneCountInString(in.Text) > maxText:
		return fmt.Sprintf("the text is longer than %d characters", maxText)
	}
	return ""
}
