// Package session finds a connection's user in the browser session of the site:
// sessions of alexedwards/scs, in any of its stores.
//
// [Sessions] is an [auth.Authenticator]. It reads the session by the cookie's
// token, so it needs no middleware around the router and does not mind
// LoadAndSave. [Sessions.Login] and [Sessions.Logout] change the user over the
// socket, and the store at once: there is no response to save with later.
// Two requests that change one session at a time overwrite each other, as with
// scs in general: the last Commit stays.
//
// # Session fixation
//
// Whoever knows a session's token is whoever is logged in to it. So a login must
// not happen under a token that somebody else may know, say because they planted
// it as a cookie from a neighbouring subdomain. A page's login handler calls
// RenewToken. Over an open socket no cookie can be set, so the new token has to
// come first:
//
//   - Connect calls [Sessions.Start]: an anonymous visitor goes on under a new
//     token, whose cookie goes out with the 101. Login is then safe.
//   - Login on a token that came in with the handshake returns [ErrNotRenewed],
//     unless Options.KeepToken says that the cookie cannot be planted. That is so
//     when its name begins with __Host- (which wants Secure, Path "/" and no
//     Domain): browsers then take it from this very host only.
//
// Channels (channels/auth.py) renews the key during login and has no way to tell
// the browser: the socket is logged in, and the next page is not. Both ways here
// keep socket and pages together.
//
// Another user's data is dropped when somebody logs in over it; an anonymous
// visitor's is kept. Logout deletes the session; a page's handler calls
// [Sessions.End], which closes the sockets of that session, too.
package session
