package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// routes are the ones that every API has.
func (a *API) routes() {
	a.Handle("POST /api/v1/groups/{group}/messages", a.publish)
	a.Handle("GET /api/v1/groups/{group}/messages", a.history)
	a.Handle("GET /api/v1/groups/{group}/events", a.events)
	a.Handle("GET /api/v1/groups/{group}/members", a.members)
	a.Handle("POST /api/v1/groups/{group}/tokens", a.issueToken)
	a.Handle("POST /api/v1/channels/{channel}/messages", a.send)
	if a.opts.Disconnect != nil {
		a.Handle("POST /api/v1/disconnect", a.disconnect)
	}
}

// groupOf returns the group that a request is about, if the caller may do that.
func groupOf(r *http.Request, c *Caller, do Action) (string, error) {
	group := r.PathValue("group")
	if err := layer.CheckGroup(group); err != nil {
		return "", err
	}
	return group, c.May(do, group)
}

// publish sends a message to a group.
func (a *API) publish(w http.ResponseWriter, r *http.Request, c *Caller) error {
	group, err := groupOf(r, c, WriteGroups)
	if err != nil {
		return err
	}
	key, err := IdempotencyKey(r)
	if err != nil {
		return err
	}
	m, err := a.ReadMessage(w, r)
	if err != nil {
		return err
	}
	receipt, err := a.layer.Publish(r.Context(), group, m, &layer.PublishOptions{ID: key})
	switch {
	case err != nil:
		return err
	case receipt.Position.IsZero():
		WriteJSON(w, http.StatusAccepted, struct{}{})
		return nil
	}
	WriteJSON(w, http.StatusOK, struct {
		At        layer.Position `json:"at"`
		Duplicate bool           `json:"duplicate,omitempty"`
	}{receipt.Position, receipt.Duplicate})
	return nil
}

// send sends a message to a channel, or puts it into a durable queue.
func (a *API) send(w http.ResponseWriter, r *http.Request, c *Caller) error {
	channel := r.PathValue("channel")
	if err := layer.CheckChannel(channel); err != nil {
		return err
	}
	if err := c.May(SendChannels, channel); err != nil {
		return err
	}
	how, err := enqueueOptions(r)
	if err != nil {
		return err
	}
	m, err := a.ReadMessage(w, r)
	if err != nil {
		return err
	}
	receipt, err := a.layer.Enqueue(r.Context(), channel, m, how)
	_, noQueueName := errors.AsType[*layer.NameError](err) // one with a "!"
	switch {
	case err == nil:
		WriteJSON(w, http.StatusOK, map[string]bool{"duplicate": receipt.Duplicate})
		return nil
	case !noQueueName && !errors.Is(err, layer.ErrNotQueue):
		return err
	case how.Priority != layer.Normal || how.Delay != 0:
		return Errorf(http.StatusConflict, "not_durable", "channel %s is no durable queue, so its messages have neither priority nor delay", channel)
	}
	m.Header.ID = how.ID
	if err := a.layer.Send(r.Context(), channel, m); err != nil {
		return err
	}
	WriteJSON(w, http.StatusAccepted, struct{}{})
	return nil
}

// enqueueOptions reads the settings of a message that is for a queue.
func enqueueOptions(r *http.Request) (*layer.EnqueueOptions, error) {
	key, err := IdempotencyKey(r)
	if err != nil {
		return nil, err
	}
	how := &layer.EnqueueOptions{ID: key}
	q := r.URL.Query()
	switch p := q.Get("priority"); p {
	case "", "normal":
	case "high":
		how.Priority = layer.High
	case "low":
		how.Priority = layer.Low
	default:
		return nil, Errorf(http.StatusBadRequest, "query", "priority is %.60q; want high, normal or low", p)
	}
	if text := q.Get("delay"); text != "" {
		if how.Delay, err = time.ParseDuration(text); err != nil || how.Delay <= 0 {
			return nil, Errorf(http.StatusBadRequest, "query", "delay is %.60q; want a time such as 90s or 2h", text)
		}
	}
	if how.Delay > 0 && how.Priority != layer.Normal {
		return nil, Errorf(http.StatusBadRequest, "query", "a message has a delay or a priority, not both")
	}
	return how, nil
}

// Kick says whose connections are to be closed. It is router.Kick under a name
// that does not need package router.
type Kick struct {
	User    string `json:"user"`
	Session string `json:"session"`
	Group   string `json:"group"`
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
}

// disconnect closes the connections of a user, a session or a group.
func (a *API) disconnect(w http.ResponseWriter, r *http.Request, c *Caller) error {
	if err := c.May(Disconnect, ""); err != nil {
		return err
	}
	var k Kick
	if err := a.ReadJSON(w, r, &k); err != nil {
		return err
	}
	if err := k.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), kickTimeout)
	defer cancel()
	n, err := a.opts.Disconnect(ctx, k)
	if err != nil {
		return fmt.Errorf("after %d connections were closed: %w", n, err)
	}
	WriteJSON(w, http.StatusOK, map[string]int{"closed": n})
	return nil
}

// kickTimeout is for all processes to answer.
const kickTimeout = 10 * time.Second

// check finds what no close frame can say (RFC 6455, sections 5.5 and 7.4.2).
func (k *Kick) check() error {
	switch {
	case k.User == "" && k.Session == "" && k.Group == "":
		return Errorf(http.StatusBadRequest, "body", "whom? give a user, a session or a group")
	case len(k.Reason) > 123:
		return Errorf(http.StatusBadRequest, "body", "the reason has %d bytes; a close frame has room for 123", len(k.Reason))
	case k.Code != 0 && k.Code != 1000 && k.Code != 1008 && k.Code != 1012 && k.Code != 1013 && (k.Code < 3000 || k.Code > 4999):
		return Errorf(http.StatusBadRequest, "body", "the code is %d; it is 1000, 1008, 1012, 1013 or from 3000 to 4999", k.Code)
	}
	return nil
}

// place is where a reader of a group begins.
type place struct {
	given bool           // it says where
	at    layer.Position // zero for what is oldest
	last  int            // the newest that many, if above 0
}

// placeOf reads the query: after=POSITION, after=start, or last=N.
func placeOf(r *http.Request) (p place, err error) {
	q := r.URL.Query()
	after, last := q.Get("after"), q.Get("last")
	switch {
	case after != "" && last != "":
		return p, Errorf(http.StatusBadRequest, "query", "after and last are both given; choose one")
	case after != "":
		p.given = true
		p.at, err = positionOf(after)
		return p, err
	case last != "":
		p.given = true
		p.last, err = number("last", last, 1, mostMessages)
		return p, err
	}
	return p, nil
}

// positionOf reads a position as a stranger gives it.
func positionOf(text string) (layer.Position, error) {
	if text == "start" {
		return layer.Position{}, nil
	}
	p, err := layer.ParsePosition(text)
	if err != nil {
		return p, Errorf(http.StatusBadRequest, "position", "%s", bare(err))
	}
	return p, nil
}

// number reads a number of the query.
func number(name, text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, Errorf(http.StatusBadRequest, "query", "%s is %.60q; want a number from %d to %d", name, text, least, most)
	}
	return n, nil
}
