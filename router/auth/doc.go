// Package auth says who stands behind a connection.
//
// router.Options.Authenticate takes an [Authenticator]. It is asked before the
// upgrade, so that a refusal is an ordinary HTTP answer, and again while the
// connection lives: when the credentials expire, and on a timer. The leaf
// packages hold one kind each, so that a program links only what it uses:
//
//   - auth/session: the session cookie of the site (alexedwards/scs), with login
//     and logout over the socket
//   - auth/jwt: a bearer token, in the Authorization header or in a subprotocol
//     (see [BearerPrefix])
//   - auth/ticket: a one-time ticket in the query, kept by the layer for 30 seconds
//   - [Func]: a function of your own
//
// [First] asks several in order, [Required] lets nobody in who is unknown:
//
//	Authenticate: auth.Required(auth.First(tokens, tickets, sessions))
//
// # Which one
//
// A cookie is right when page and socket share a site: nothing has to be done in
// the page. The browser sends it whatever page opens the socket, which is why
// router.Options.Origins is checked first. A bearer token is right for pages and
// programs that have one anyway. A ticket is right where cookies do not reach and
// a token must not stand in a URL: URLs end up in logs, where a used ticket is
// worth nothing.
//
// # Coming from AuthMiddlewareStack
//
// In Channels, AuthMiddlewareStack(app) is CookieMiddleware around
// SessionMiddleware around AuthMiddleware, and that order is the whole point:
// the first parses the Cookie header, the second finds the session by one of the
// cookies, the third finds the user by what the session says, and each fails
// with a ValueError when the one before it is missing. Around the three stands
// AllowedHostsOriginValidator, or any site could use the visitor's cookies.
//
// Here the order is the router's, and cannot be got wrong:
//
//	Channels                       here
//	AllowedHostsOriginValidator    router.Options.Hosts and Origins, first and by default
//	CookieMiddleware               net/http: Request.Cookie
//	SessionMiddleware              auth/session: loads the session by the cookie's token
//	AuthMiddleware                 auth/session: the user id in the session, Options.User
//	scope["user"]                  Conn.User()
//	scope["session"]               Conn.User().Session names it; session.Options.User reads it
//	login(), logout()              Sessions.Login and Logout; saved at once, as
//	                               Channels asks its callers to do by hand
//	a middleware of one's own      auth.Func, or any func(http.Handler) http.Handler around the router
//
// One thing differs on purpose: Channels finds the user once and believes it for
// as long as the socket lives. Here a logout, an expiry or a deleted user ends
// the connection at its next recheck, with a close code that says whether coming
// back makes sense.
package auth
