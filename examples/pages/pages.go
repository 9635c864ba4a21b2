// Package pages answers with the pages of the examples, none of which loads or
// opens anything that is not its own server's.
package pages

import (
	"html/template"
	"net/http"
)

// policy ends with where forms go.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; form-action "

// Strict is h for pages that are the same for everybody and have no forms, and
// for what belongs to them. A browser asks each time whether they have changed.
func Strict(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head(w, policy+"'none'", "no-referrer", "no-cache")
		h.ServeHTTP(w, r)
	})
}

// Show answers with a page that is for one user: nobody keeps it, and its forms
// go to this server.
func Show(w http.ResponseWriter, status int, t *template.Template, data any) {
	head(w, policy+"'self'", "same-origin", "no-store")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = t.Execute(w, data) // fails when the client has gone
}

func head(w http.ResponseWriter, policy, referrer, cache string) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", referrer)
	h.Set("Cache-Control", cache)
}
