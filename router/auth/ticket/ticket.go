package ticket

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
)

// Options of [New]. The zero value and nil are the defaults.
type Options struct {
	// Bucket is the key-value bucket that holds the tickets. Default
	// "channels_state". It is made if it does not exist; one that exists must
	// have a LimitMarkerTTL, without which tickets would not end.
	Bucket string

	// Replicas of the bucket, when New makes it: 1, 3 or 5. Default 1.
	Replicas int

	// TTL is how long a ticket may be redeemed, in whole seconds from 1 s to 5
	// minutes. Default 30 s. The broker's clock counts, which ends tickets up to
	// a second late.
	TTL time.Duration

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
	if opts.Bucket == "" {
		opts.Bucket = "channels_state"
	}
	if opts.Replicas == 0 {
		opts.Replicas = 1
	}
	if opts.TTL == 0 {
		opts.TTL = 30 * time.Second
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
// may be called from many goroutines, and any process on the same bucket redeems
// what another issued.
type Tickets struct {
	js     jetstream.JetStream
	kv     jetstream.KeyValue
	opts   Options
	origin *http.CrossOriginProtection
}

var _ auth.Authenticator = (*Tickets)(nil)

// New opens the bucket, and makes it if there is none. It needs a NATS server 2.11
// or newer with JetStream.
func New(ctx context.Context, nc *nats.Conn, opts *Options) (*Tickets, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Tickets{opts: o, origin: http.NewCrossOriginProtection()}
	for _, origin := range o.TrustedOrigins {
		if err := t.origin.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("ticket: Options.TrustedOrigins: %w: write scheme://host or scheme://host:port", err)
		}
	}
	if nc == nil {
		return nil, errors.New("ticket: the NATS connection is nil")
	}
	if t.js, err = jetstream.New(nc); err != nil {
		return nil, fmt.Errorf("ticket: JetStream: %w", err)
	}
	if t.kv, err = openBucket(ctx, t.js, o); err != nil {
		return nil, fmt.Errorf("ticket: bucket %q: %w", o.Bucket, err)
	}
	return t, nil
}

// openBucket never changes a bucket that exists: others keep things in it.
func openBucket(ctx context.Context, js jetstream.JetStream, o Options) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, o.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:         o.Bucket,
			Description:    "Tideway: small shared state; tickets below ticket.",
			History:        1,
			Storage:        jetstream.FileStorage,
			Replicas:       o.Replicas,
			LimitMarkerTTL: time.Minute,
		})
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = js.KeyValue(ctx, o.Bucket)
		}
	}
	if err != nil {
		return nil, err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, err
	}
	if status.LimitMarkerTTL() == 0 {
		return nil, errors.New("it has no LimitMarkerTTL, so a ticket would never end: set one on it, or name another bucket in Options.Bucket")
	}
	return kv, nil
}

// record is what the bucket holds for a ticket: the user without Via, which
// means something only where it was written.
type record struct {
	ID      string          `json:"id"`
	Session string          `json:"session,omitempty"`
	Expires time.Time       `json:"expires,omitzero"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Issue makes a ticket for u: 26 letters and digits, of which the bucket holds
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
	ticket := rand.Text()
	if _, err := t.kv.Create(ctx, key(ticket), value, jetstream.KeyTTL(t.opts.TTL)); err != nil {
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
// broker does not answer; the ticket may then be used up or not.
func (t *Tickets) Redeem(ctx context.Context, ticket string) (consumer.User, error) {
	if !wellFormed(ticket) {
		return consumer.User{}, errRefused
	}
	rec, revision, err := t.read(ctx, key(ticket))
	if err != nil {
		return consumer.User{}, err
	}
	// Whoever deletes the revision that was read has the ticket. The marker that
	// stays is the broker's to remove.
	err = t.kv.Purge(ctx, key(ticket), jetstream.LastRevision(revision), jetstream.PurgeTTL(t.opts.TTL))
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return consumer.User{}, errRefused
	}
	if err != nil {
		return consumer.User{}, unavailable(err)
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

const readTimeout = 5 * time.Second

// errRefused does not tell an unknown ticket from a used or an old one.
var errRefused = consumer.Deny(http.StatusUnauthorized, "the ticket is not valid, was used, or has expired")

func unavailable(err error) error {
	return fmt.Errorf("ticket: %w: %w: %w", err, auth.ErrUnavailable, &consumer.DenyError{
		Status: http.StatusServiceUnavailable,
		Reason: "tickets cannot be checked now",
		Header: http.Header{"Retry-After": {"5"}},
	})
}

// key is where a ticket's record lies. A hash, so that whoever may read the
// bucket cannot redeem, and so that the lookup compares nothing secret.
func key(ticket string) string {
	sum := sha256.Sum256([]byte(ticket))
	return "ticket." + hex.EncodeToString(sum[:])
}

// wellFormed reports whether s could come from Issue (rand.Text: base32), so
// that garbage costs the broker nothing.
func wellFormed(s string) bool {
	return len(s) == 26 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
