package board

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/tideway-go/tideway/examples/pages"
	"github.com/tideway-go/tideway/router/clientjs"
)

//go:embed page
var files embed.FS

// Page serves the board's page at "/", and what it needs beside it. It opens its
// socket at /ws/quotes/ of the same server.
func Page() http.Handler {
	assets, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the path is constant
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(assets))
	mux.Handle("GET /tideway/", http.StripPrefix("/tideway/", clientjs.Handler()))
	return pages.Strict(mux)
}
