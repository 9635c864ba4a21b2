package jwt

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
)

// Options of [New]. Algorithms, Issuer, Audience and one of Keys and KeyFunc are
// required: a token is accepted for what was said here and for nothing else.
type Options struct {
	// Algorithms are the values of the alg header that are accepted: HS256 to
	// HS512, RS256 to RS512, PS256 to PS512, ES256 to ES512, EdDSA. "none" never,
	// and shared-secret algorithms (HS) never beside public-key ones, since a
	// public key would then pass for a secret.
	Algorithms []string

	// Issuer is what the iss claim must be.
	Issuer string

	// Audience is what the aud claim must name one of.
	Audience []string

	// Keys verify signatures; several during a change of keys. Each is tried
	// that fits the token's algorithm: []byte (HS; at least as long as the
	// hash: 32, 48 or 64 bytes), *rsa.PublicKey, *ecdsa.PublicKey or
	// ed25519.PublicKey.
	Keys []any

	// KeyFunc finds the key in place of Keys, say by the kid header in a key set.
	// It is called before the signature is checked: believe nothing in the token.
	KeyFunc jwt.Keyfunc

	// Leeway is how far the issuer's clock and ours may differ. Default 0; at most
	// 5 minutes.
	Leeway time.Duration

	// UserClaim names the claim that becomes User.ID: a string or a whole number.
	// Default "sub".
	UserClaim string

	// User makes a user of the claims: with a name, with roles. It runs when a
	// token is verified, and with the same claims at each recheck, so that it may
	// refuse somebody whose account was closed. An anonymous user is refused.
	// ID, Session and Via of what it returns are set by the caller, and the
	// earlier of the two Expires holds. Default: a user whose Data is the
	// [Claims].
	User func(ctx context.Context, claims Claims) (consumer.User, error)
}

// Claims are a verified token's. Numbers are json.Number.
type Claims map[string]any

// Authenticator is an [auth.Authenticator] for bearer tokens. Its methods may be
// called from many goroutines.
type Authenticator struct {
	parser *jwt.Parser
	keys   jwt.Keyfunc
	opts   Options
}

var _ auth.Authenticator = (*Authenticator)(nil)

// New returns the authenticator that opts describes, or an error that says which
// field lacks what.
func New(opts *Options) (*Authenticator, error) {
	if opts == nil {
		return nil, errors.New("jwt: Options are nil: Algorithms, Issuer, Audience and Keys are required")
	}
	a := &Authenticator{opts: *opts, keys: opts.KeyFunc}
	if err := a.opts.check(); err != nil {
		return nil, fmt.Errorf("jwt: %w", err)
	}
	if a.opts.UserClaim == "" {
		a.opts.UserClaim = "sub"
	}
	if a.keys == nil {
		a.keys = staticKeys(slices.Clone(opts.Keys))
	}
	a.parser = jwt.NewParser(
		jwt.WithValidMethods(slices.Clone(opts.Algorithms)),
		jwt.WithIssuer(opts.Issuer),
		jwt.WithAudience(slices.Clone(opts.Audience)...),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(opts.Leeway),
		jwt.WithStrictDecoding(),
		jwt.WithJSONNumber(),
	)
	return a, nil
}

// Authenticate returns the user of the request's bearer token
// ([auth.BearerToken]). Without a token it returns the zero User; a token that
// is not valid is refused with 401, not passed over.
func (a *Authenticator) Authenticate(r *http.Request) (consumer.User, error) {
	token, err := auth.BearerToken(r)
	if token == "" || err != nil {
		return consumer.User{}, err
	}
	return a.Verify(r.Context(), token)
}

// Verify returns the user of a token, for tokens that come another way: in a
// message, to renew the one that is about to expire.
//
//	if u, err := tokens.Verify(ctx, m.Token); err == nil && u.ID == c.User().ID {
//		c.SetUser(u)
//	}
//
// Its error has a *consumer.DenyError of 401 in the chain, and beside it the
// cause for the log, without the token.
func (a *Authenticator) Verify(ctx context.Context, token string) (consumer.User, error) {
	claims := jwt.MapClaims{}
	if _, err := a.parser.ParseWithClaims(token, claims, a.keys); err != nil {
		return consumer.User{}, refuse(err)
	}
	return a.user(ctx, Claims(claims))
}

// AuthenticateToken is Verify: it lets clients that speak tideway.v1 renew their
// tokens over the open connection.
func (a *Authenticator) AuthenticateToken(ctx context.Context, token string) (consumer.User, error) {
	return a.Verify(ctx, token)
}

// Recheck returns the user until the token expires, leeway included, and then an
// error with code 4101. If there is an Options.User, that one is asked again; a
// user whom it no longer knows gets code 4001.
func (a *Authenticator) Recheck(ctx context.Context, u consumer.User) (consumer.User, error) {
	if err := auth.CheckExpiry(u); err != nil {
		return consumer.User{}, err
	}
	token, ok := u.Data.(*Token)
	if !ok || a.opts.User == nil {
		return u, nil
	}
	now, err := a.user(ctx, token.Claims)
	if deny := (*consumer.DenyError)(nil); errors.As(err, &deny) {
		return consumer.User{}, fmt.Errorf("%w: %w", err, &consumer.CloseError{Code: consumer.StatusUnauthorized, Reason: "the credentials are no longer valid"})
	}
	if err != nil {
		return consumer.User{}, err
	}
	now.Via = u.Via
	return now, nil
}

// Token is the Data of every user that comes from this package.
type Token struct {
	Claims Claims // as they were signed
	Data   any    // what Options.User put into User.Data, or nil
}

// user makes the user of verified claims.
func (a *Authenticator) user(ctx context.Context, claims Claims) (consumer.User, error) {
	id := claims.text(a.opts.UserClaim)
	if id == "" {
		return consumer.User{}, refuse(fmt.Errorf("the claim %q is missing or is neither a text nor a whole number", a.opts.UserClaim))
	}
	exp, err := jwt.MapClaims(claims).GetExpirationTime()
	if err != nil || exp == nil {
		return consumer.User{}, refuse(errors.New("the claim \"exp\" is missing or is no number"))
	}
	u := consumer.User{ID: id}
	if a.opts.User != nil {
		u, err = a.opts.User(ctx, claims)
		if err != nil {
			return consumer.User{}, fmt.Errorf("jwt: Options.User: %w", err)
		}
		if u.Anonymous() {
			return consumer.User{}, refuse(fmt.Errorf("Options.User knows no user %q", id))
		}
	}
	u.ID, u.Via = id, ""
	u.Session = claims.text("sid")
	if u.Session == "" {
		u.Session = claims.text("jti")
	}
	if end := exp.Add(a.opts.Leeway); u.Expires.IsZero() || end.Before(u.Expires) {
		u.Expires = end
	}
	u.Data = &Token{Claims: claims, Data: u.Data}
	return u, nil
}

// text returns a claim that is a string or a whole number, else "".
func (c Claims) text(name string) string {
	switch v := c[name].(type) {
	case string:
		return v
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			return v.String()
		}
	}
	return ""
}

// refuse puts beside the cause, which is for the log, what the client is told.
func refuse(cause error) error {
	deny := &consumer.DenyError{
		Status: http.StatusUnauthorized,
		Reason: "the token is not valid",
		Header: http.Header{"Www-Authenticate": {`Bearer error="invalid_token"`}},
	}
	if errors.Is(cause, jwt.ErrTokenExpired) {
		deny.Reason = "the token has expired"
	}
	return fmt.Errorf("jwt: %w: %w", cause, deny)
}

// staticKeys offers the keys of the type that a token's algorithm takes.
func staticKeys(keys []any) jwt.Keyfunc {
	return func(t *jwt.Token) (any, error) {
		var set jwt.VerificationKeySet
		for _, key := range keys {
			if fits(t.Method.Alg(), key) {
				set.Keys = append(set.Keys, key)
			}
		}
		return set, nil
	}
}

// fits reports whether key is of the type that alg verifies with.
func fits(alg string, key any) bool {
	switch key.(type) {
	case []byte:
		return symmetric(alg)
	case *rsa.PublicKey:
		return alg[:2] == "RS" || alg[:2] == "PS"
	case *ecdsa.PublicKey:
		return alg[:2] == "ES"
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

func symmetric(alg string) bool { return alg[:2] == "HS" }
