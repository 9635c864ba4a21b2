// Package clientjs serves Tideway's browser client, which comes back by itself and
// resumes its groups. It is the npm package tideway-client, built and embedded: a
// page needs no bundler and no registry.
//
//	mux.Handle("GET /tideway/", http.StripPrefix("/tideway/", clientjs.Handler()))
//
// A page loads it in one of two ways:
//
//	<script src="/tideway/tideway.js"></script>  then  Tideway.connect("/ws/chat/lobby/")
//	import { connect } from "/tideway/index.js"
package clientjs

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

//go:embed dist/tideway.js dist/index.js
var dist embed.FS

// kinds are the files that Handler serves and what they are.
var kinds = map[string]string{
	"tideway.js": "text/javascript; charset=utf-8", // a global Tideway, for a script tag
	"index.js":   "text/javascript; charset=utf-8", // a module
}

// file is one file in both forms.
type file struct {
	kind          string
	plain, zipped []byte
	tag           string // of its content, in hex
}

// files are made when the first is asked for.
var files = sync.OnceValue(func() map[string]*file {
	all := map[string]*file{}
	for name, kind := range kinds {
		plain, err := dist.ReadFile("dist/" + name)
		if err != nil {
			panic(err) // the path is constant
		}
		sum := sha256.Sum256(plain)
		all[name] = &file{kind: kind, plain: plain, zipped: zip(plain), tag: hex.EncodeToString(sum[:8])}
	}
	return all
})

func zip(plain []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is constant
	}
	_, _ = w.Write(plain) // a Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// Handler serves tideway.js, for a script tag, and index.js, a module: the last
// element of the URL's path says which. Each has a strong ETag and is compressed
// for whom accepts gzip. It is to be asked for again each time, which costs a 304,
// unless the URL comes from [URL]: that may be kept for a year. Methods other than
// GET and HEAD get 405, other names 404. It may be used from many goroutines.
func Handler() http.Handler { return http.HandlerFunc(serve) }

// URL returns name, which is "tideway.js" or "index.js", with a query that changes
// with the file's content: "tideway.js?v=1f0c…". A page that writes it need not ask
// again whether the file has changed. It panics for another name.
func URL(name string) string {
	f := files()[name]
	if f == nil {
		panic(fmt.Sprintf("clientjs: URL: there is no %q; use \"tideway.js\" or \"index.js\"", name))
	}
	return name + "?v=" + f.tag
}

func serve(w http.ResponseWriter, r *http.Request) {
	f := files()[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
	switch {
	case f == nil:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "clientjs: GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if r.URL.RawQuery == "v="+f.tag {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body, etag := f.plain, `"`+f.tag+`"`
	zipped := acceptsGzip(r)
	if zipped {
		body, etag = f.zipped, `"`+f.tag+`-gzip"`
	}
	h.Set("ETag", etag)
	if matches(r, etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if zipped {
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", f.kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // fails when the client has gone
	}
}

// acceptsGzip reports whether the client takes gzip (RFC 9110, section 12.5.3).
// What it writes about "*" is passed over: the plain file suits everybody.
func acceptsGzip(r *http.Request) bool {
	for _, header := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(header, ",") {
			name, params, _ := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			weight, found := strings.CutPrefix(strings.ToLower(strings.TrimSpace(params)), "q=")
			q, err := strconv.ParseFloat(weight, 64)
			return !found || err == nil && q > 0
		}
	}
	return false
}

// matches compares If-None-Match weakly (RFC 9110, section 13.1.2).
func matches(r *http.Request, etag string) bool {
	for _, header := range r.Header.Values("If-None-Match") {
		for have := range strings.SplitSeq(header, ",") {
			have = strings.TrimPrefix(strings.TrimSpace(have), "W/")
			if have == etag || have == "*" {
				return true
			}
		}
	}
	return false
}
