package client

import (
	"context"
	"encoding/json"
	"iter"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
)

// Event is something that the server said. Exactly one of Data, Joined, Left, Gap,
// Bye and Err is set; Group and At are beside Data that came through a group.
type Event struct {
	Group string          // "" when the consumer sent it to this connection
	At    string          // the position behind it, in a durable group
	Data  json.RawMessage // JSON, or bytes where Binary is set

	Binary bool    // Data came as a binary frame, which has no envelope
	Joined *Joined // the answer to a join
	Left   string  // a group that the connection is not in any more, or not again
	Gap    *Gap
	Bye    *Bye
	Err    *Error // something that was sent was refused
}

// Joined is the answer to the joining of a group, by the consumer or by whoever else
// added the connection.
type Joined struct {
	Group    string
	Outcome  string // "live", "resumed" or "gap"
	Replayed int    // how many older messages follow, as far as it was known
	Reason   string // of a gap: "trimmed", "reset" or "far"
	At       string // where the messages that follow begin, in a durable group
}

// Gap says that messages of a group were missed and will not come.
type Gap struct {
	Group  string `json:"group"`
	Reason string `json:"reason"`
}

// Bye comes before the server closes.
type Bye struct {
	Code      consumer.StatusCode `json:"code"`
	Reconnect [2]int64            `json:"reconnect"` // ms: come back after a random wait in between
}

// frame is any frame of the server.
type frame struct {
	Hello *struct {
		Session string `json:"session"`
		Ping    int    `json:"ping"`
	} `json:"hello"`
	Data     json.RawMessage `json:"data"`
	Group    string          `json:"group"`
	At       string          `json:"at"`
	Joined   string          `json:"joined"`
	Outcome  string          `json:"outcome"`
	Replayed int             `json:"replayed"`
	Reason   string          `json:"reason"`
	Left     string          `json:"left"`
	Gap      *Gap            `json:"gap"`
	Reply    json.RawMessage `json:"reply"`
	Error    *Error          `json:"error"`
	Bye      *Bye            `json:"bye"`
}

// event returns what a frame means for Receive, if it means something there.
func (f *frame) event() (e Event, ok bool) {
	switch {
	case f.Joined != "":
		e.Joined = &Joined{f.Joined, f.Outcome, f.Replayed, f.Reason, f.At}
	case f.Left != "":
		e.Left = f.Left
	case f.Gap != nil:
		e.Gap = f.Gap
	case f.Bye != nil:
		e.Bye = f.Bye
	case f.Error != nil:
		e.Err = f.Error
	case f.Data != nil:
		e.Group, e.At, e.Data = f.Group, f.At, f.Data
	default:
		return e, false // of a newer server
	}
	return e, true
}

// read takes what comes until the connection ends.
func (c *Conn) read() {
	defer close(c.events)
	defer close(c.done)
	for {
		typ, data, err := c.ws.Read(context.Background())
		if err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.end = closed(err)
			return
		}
		if typ == websocket.MessageBinary {
			c.pass(Event{Data: data, Binary: true})
			continue
		}
		var f frame
		if err := json.Unmarshal(data, &f); err != nil {
			continue // of a newer server
		}
		if f.Reply != nil {
			c.replied(&f)
			continue
		}
		if e, ok := f.event(); ok {
			c.pass(e)
		}
	}
}

// pass hands an event to Receive, if anybody wants it.
func (c *Conn) pass(e Event) {
	select {
	case c.events <- e:
	case <-c.quit:
	}
}

func (c *Conn) replied(f *frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := number(f.Reply)
	if answer := c.requests[id]; answer != nil {
		answer <- *f
		delete(c.requests, id)
	}
}

// Receive waits for the next event. When the connection has ended and all events
// are received, the error has the *[consumer.CloseError] in its chain.
func (c *Conn) Receive(ctx context.Context) (Event, error) {
	select {
	case e, ok := <-c.events:
		if !ok {
			return Event{}, c.ended()
		}
		c.note(e)
		return e, nil
	case <-ctx.Done():
		return Event{}, ctx.Err()
	}
}

// note keeps the position that an event brings.
func (c *Conn) note(e Event) {
	group, at := e.Group, e.At
	switch {
	case e.Joined != nil:
		group, at = e.Joined.Group, e.Joined.At
	case e.Left != "":
		c.parted(e.Left)
		return
	case at == "":
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resume.Cursors[group] = at
}

// parted lets go of a group that was left, unless it may be gone on with.
func (c *Conn) parted(group string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resume.Cursors[group] == "" {
		delete(c.resume.Cursors, group)
	}
}

// Events receives until the connection ends or ctx does, whose error is the last
// element.
func (c *Conn) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			e, err := c.Receive(ctx)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}
