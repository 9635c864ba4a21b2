// Package router serves consumers at paths: it is an http.Handler that turns
// handshakes into connections.
//
//	r, err := router.New(l, router.Table{"/ws/chat/{room}/": chat.Consumer}, nil)
//	...
//	err = router.Serve(ctx, &http.Server{Addr: ":8000", Handler: r}, nil, r)
//
// # The checks
//
// Whatever is refused is refused before the upgrade, by an ordinary HTTP answer,
// and with exactly one line in the log that says why. The checks come in this
// order, the cheap ones first:
//
//	no route matches the path                        404, or Options.NotFound
//	the router is shutting down                      503, Retry-After: 5
//	the request is no WebSocket handshake            426
//	the Host is none of Options.Hosts                403
//	the Origin is none of Options.Origins            403
//	Options.MaxConnections                           503, Retry-After: 5
//	Options.MaxPerAddress                            429, Retry-After: 30
//	Options.Admission: its turn would come too late  503, Retry-After: when it may be better
//	Options.Authenticate refuses                     its DenyError's status, else 500; see Options.FirstToken
//	Options.MaxPerUser                               429, Retry-After: 30
//	Connect refuses, or a declared group             its DenyError's status; 400 for a name that a group
//	                                                 cannot have, 503 when the network is down, else 500
//	Options.HandshakeTimeout, from authentication on 503, Retry-After: 5
//	the handshake breaks RFC 6455                    400, 405 or 426
//	the ResponseWriter cannot be taken over          501
//
// The default Origins and Hosts are the names of this machine. A site that is
// reached by another name must say so, or nobody gets in; the log line names the
// origin and what is allowed.
//
// A path must match as it is written. ServeMux redirects a path that lacks its
// last slash, or has two of them; a browser's WebSocket does not follow, so that
// it is 404 here, and the line in the log says which route it would have been.
//
// # Mounting
//
// A Router is mounted like any handler: as the whole server, at "/ws/" of a
// ServeMux, behind http.StripPrefix, in chi, gin or echo. Options.Prefix stands
// in front of all its patterns, for a router below a path that nobody strips. The
// wildcards of its patterns, of the prefix and of the muxes around it are the
// consumer's path values; the innermost of one name counts. Options.NotFound
// passes on what no route matches, so that routers can stand one behind another.
//
// Middlewares around a Router run for the handshake alone, and end with it. Their
// ResponseWriters must have Hijack, or Unwrap to one that has; http.TimeoutHandler
// has neither. The server's timeouts end with the handshake, too.
//
// A Router may serve several layers ([consumer.Type].Layer) and a layer several
// Routers. [Kick] reaches the connections of all Routers on the layers of one
// network.
//
// # Credentials
//
// Options.Authenticate finds the user before Connect; package auth has ready ones.
// While a connection is open they are looked at again: on the timer of
// Options.RecheckEvery and when they expire. Whoever no longer holds is closed
// with 4001, or with the code that the authenticator gives. A check that comes to
// no result (1013, a timeout, a panic) leaves the connection as it is, until its
// credentials expire. A login or logout over the socket ([consumer.Conn.SetUser])
// counts from then on, and no recheck undoes it.
//
// A [TokenAuthenticator] takes tokens over open connections, too, from clients that
// speak tideway.v1: new ones before the old ones expire, and with
// Options.FirstToken those of clients that showed no credentials in the handshake.
//
// # What clients speak
//
// A client that offers no subprotocol sends and receives what the consumer does. One
// that offers tideway.v1 ([consumer.Protocol]) hears of groups, positions and gaps,
// too, resumes where it left off, and gets replies; no consumer has to change for
// it. Package router/clientjs is such a client for pages, consumer/client for Go;
// docs/reference/wire.md has the frames and the close codes.
//
// # Shutdown
//
// [Router.Shutdown] refuses newcomers with 503, turns [Router.Ready] red, closes
// every connection with 1012, behind what was sent to it, and waits until every
// Disconnect has run and every client has answered, or had its time to. What a
// client had sent before is still handled. When the context of Shutdown ends
// first, handlers have theirs cancelled, and the error says how many connections
// are left. [Serve] does all of it, together with http.Server.Shutdown, when its
// own context ends. Close the layer afterwards: Disconnect may still want it.
package router
