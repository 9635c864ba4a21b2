package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router/auth"
)

// Options of [New]. The zero value and nil are the defaults.
type Options struct {
	// TTL is how long a ticket may be redeemed, in whole seconds from 1 s to 5
	// minutes. Default 30 s. The network's clock counts, which ends tickets up to a
	// second late.
	TTL time.Duration

	// Purpose keeps tickets apart where several sites share a network: one that was
	// issued for one purpose is nothing for another. Default "user".
	Purpose string

	// Param names the query parameter. Default "ticket".
	Param string

	// Recheck asks again about a user who came with a ticket. Data is as
	// Authenticate returned it. Default: the user holds until User.Expires.
	Recheck func(ctx context.Context, u consumer.User) (consumer.User, error)

	// TrustedOrigins are origins beside the page's own whose scripts may call
	// Handler, such as "https://app.example.com". Default none.
	TrustedOrigins []string
}

func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.TTL == 0 {
		opts.TTL = 30 * time.Second
	}
	if opts.Purpose == "" {
		opts.Purpose = "user"
	}
	if opts.Param == "" {
		opts.Param = "ticket"
	}
	if opts.TTL < time.Second || opts.TTL > 5*time.Minute || opts.TTL%time.Second != 0 {
		return opts, fmt.Errorf("ticket: Options.TTL is %v: it is in whole seconds, from 1s to 5m", opts.TTL)
	}
	return opts, nil
}

// Tickets issues and redeems tickets; it is an [auth.Authenticator]. Its methods
// may be called from many goroutines, and any process of the network redeems what
// another issued.
type Tickets struct {
	layer  *layer.Layer
	opts   Options
	origin *http.CrossOriginProtection
}

var _ auth.Authenticator = (*Tickets)(nil)

// New makes tickets of a layer's network. On NATS that needs a server 2.11 or newer
// with JetStream, of which the first ticket asks.
func New(l *layer.Layer, opts *Options) (*Tickets, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, errors.New("ticket: New: the layer is nil")
	}
	t := &Tickets{layer: l, opts: o, origin: http.NewCrossOriginProtection()}
	for _, origin := range o.TrustedOrigins {
		if err := t.origin.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("ticket: Options.TrustedOrigins: %w: write scheme://host or scheme://host:port", err)
		}
	}
	return t, nil
}

// record is what the network keeps for a ticket: the user without Via, which
// means something only where it was written.
type record struct {
	ID      string          `json:"id"`
	Session string          `json:"session,omitempty"`
	Expires time.Time       `json:"expires,omitzero"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Issue makes a ticket for u: 26 letters and digits, of which the network keeps
// only a hash. u.Data travels as JSON and comes back as a json.RawMessage. An
// anonymous user gets none.
func (t *Tickets) Issue(ctx context.Context, u consumer.User) (string, error) {
	if u.Anonymous() {
		return "", errors.New("ticket: Issue: the user is anonymous: log in first")
	}
	rec := record{ID: u.ID, Session: u.Session, Expires: u.Expires}
	if u.Data != nil {
		data, err := json.Marshal(u.Data)
		if err != nil {
			return "", fmt.Errorf("ticket: Issue: User.Data of type %T is no JSON: %w", u.Data, err)
		}
		rec.Data = data
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return "", fmt.Errorf("ticket: Issue: %w", err)
	}
	ticket, err := t.layer.Issue(ctx, t.opts.Purpose, value, t.opts.TTL)
	switch {
	case errors.Is(err, layer.ErrTooLarge):
		return "", fmt.Errorf("ticket: Issue: %w", err)
	case err != nil:
		return "", fmt.Errorf("ticket: Issue: %w: %w", err, auth.ErrUnavailable)
	}
	return ticket, nil
}

// Authenticate redeems the ticket in the request's query. Without one it returns
// the zero User; with one that is unknown, used or too old, it refuses with 401.
// Of several requests with one ticket, exactly one gets in.
func (t *Tickets) Authenticate(r *http.Request) (consumer.User, error) {
	tickets := r.URL.Query()[t.opts.Param]
	switch {
	case len(tickets) == 0:
		return consumer.User{}, nil
	case len(tickets) > 1:
		return consumer.User{}, consumer.Deny(http.StatusBadRequest, "more than one ticket")
	}
	return t.Redeem(r.Context(), tickets[0])
}

// Redeem uses a ticket up and returns its user, for tickets that come another
// way. Its error has a *consumer.DenyError in the chain: 401, or 503 when the
// network does not answer; the ticket may then be used up or not.
func (t *Tickets) Redeem(ctx context.Context, ticket string) (consumer.User, error) {
	ctx, cancel := context.WithTimeout(ctx, redeemTimeout)
	defer cancel()
	value, err := t.layer.Redeem(ctx, t.opts.Purpose, ticket)
	switch {
	case errors.Is(err, layer.ErrNoTicket):
		return consumer.User{}, errRefused
	case err != nil:
		return consumer.User{}, unavailable(err)
	}
	var rec record
	if err := json.Unmarshal(value, &rec); err != nil || rec.ID == "" {
		return consumer.User{}, unavailable(errors.Join(errors.New("what the network keeps is no user"), err))
	}
	u := consumer.User{ID: rec.ID, Session: rec.Session, Expires: rec.Expires}
	if rec.Data != nil {
		u.Data = rec.Data
	}
	if auth.CheckExpiry(u) != nil {
		return consumer.User{}, errRefused
	}
	return u, nil
}

// Recheck asks Options.Recheck; without one, the user holds until u.Expires, and
// from then on the error has code 4101.
func (t *Tickets) Recheck(ctx context.Context, u consumer.User) (consumer.User, error) {
	if err := auth.CheckExpiry(u); err != nil {
		return consumer.User{}, err
	}
	if t.opts.Recheck == nil {
		return u, nil
	}
	return t.opts.Recheck(ctx, u)
}

const redeemTimeout = 10 * time.Second

// errRefused does not tell an unknown ticket from a used or an old one.
var errRefused = consumer.Deny(http.StatusUnauthorized, "the ticket is not valid, was used, or has expired")

func unavailable(err error) error {
	return fmt.Errorf("ticket: %w: %w: %w", err, auth.ErrUnavailable, &consumer.DenyError{
		Status: http.StatusServiceUnavailable,
		Reason: "tickets cannot be checked now",
		Header: http.Header{"Retry-After": {"5"}},
	})
}
