package consumer

import "time"

// User is who stands behind a connection. The zero User is anonymous.
// Authentication (router.Options.Authenticate, package auth) makes it.
type User struct {
	// ID names the user; "" is anonymous. Limits per user and `tideway kick
	// --user` go by it.
	ID string

	// Session names the login or browser session, where there is one, so that
	// one of a user's sessions can be told from another. It is no secret: never
	// put a cookie's value or a token here.
	Session string

	// Expires is when the credentials end; the zero time is never. At that
	// time the connection is checked again, and closed if they were not renewed.
	Expires time.Time

	// Data is whatever the authenticator adds: claims, a row, roles.
	Data any

	// Via is auth.First's: it names the authenticator that knew the user, so
	// that the same one is asked again. Keep it when you change a user, leave it
	// empty when you make one up.
	Via string
}

// Anonymous reports whether nobody is logged in.
func (u User) Anonymous() bool { return u.ID == "" }

// Same reports whether u and v are the same user in the same session.
func (u User) Same(v User) bool { return u.ID == v.ID && u.Session == v.Session }

// zero reports whether nothing is known: an anonymous visitor may still have a
// session, which a login over the socket needs.
func (u User) zero() bool { return u.Anonymous() && u.Session == "" && u.Data == nil }

// pointer returns a copy of u to point at, nil for the zero User.
func (u User) pointer() *User {
	if u.zero() {
		return nil
	}
	return &u
}

// user is the inverse of pointer.
func (u *User) user() User {
	if u == nil {
		return User{}
	}
	return *u
}
