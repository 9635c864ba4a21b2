package jwt_test

import (
	"encoding/base64"
	"fmt"
	"log"
	"net/http/httptest"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/tideway-go/tideway/router/auth"
	"github.com/tideway-go/tideway/router/auth/jwt"
)

// The page offers its token as a subprotocol, beside the one that it speaks.
func ExampleNew() {
	secret := []byte("thirty-two random bytes, or more")
	users, err := jwt.New(&jwt.Options{
		Algorithms: []string{"HS256"},
		Issuer:     "https://login.example.com",
		Audience:   []string{"chat"},
		Keys:       []any{secret},
		Leeway:     30 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}

	token, err := gojwt.NewWithClaims(gojwt.SigningMethodHS256, gojwt.MapClaims{
		"iss": "https://login.example.com", "aud": "chat", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString(secret)
	if err != nil {
		log.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/ws/", nil)
	r.Header.Set("Sec-WebSocket-Protocol", "tideway.v1, "+auth.BearerPrefix+base64.RawURLEncoding.EncodeToString([]byte(token)))

	u, err := users.Authenticate(r)
	fmt.Println(u.ID, err)
	// Output: ada <nil>
}
