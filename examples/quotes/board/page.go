package board

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/tideway-go/tideway/router/clientjs"
)

//go:embed page
var files embed.FS

// Page serves the board's page at "/", and what it needs beside it. It opens its
// socket at /ws/quotes/ of the same server.
func Page() http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the path is constant
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(page))
	mux.Handle("GET /tideway/", http.StripPrefix("/tideway/", clientjs.Handler()))
	return withPolicy(mux)
}

// policy lets the page load and open only what this server has.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func withPolicy(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-cache")
		h.ServeHTTP(w, r)
	})
}
