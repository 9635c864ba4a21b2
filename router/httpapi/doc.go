// Package httpapi is the way in for programs that speak HTTP and nothing else: a
// script with curl, a webhook, a worker in another language, a page with an
// EventSource.
//
//	api, err := httpapi.New(l, &httpapi.Options{Keys: keys})
//	mux.Handle("/api/v1/", api)
//
// It serves
//
//	POST   /api/v1/groups/{group}/messages      send a message to a group
//	GET    /api/v1/groups/{group}/messages      what a durable group has kept
//	GET    /api/v1/groups/{group}/events        messages as they come, as server-sent events
//	GET    /api/v1/groups/{group}/members       who is present in a group
//	POST   /api/v1/groups/{group}/tokens        a token for a page that reads the group
//	POST   /api/v1/channels/{channel}/messages  send a message to a channel or a queue
//	POST   /api/v1/disconnect                   close the connections of a user, session or group
//
// docs/reference/http.md has the bodies and the codes of errors. [API.Handle] adds
// routes of one's own, with the same keys, limits and errors; package jobapi does so
// for jobs.
//
// # Credentials
//
// A request shows a [Key], as "Authorization: Bearer KEY" or as "X-API-Key: KEY".
// What the key may do, its scopes say. Without keys every request is refused.
// Cookies are ignored: a page that a user visits can do nothing in the user's
// name. A request that a browser made for a page of another site is refused, unless
// Options.Origins lists that site, and so is a body that is not application/json.
//
// # Errors
//
// Every answer that is no success has the body
//
//	{"error":{"code":"forbidden","message":"these credentials do not have the scope groups.read:job.42"}}
//
// whose code is for programs and whose message is for people.
package httpapi
