package room

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed page
var files embed.FS

// Page serves the chat's page at "/", and its style, scripts and icon beside it.
// The page takes the room and the visitor's name from its address,
// /?room=lobby&name=ann, and opens a socket at /ws/chat/lobby/ of the same
// server.
func Page() http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the path is constant
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", withPolicy(http.FileServerFS(page)))
	return mux
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
