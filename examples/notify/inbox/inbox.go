// Package inbox is a site on which each user has an inbox that loses nothing. An
// ordinary HTTP handler, or any process of the network, tells a user something, and
// it is in all windows that this user has open, in order and once: also in those
// that were reloaded, offline, or connected to a server that was killed.
//
// What a user is told is a message to the durable group "notify." and the name:
//
//	{"type":"notify.message","text":"Your order is on its way"}
//
// All that is known of an inbox is in that group; there is no other database. The
// page is rendered with its place in the group, and its client goes on from there.
package inbox

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/examples/internal/sessions"
	"github.com/tideway-go/tideway/layer"
)

// Groups are the durable groups that the site needs, for [layer.Options]: those of
// the users, and the sessions.
func Groups() []layer.Retention {
	return []layer.Retention{
		{Pattern: "notify.>", Messages: 2000, Age: 30 * 24 * time.Hour},
		sessions.Group(sessionPrefix, lifetime),
	}
}

const (
	sessionPrefix = "notifysession."
	lifetime      = 24 * time.Hour // of a login
)

// group returns the group of a user's windows.
func group(user string) string { return "notify." + user }

// Notification is what a user is told.
type Notification struct {
	Text string    `json:"text"`
	Sent time.Time `json:"sent,omitzero"` // by the handler's clock; scripts leave it out
}

// MessageType implements layer.Payload.
func (Notification) MessageType() string { return "notify.message" }

// Read says, to all windows, that the user has seen what came before it, but for
// the newest Left notifications.
type Read struct {
	Left int `json:"left"`
}

// MessageType implements layer.Payload.
func (Read) MessageType() string { return "notify.read" }

// inbox is a user's notifications at one place of the group.
type inbox struct {
	all    []Notification // the oldest first
	unread int            // the newest ones of them
	at     layer.Position
}

// apply takes one message of the group. One that nobody understands, since a
// script may send anything, changes nothing.
func (b *inbox) apply(m layer.Message) {
	b.at = m.Position
	switch m.Type {
	case Notification{}.MessageType():
		var n Notification
		if m.Decode(&n) == nil {
			b.all = append(b.all, n)
			b.unread++
		}
	case Read{}.MessageType():
		var r Read
		if m.Decode(&r) == nil {
			b.unread = max(0, min(b.unread, r.Left))
		}
	}
}

// load reads what follows a place: from the zero Position, all that is kept. The
// place that it ends at goes with it into the page, whose client goes on there.
func load(ctx context.Context, l *layer.Layer, user string, from layer.Position) (b inbox, err error) {
	// An inbox that is empty has a place, too, and so has what is no message.
	end, err := l.Position(ctx, group(user))
	if err != nil {
		return b, err
	}
	for m, err := range l.History(ctx, group(user), from, 0) {
		if err != nil {
			return b, err
		}
		b.apply(m)
	}
	if !b.at.Reaches(end) {
		b.at = end
	}
	return b, nil
}

// markRead tells all windows that the user has seen everything up to a place. What
// comes in between is counted, and the condition makes sure that nothing more does.
func markRead(ctx context.Context, l *layer.Layer, user string, seen layer.Position) error {
	for {
		since, err := load(ctx, l, user, seen)
		if err != nil {
			return err
		}
		_, err = l.Publish(ctx, group(user), Read{len(since.all)}, &layer.PublishOptions{After: &since.at})
		if !errors.Is(err, layer.ErrConflict) {
			return err
		}
	}
}

// window is a page that a user has open. It needs no state.
type window struct{}

// seen is what a page sends: the place up to which its user has seen everything.
type seen struct {
	Seen string `json:"seen"`
}

var windows = consumer.Type[window]{
	Connect: func(_ *window, ctx context.Context, c *consumer.Conn) error {
		if c.User().Anonymous() {
			return consumer.Deny(http.StatusUnauthorized, "log in first")
		}
		return c.Join(ctx, group(c.User().ID), nil)
	},
	Receive: consumer.JSON(func(_ *window, ctx context.Context, c *consumer.Conn, m seen) error {
		user := c.User().ID
		position, err := consumer.OpenCursor(ctx, c.Layer(), group(user), m.Seen)
		if err == nil {
			err = markRead(ctx, c.Layer(), user, position)
		}
		var gap *layer.GapError
		if errors.Is(err, layer.ErrForged) || errors.As(err, &gap) {
			return &consumer.ReplyError{Code: "position", Message: "the inbox has no such place any more; reload the page"}
		}
		return err
	}),
	Messages: consumer.Table(
		consumer.Forward[window, Notification](),
		consumer.Forward[window, Read](),
	),
}
