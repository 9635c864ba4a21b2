package jwt

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

func valid() *Options {
	return &Options{Algorithms: []string{"HS256"}, Issuer: "https://login.example.com", Audience: []string{"tideway", "chat"}, Keys: []any{secret}}
}

// claims are good ones with some replaced; a nil value takes one out.
func claims(changes jwt.MapClaims) jwt.MapClaims {
	c := jwt.MapClaims{"iss": "https://login.example.com", "aud": "tideway", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func sign(t *testing.T, method jwt.SigningMethod, key any, c jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newAuthenticator(t *testing.T, opts *Options) *Authenticator {
	t.Helper()
	a, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestVerify(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name    string
		changes jwt.MapClaims
		want    string // the user's id, "" if refused
	}{
		{"good", nil, "ada"},
		{"audience in a list", jwt.MapClaims{"aud": []string{"other", "chat"}}, "ada"},
		{"a number as user", jwt.MapClaims{"sub": 9007199254740993}, "9007199254740993"},
		{"no exp", jwt.MapClaims{"exp": nil}, ""},
		{"exp is a text", jwt.MapClaims{"exp": "tomorrow"}, ""},
		{"expired", jwt.MapClaims{"exp": now.Add(-time.Second).Unix()}, ""},
		{"not yet", jwt.MapClaims{"nbf": now.Add(time.Minute).Unix()}, ""},
		{"no audience", jwt.MapClaims{"aud": nil}, ""},
		{"empty audience", jwt.MapClaims{"aud": []string{}}, ""},
		{"another audience", jwt.MapClaims{"aud": "shop"}, ""},
		{"no issuer", jwt.MapClaims{"iss": nil}, ""},
		{"another issuer", jwt.MapClaims{"iss": "https://login.example.com/"}, ""},
		{"no user", jwt.MapClaims{"sub": nil}, ""},
		{"empty user", jwt.MapClaims{"sub": ""}, ""},
		{"a fraction as user", jwt.MapClaims{"sub": 1.5}, ""},
		{"a list as user", jwt.MapClaims{"sub": []string{"ada"}}, ""},
	}
	a := newAuthenticator(t, valid())
	for _, tt := range tests {
		token := sign(t, jwt.SigningMethodHS256, secret, claims(tt.changes))
		u, err := a.Verify(t.Context(), token)
		if u.ID != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: got %+v, %v; want user %q", tt.name, u, err, tt.want)
		}
		checkRefusal(t, tt.name, token, err)
	}
}

// checkRefusal wants 401, with a reason that says little, and no token anywhere.
func checkRefusal(t *testing.T, name, token string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var deny *consumer.DenyError
	if !errors.As(err, &deny) || deny.Status != http.StatusUnauthorized || !strings.HasPrefix(deny.Header.Get("WWW-Authenticate"), "Bearer") {
		t.Errorf("%s: error %v, want 401 with a challenge", name, err)
		return
	}
	if deny.Reason != "the token is not valid" && deny.Reason != "the token has expired" {
		t.Errorf("%s: the client is told %q", name, deny.Reason)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 10 && strings.Contains(err.Error(), part) {
			t.Errorf("%s: a part of the token is in the error %v", name, err)
		}
	}
}

func TestSignatures(t *testing.T) {
	good := sign(t, jwt.SigningMethodHS256, secret, claims(nil))
	none := sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil))
	parts := strings.Split(good, ".")
	other := strings.Split(sign(t, jwt.SigningMethodHS256, secret, claims(jwt.MapClaims{"sub": "eve"})), ".")
	tokens := map[string]string{
		"alg none":                    none,
		"alg none, signature kept":    strings.Split(none, ".")[0] + "." + parts[1] + "." + parts[2],
		"HS512, not in the list":      sign(t, jwt.SigningMethodHS512, secret, claims(nil)),
		"another secret":              sign(t, jwt.SigningMethodHS256, []byte("x"), claims(nil)),
		"claims of another":           parts[0] + "." + other[1] + "." + parts[2],
		"no signature":                parts[0] + "." + parts[1] + ".",
		"two parts":                   parts[0] + "." + parts[1],
		"four parts":                  good + ".x",
		"padding":                     good + "=",
		"not base64":                  "a.b.c",
		"empty":                       "",
		"dots":                        "..",
		"header is a list":            base64.RawURLEncoding.EncodeToString([]byte(`[]`)) + "." + parts[1] + "." + parts[2],
		"header without an algorithm": base64.RawURLEncoding.EncodeToString([]byte(`{}`)) + "." + parts[1] + "." + parts[2],
	}
	a := newAuthenticator(t, valid())
	if _, err := a.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for name, token := range tokens {
		u, err := a.Verify(t.Context(), token)
		if err == nil {
			t.Errorf("%s: accepted as %+v", name, u)
		}
		checkRefusal(t, name, token, err)
	}
}

// A token signed with the public key as a shared secret.
func TestAlgorithmConfusion(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	opts := valid()
	opts.Algorithms, opts.Keys = []string{"EdDSA"}, []any{public}
	a := newAuthenticator(t, opts)
	if _, err := a.Verify(t.Context(), sign(t, jwt.SigningMethodEdDSA, private, claims(nil))); err != nil {
		t.Errorf("EdDSA: %v", err)
	}
	if _, err := a.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, []byte(public), claims(nil))); err == nil {
		t.Error("the public key passed for a secret")
	}
}

func TestKeys(t *testing.T) {
	edPublic, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	opts := valid()
	opts.Algorithms = []string{"EdDSA", "ES256", "RS256", "PS256"}
	opts.Keys = []any{edPublic, &ec.PublicKey, &rs.PublicKey}
	a := newAuthenticator(t, opts)
	for method, key := range map[jwt.SigningMethod]crypto.Signer{
		jwt.SigningMethodEdDSA: ed, jwt.SigningMethodES256: ec, jwt.SigningMethodRS256: rs, jwt.SigningMethodPS256: rs,
	} {
		if _, err := a.Verify(t.Context(), sign(t, method, key, claims(nil))); err != nil {
			t.Errorf("%s: %v", method.Alg(), err)
		}
	}

	old, fresh := []byte(strings.Repeat("o", 32)), []byte(strings.Repeat("n", 32))
	opts = valid()
	opts.Keys = []any{fresh, old}
	a = newAuthenticator(t, opts)
	for name, key := range map[string][]byte{"old": old, "new": fresh} {
		if _, err := a.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, key, claims(nil))); err != nil {
			t.Errorf("the %s of two keys: %v", name, err)
		}
	}

	opts = valid()
	opts.Keys = nil
	opts.KeyFunc = func(token *jwt.Token) (any, error) {
		if token.Header["kid"] != "k1" {
			return nil, fmt.Errorf("no key %v", token.Header["kid"])
		}
		return secret, nil
	}
	a = newAuthenticator(t, opts)
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims(nil))
	for kid, want := range map[string]bool{"k1": true, "k2": false} {
		token.Header["kid"] = kid
		signed, err := token.SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Verify(t.Context(), signed); (err == nil) != want {
			t.Errorf("key id %s: %v, want accepted %v", kid, err, want)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	a := newAuthenticator(t, valid())
	token := sign(t, jwt.SigningMethodHS256, secret, claims(jwt.MapClaims{"jti": "t1"}))
	offered := "tideway.v1, " + auth.BearerPrefix + base64.RawURLEncoding.EncodeToString([]byte(token))
	tests := []struct {
		name   string
		header http.Header
		want   string
		status int
	}{
		{"none", http.Header{}, "", 0},
		{"header", http.Header{"Authorization": {"Bearer " + token}}, "ada", 0},
		{"subprotocol", http.Header{"Sec-Websocket-Protocol": {offered}}, "ada", 0},
		{"both", http.Header{"Authorization": {"Bearer " + token}, "Sec-Websocket-Protocol": {offered}}, "", 400},
		{"bad", http.Header{"Authorization": {"Bearer " + token + "x"}}, "", 401},
	}
	for _, tt := range tests {
		u, err := a.Authenticate(&http.Request{Header: tt.header})
		var deny *consumer.DenyError
		if u.ID != tt.want || errors.As(err, &deny) != (tt.status != 0) || deny != nil && deny.Status != tt.status {
			t.Errorf("%s: got %+v, %v; want %q, %d", tt.name, u, err, tt.want, tt.status)
		}
		if tt.want != "" && u.Session != "t1" {
			t.Errorf("%s: Session is %q, want the jti", tt.name, u.Session)
		}
	}
}

func TestExpiryAndLeeway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := valid()
		opts.Leeway = 10 * time.Second
		a := newAuthenticator(t, opts)
		token := sign(t, jwt.SigningMethodHS256, secret, claims(jwt.MapClaims{"sid": "s1", "jti": "t1"}))
		u, err := a.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := time.Until(u.Expires), time.Hour+10*time.Second; got != want {
			t.Errorf("expires in %v, want %v", got, want)
		}
		if u.Session != "s1" {
			t.Errorf("Session is %q, want the sid", u.Session)
		}
		time.Sleep(time.Hour + 9*time.Second)
		if _, err := a.Recheck(t.Context(), u); err != nil {
			t.Errorf("within the leeway: recheck %v", err)
		}
		if _, err := a.Verify(t.Context(), token); err != nil {
			t.Errorf("within the leeway: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := a.Recheck(t.Context(), u); consumer.CloseStatus(err) != consumer.StatusExpired {
			t.Errorf("after the leeway: recheck %v, want 4101", err)
		}
		if _, err := a.Verify(t.Context(), token); err == nil || !strings.Contains(err.Error(), "the token has expired") {
			t.Errorf("after the leeway: %v", err)
		}
	})
}

func TestUserOption(t *testing.T) {
	opts := valid()
	closed := false
	opts.UserClaim = "email"
	opts.User = func(_ context.Context, c Claims) (consumer.User, error) {
		if closed {
			return consumer.User{}, nil
		}
		return consumer.User{ID: "ignored", Data: c["role"]}, nil
	}
	a := newAuthenticator(t, opts)
	u, err := a.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, secret, claims(jwt.MapClaims{"email": "a@example.com", "role": "admin"})))
	if err != nil {
		t.Fatal(err)
	}
	token, ok := u.Data.(*Token)
	if u.ID != "a@example.com" || !ok || token.Data != "admin" || token.Claims["sub"] != "ada" {
		t.Errorf("got %+v with %+v", u, token)
	}
	u.Via = "2"
	if now, err := a.Recheck(t.Context(), u); err != nil || now.ID != u.ID || now.Via != "2" {
		t.Errorf("recheck: %+v, %v", now, err)
	}
	closed = true
	if _, err := a.Recheck(t.Context(), u); consumer.CloseStatus(err) != consumer.StatusUnauthorized {
		t.Errorf("recheck of a closed account: %v, want 4001", err)
	}
}

func TestNewErrors(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyFunc := func(*jwt.Token) (any, error) { return secret, nil }
	tests := []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Algorithms = nil }, "Algorithms is empty"},
		{func(o *Options) { o.Algorithms = []string{"none"} }, `"none"`},
		{func(o *Options) { o.Algorithms = []string{"HS256", "NONE"} }, `"NONE"`},
		{func(o *Options) { o.Algorithms = []string{"hs256"} }, `"hs256"`},
		{func(o *Options) { o.Algorithms = []string{""} }, `""`},
		{func(o *Options) { o.Algorithms = []string{"HS256", "RS256"} }, "mixes"},
		{func(o *Options) { o.Issuer = "" }, "Issuer"},
		{func(o *Options) { o.Audience = nil }, "Audience"},
		{func(o *Options) { o.Audience = []string{"a", ""} }, "Audience"},
		{func(o *Options) { o.Leeway = -1 }, "Leeway"},
		{func(o *Options) { o.Leeway = time.Hour }, "Leeway"},
		{func(o *Options) { o.Keys = nil }, "give one"},
		{func(o *Options) { o.KeyFunc = keyFunc }, "both set"},
		{func(o *Options) { o.Keys = []any{"a text"} }, "string"},
		{func(o *Options) { o.Keys = []any{secret[:31]} }, "31 bytes"},
		{func(o *Options) { o.Keys = []any{[]byte{}} }, "0 bytes"},
		{func(o *Options) { o.Algorithms = []string{"HS512"} }, "at least 64"},
		{func(o *Options) { o.Keys = []any{secret, public} }, "Keys[1]"},
		{func(o *Options) { o.Algorithms, o.Keys = []string{"EdDSA", "ES256"}, []any{public} }, "no key for ES256"},
	}
	for _, tt := range tests {
		opts := valid()
		tt.change(opts)
		if _, err := New(opts); err == nil || !strings.HasPrefix(err.Error(), "jwt: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got error %v, want %q in it", err, tt.want)
		}
	}
	if _, err := New(nil); err == nil {
		t.Error("New(nil): no error")
	}
}

func FuzzVerify(f *testing.F) {
	a, err := New(valid())
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.")
	f.Add("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		u, err := a.Verify(t.Context(), token)
		if err == nil || !u.Anonymous() {
			t.Errorf("%q was accepted as %+v", token, u)
		}
	})
}
