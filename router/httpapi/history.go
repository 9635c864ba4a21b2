package httpapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/tideway-go/tideway/layer"
)

const (
	mostMessages    = 1000    // that one answer has
	defaultMessages = 100     // unless the query says otherwise
	mostBytes       = 2 << 20 // of messages in one answer, but for the last of them
)

// history answers with a page of what follows a position in a durable group.
func (a *API) history(w http.ResponseWriter, r *http.Request, c *Caller) error {
	group, err := groupOf(r, c, ReadGroups)
	if err != nil {
		return err
	}
	from, err := placeOf(r)
	if err != nil {
		return err
	}
	limit := defaultMessages
	if text := r.URL.Query().Get("limit"); text != "" {
		if limit, err = number("limit", text, 1, mostMessages); err != nil {
			return err
		}
	}
	if from.last > 0 {
		if from.at, err = a.layer.Before(r.Context(), group, from.last); err != nil {
			return err
		}
	}
	page, err := a.page(r.Context(), group, from.at, limit)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(page) // the client may be gone
	return nil
}

// page returns the body of an answer:
//
//	{"messages":[{"at":"…","data":{…}}],"at":"…","more":false}
//
// at is the position behind the last message, from which the next page begins.
func (a *API) page(ctx context.Context, group string, from layer.Position, limit int) ([]byte, error) {
	at := from
	if at.IsZero() {
		// Taken before the messages are read, so that nothing that comes meanwhile is
		// left out by who goes on from here.
		p, err := a.layer.Position(ctx, group)
		if err != nil {
			return nil, err
		}
		at = p
	}
	var b bytes.Buffer
	b.WriteString(`{"messages":[`)
	n, more := 0, false
	for m, err := range a.layer.History(ctx, group, from, limit+1) {
		if gap := (*layer.GapError)(nil); errors.As(err, &gap) && n > 0 {
			more = true // the next page begins with it
			break
		}
		if err != nil {
			return nil, err
		}
		if n == limit || b.Len() > mostBytes {
			more = true
			break
		}
		if n > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"at":"` + m.Position.String() + `","data":`)
		b.Write(m.Data)
		b.WriteByte('}')
		at, n = m.Position, n+1
	}
	b.WriteString(`],"at":"` + at.String() + `","more":` + strconv.FormatBool(more) + "}\n")
	return b.Bytes(), nil
}

// members answers with a page of those who are present in a group, and with how
// many they are. The next page is after the last user of this one.
func (a *API) members(w http.ResponseWriter, r *http.Request, c *Caller) error {
	group, err := groupOf(r, c, ReadGroups)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	limit := defaultMessages
	if text := q.Get("limit"); text != "" {
		if limit, err = number("limit", text, 1, mostMessages); err != nil {
			return err
		}
	}
	count, err := a.layer.CountMembers(r.Context(), group)
	if err != nil {
		return err
	}
	list, err := a.layer.Members(r.Context(), group, &layer.MembersOptions{After: q.Get("after"), Limit: limit + 1})
	if err != nil {
		return err
	}
	more := len(list) > limit
	WriteJSON(w, http.StatusOK, struct {
		Members     []layer.Member `json:"members"`
		Users       int            `json:"users"`
		Connections int            `json:"connections"`
		More        bool           `json:"more"`
	}{append([]layer.Member{}, list[:min(limit, len(list))]...), count.Users, count.Connections, more})
	return nil
}
