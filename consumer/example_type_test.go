package consumer_test

import (
	"context"

	"github.com/tideway-go/tideway/consumer"
)

// ChatMessage travels from a browser to a group, and from there to all browsers.
type ChatMessage struct {
	User string `json:"user"`
	Text string `json:"text"`
}

// MessageType says the type of the message, here and nowhere else.
func (ChatMessage) MessageType() string { return "chat.message" }

// chat is the state of one connection.
type chat struct{ room string }

func (c *chat) connect(ctx context.Context, conn *consumer.Conn) error {
	c.room = "chat." + conn.PathValue("room")
	return conn.GroupAdd(ctx, c.room)
}

func (c *chat) receive(ctx context.Context, conn *consumer.Conn, m ChatMessage) error {
	return conn.GroupSend(ctx, c.room, m)
}

// A chat room, whole.
func ExampleType() {
	app := consumer.Type[chat]{
		Connect:  (*chat).connect,
		Receive:  consumer.JSON((*chat).receive),
		Messages: consumer.Table(consumer.Forward[chat, ChatMessage]()),
	}
	talk(app, `{"user":"ann","text":"hello"}`, `not JSON`)
	// Output:
	// {"type":"chat.message","user":"ann","text":"hello"}
	// failed to get reader: received close frame: status = StatusInvalidFramePayloadData and reason = "this is not the JSON that is expected here"
}
