package room

import (
	"embed"
	"html/template"
	"io/fs"
	"net/http"

	"github.com/tideway-go/tideway/examples/pages"
	"github.com/tideway-go/tideway/examples/terminal"
)

//go:embed page page.html
var files embed.FS

var html = template.Must(template.ParseFS(files, "page.html"))

// Page serves the chat's page at "/", and its style, scripts and icon beside it.
// The page shows commands for terminals, those of package terminal if they are
// nil. It takes the room and the visitor's name from its address,
// /?room=lobby&name=ann, and opens a socket at /ws/chat/lobby/ of the same
// server.
func Page(commands []terminal.Command) http.Handler {
	if commands == nil {
		commands = terminal.Commands()
	}
	assets, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the path is constant
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = html.Execute(w, commands) // fails when the client has gone
	})
	mux.Handle("GET /", http.FileServerFS(assets))
	return pages.Strict(mux)
}
