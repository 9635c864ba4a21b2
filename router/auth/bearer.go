package auth

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/tideway-go/tideway/consumer"
)

// BearerPrefix begins the subprotocol that carries a bearer token: the token's
// bytes follow in base64url without padding. A script in a browser cannot set
// headers on a WebSocket, but it can offer subprotocols:
//
//	new WebSocket(url, ["tideway.v1", "tideway.bearer." + base64url(token)])
//
// The server answers with the other one, never with this one; a browser that is
// answered with none gives up, so it is always offered beside another.
const BearerPrefix = "tideway.bearer."

// maxToken is the length in bytes from which a bearer token is refused unread.
const maxToken = 16 << 10

// IsBearer reports whether an offered subprotocol carries a token. Such a one is
// neither chosen nor logged.
func IsBearer(subprotocol string) bool { return strings.HasPrefix(subprotocol, BearerPrefix) }

// BearerToken returns the token of the Authorization header (RFC 6750, section
// 2.1) or of a subprotocol that [IsBearer], and "" if there is none. Other
// Authorization schemes are none of its business. More than one token, and one
// that cannot be read, are a *consumer.DenyError of 400, which does not repeat
// it. The token is checked for nothing else.
func BearerToken(r *http.Request) (string, error) {
	var tokens []string
	for _, value := range r.Header.Values("Authorization") {
		scheme, token, _ := strings.Cut(value, " ")
		if strings.EqualFold(scheme, "Bearer") {
			tokens = append(tokens, strings.Trim(token, " "))
		}
	}
	for _, value := range r.Header.Values("Sec-WebSocket-Protocol") {
		for offered := range strings.SplitSeq(value, ",") {
			offered = strings.Trim(offered, " \t")
			if !IsBearer(offered) {
				continue
			}
			token, err := base64.RawURLEncoding.Strict().DecodeString(offered[len(BearerPrefix):])
			if err != nil {
				return "", consumer.Deny(http.StatusBadRequest, "the bearer subprotocol is not base64url without padding")
			}
			tokens = append(tokens, string(token))
		}
	}
	switch {
	case len(tokens) == 0:
		return "", nil
	case len(tokens) > 1:
		return "", consumer.Deny(http.StatusBadRequest, "more than one bearer token")
	case tokens[0] == "" || len(tokens[0]) > maxToken:
		return "", consumer.Deny(http.StatusBadRequest, "the bearer token is empty or too long")
	}
	return tokens[0], nil
}
