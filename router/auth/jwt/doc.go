// Package jwt finds a connection's user in a bearer token: a JSON Web Token
// (RFC 7519) in the Authorization header or in a subprotocol
// ([auth.BearerPrefix]).
//
// It follows RFC 8725: the algorithms are listed and never taken from the token,
// issuer, audience and expiry are required, and secrets are long enough. What a
// client is told about a refused token is that it is not valid, or has expired;
// why is in the error, for the log. Neither holds the token.
//
// User.Session is the claim "sid", or else "jti", so that one login or one token
// can be kicked.
package jwt
