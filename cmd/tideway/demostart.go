package main

import (
	"embed"
	"html/template"
	"io/fs"
	"net/http"

	"github.com/tideway-go/tideway/router/clientjs"
)

//go:embed start start.html
var startFiles embed.FS

var startTemplate = template.Must(template.ParseFS(startFiles, "start.html"))

// startPolicy lets the page load and open only what this server has.
const startPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

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
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", startPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		mux.ServeHTTP(w, r)
	})
}
