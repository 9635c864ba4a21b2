package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
)

// byHeader knows the user that a header names, and says no to "bad".
type byHeader struct {
	name string
	gone bool // for Recheck
}

func (a *byHeader) Authenticate(r *http.Request) (consumer.User, error) {
	id := r.Header.Get(a.name)
	if id == "bad" {
		return consumer.User{}, consumer.Deny(http.StatusUnauthorized, "bad "+a.name)
	}
	if id == "visitor" {
		return consumer.User{Session: a.name}, nil
	}
	return consumer.User{ID: id}, nil
}

func (a *byHeader) Recheck(_ context.Context, u consumer.User) (consumer.User, error) {
	if a.gone {
		return consumer.User{}, nil
	}
	u.Data = a.name
	return u, nil
}

func TestFirst(t *testing.T) {
	a, b, c := &byHeader{name: "A"}, &byHeader{name: "B"}, &byHeader{name: "C"}
	stack := auth.First(a, auth.First(b, c))
	tests := []struct {
		header  http.Header
		want    consumer.User
		refused string
	}{
		{http.Header{}, consumer.User{}, ""},
		{http.Header{"A": {"ada"}}, consumer.User{ID: "ada", Via: "0"}, ""},
		{http.Header{"C": {"carl"}}, consumer.User{ID: "carl", Via: "1/1"}, ""},
		{http.Header{"A": {"ada"}, "C": {"carl"}}, consumer.User{ID: "ada", Via: "0"}, ""},
		{http.Header{"A": {"ada"}, "C": {"bad"}}, consumer.User{ID: "ada", Via: "0"}, ""},
		{http.Header{"A": {"bad"}, "C": {"carl"}}, consumer.User{}, "bad A"},
		{http.Header{"A": {"visitor"}, "C": {"carl"}}, consumer.User{ID: "carl", Via: "1/1"}, ""},
		{http.Header{"B": {"visitor"}, "C": {"visitor"}}, consumer.User{Session: "B", Via: "1/0"}, ""},
	}
	for _, tt := range tests {
		got, err := stack.Authenticate(&http.Request{Header: tt.header})
		if got != tt.want || (err != nil) != (tt.refused != "") || err != nil && !strings.Contains(err.Error(), tt.refused) {
			t.Errorf("%v: got %+v, %v; want %+v, %q", tt.header, got, err, tt.want, tt.refused)
		}
		if err != nil || got.Via == "" {
			continue
		}
		again, err := stack.Recheck(t.Context(), got)
		if err != nil || again.Via != tt.want.Via || again.ID != tt.want.ID || tt.header.Get(again.Data.(string)) == "" {
			t.Errorf("%v: recheck gave %+v, %v; want it of whom knew %+v", tt.header, again, err, got)
		}
	}
}

func TestFirstRecheckOfUnknown(t *testing.T) {
	stack := auth.First(&byHeader{name: "A"})
	if u, err := stack.Recheck(t.Context(), consumer.User{ID: "made up"}); err != nil || u.ID != "made up" {
		t.Errorf("a made-up user: %+v, %v", u, err)
	}
	for _, via := range []string{"1", "-1", "x", "0x0", "/"} {
		if _, err := stack.Recheck(t.Context(), consumer.User{ID: "a", Via: via}); err == nil {
			t.Errorf("Via %q: no error", via)
		}
	}
}

func TestRequired(t *testing.T) {
	inner := &byHeader{name: "A"}
	required := auth.Required(inner)
	_, err := required.Authenticate(&http.Request{Header: http.Header{}})
	var deny *consumer.DenyError
	if !errors.As(err, &deny) || deny.Status != http.StatusUnauthorized {
		t.Errorf("anonymous: %v, want 401", err)
	}
	u, err := required.Authenticate(&http.Request{Header: http.Header{"A": {"ada"}}})
	if err != nil || u.ID != "ada" {
		t.Errorf("ada: %+v, %v", u, err)
	}
	if _, err := required.Recheck(t.Context(), u); err != nil {
		t.Errorf("recheck: %v", err)
	}
	inner.gone = true
	if _, err := required.Recheck(t.Context(), u); consumer.CloseStatus(err) != consumer.StatusUnauthorized {
		t.Errorf("recheck of somebody gone: %v, want 4001", err)
	}
}

func TestNilAuthenticatorsPanic(t *testing.T) {
	for name, make := range map[string]func(){
		"First":    func() { auth.First(&byHeader{}, nil) },
		"Required": func() { auth.Required(nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s(nil) did not panic", name)
				}
			}()
			make()
		}()
	}
}

func TestFunc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := auth.Func(func(r *http.Request) (consumer.User, error) {
			return consumer.User{ID: "ada", Expires: time.Now().Add(time.Minute)}, nil
		})
		u, err := f.Authenticate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Recheck(t.Context(), u); err != nil {
			t.Errorf("before the expiry: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := f.Recheck(t.Context(), u); consumer.CloseStatus(err) != consumer.StatusExpired {
			t.Errorf("at the expiry: %v, want 4101", err)
		}
		if _, err := f.Recheck(t.Context(), consumer.User{ID: "ada"}); err != nil {
			t.Errorf("without an expiry: %v", err)
		}
	})
}

func protocol(token string) string {
	return auth.BearerPrefix + base64.RawURLEncoding.EncodeToString([]byte(token))
}

func TestBearerToken(t *testing.T) {
	tests := []struct {
		name      string
		header    http.Header
		want      string
		wantError bool
	}{
		{"none", http.Header{}, "", false},
		{"header", http.Header{"Authorization": {"Bearer a.b.c"}}, "a.b.c", false},
		{"any case", http.Header{"Authorization": {"bEARER a.b.c"}}, "a.b.c", false},
		{"more blanks", http.Header{"Authorization": {"Bearer   a.b.c "}}, "a.b.c", false},
		{"another scheme", http.Header{"Authorization": {"Basic dTpw"}}, "", false},
		{"scheme alone", http.Header{"Authorization": {"Bearer"}}, "", true},
		{"another word", http.Header{"Authorization": {"Bearers a.b.c"}}, "", false},
		{"two headers", http.Header{"Authorization": {"Bearer a", "Bearer b"}}, "", true},
		{"subprotocol", http.Header{"Sec-Websocket-Protocol": {"tideway.v1, " + protocol("a.b.c")}}, "a.b.c", false},
		{"subprotocol first", http.Header{"Sec-Websocket-Protocol": {protocol("a.b.c") + ",tideway.v1"}}, "a.b.c", false},
		{"in a second header", http.Header{"Sec-Websocket-Protocol": {"tideway.v1", protocol("a.b.c")}}, "a.b.c", false},
		{"two subprotocols", http.Header{"Sec-Websocket-Protocol": {protocol("a") + ", " + protocol("a")}}, "", true},
		{"both", http.Header{"Authorization": {"Bearer a"}, "Sec-Websocket-Protocol": {protocol("a")}}, "", true},
		{"empty subprotocol", http.Header{"Sec-Websocket-Protocol": {auth.BearerPrefix}}, "", true},
		{"padding", http.Header{"Sec-Websocket-Protocol": {auth.BearerPrefix + "YQ=="}}, "", true},
		{"loose bits", http.Header{"Sec-Websocket-Protocol": {auth.BearerPrefix + "YR"}}, "", true},
		{"another alphabet", http.Header{"Sec-Websocket-Protocol": {auth.BearerPrefix + "++//"}}, "", true},
		{"others", http.Header{"Sec-Websocket-Protocol": {"tideway.v1, tideway.bearer, graphql-ws,, "}}, "", false},
		{"too long", http.Header{"Authorization": {"Bearer " + strings.Repeat("a", 16<<10+1)}}, "", true},
	}
	for _, tt := range tests {
		got, err := auth.BearerToken(&http.Request{Header: tt.header})
		if got != tt.want || (err != nil) != tt.wantError {
			t.Errorf("%s: got %.20q, %v; want %q, error %v", tt.name, got, err, tt.want, tt.wantError)
		}
		var deny *consumer.DenyError
		if err != nil && (!errors.As(err, &deny) || deny.Status != http.StatusBadRequest) {
			t.Errorf("%s: error %v, want 400", tt.name, err)
		}
	}
}

func FuzzBearer(f *testing.F) {
	f.Add("Bearer a.b.c", "tideway.v1")
	f.Add("", "tideway.v1, "+protocol("a.b.c"))
	f.Add("Basic x", auth.BearerPrefix+"YQ==")
	f.Fuzz(func(t *testing.T, authorization, protocols string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{"Authorization": {authorization}, "Sec-Websocket-Protocol": {protocols}}
		token, err := auth.BearerToken(r)
		if err != nil {
			var deny *consumer.DenyError
			if token != "" || !errors.As(err, &deny) {
				t.Errorf("token %q with error %v", token, err)
			}
			// Short ones occur in any text by chance.
			for _, part := range strings.Split(protocols, auth.BearerPrefix) {
				if len(part) > 16 && strings.Contains(err.Error(), part) {
					t.Errorf("the error repeats what was sent: %v", err)
				}
			}
			return
		}
		if token == "" {
			return
		}
		again, err := auth.BearerToken(&http.Request{Header: http.Header{"Sec-Websocket-Protocol": {"tideway.v1, " + protocol(token)}}})
		if again != token || err != nil {
			t.Errorf("token %q as a subprotocol is read as %q, %v", token, again, err)
		}
	})
}
