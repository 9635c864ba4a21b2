// Package httpapi is the door for programs that speak HTTP and nothing else.
//
//	api, err := httpapi.New(l, &httpapi.Options{Keys: keys})
//	mux.Handle("/api/v1/", api)
//
// # Credentials
//
// A request shows a [Key], as "Authorization: Bearer KEY" or as "X-API-Key: KEY".
// What the key may do, its scopes say. Without keys every request is refused.
// Cookies are ignored: a page that a user visits can do nothing in the user's
// name. A request that a browser made for a page of another site is refused, unless
// Options.Origins lists that site, and so is a body that is not application/json.
//
// # More routes
//
// [API.Handle] adds routes that have the same keys, limits and errors.
package httpapi
