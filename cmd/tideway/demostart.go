package main

import (
	"embed"
	"html/template"
	"io/fs"
	"net/http"

	"github.com/tideway-go/tideway/examples/pages"
	"github.com/tideway-go/tideway/router/clientjs"
)

//go:embed start start.html
var startFiles embed.FS

var startTemplate = template.Must(template.ParseFS(startFiles, "start.html"))

// startPage serves the page at the demo's root, which shows what there is, and how
// to push into it. What it needs is beside it.
func startPage(g *greeting) http.Handler {
	assets, err := fs.Sub(startFiles, "start")
	if err != nil {
		panic(err) // the path is constant
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = startTemplate.Execute(w, g) // fails when the client has gone
	})
	mux.Handle("GET /start/", http.StripPrefix("/start/", http.FileServerFS(assets)))
	mux.Handle("GET /start/tideway/", http.StripPrefix("/start/tideway/", clientjs.Handler()))
	return pages.Strict(mux)
}
