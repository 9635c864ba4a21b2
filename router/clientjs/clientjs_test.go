package clientjs

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
)

// ask makes one request of a handler mounted as the documentation says.
func ask(method, path string, header map[string]string) *http.Response {
	mux := http.NewServeMux()
	mux.Handle("/tideway/", http.StripPrefix("/tideway/", Handler()))
	r := httptest.NewRequest(method, "/tideway/"+path, nil)
	for name, value := range header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w.Result()
}

func TestBundlesAreSmall(t *testing.T) {
	for name, f := range files() {
		if len(f.zipped) > 4096 {
			t.Errorf("%s: %d bytes with gzip, want at most 4096", name, len(f.zipped))
		}
	}
}

func TestHandlerServes(t *testing.T) {
	for name := range kinds {
		want, err := os.ReadFile("dist/" + name)
		if err != nil {
			t.Fatal(err)
		}
		tags := map[string]bool{}
		for _, encoding := range []string{"", "gzip"} {
			r := ask("GET", name, map[string]string{"Accept-Encoding": encoding})
			if got := r.Header.Get("Content-Encoding"); r.StatusCode != 200 || got != encoding {
				t.Fatalf("%s accepting %q: got %d with %q", name, encoding, r.StatusCode, got)
			}
			var body io.Reader = r.Body
			if encoding == "gzip" {
				if body, err = gzip.NewReader(r.Body); err != nil {
					t.Fatal(err)
				}
			}
			got, err := io.ReadAll(body)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s accepting %q: got other bytes than the file has (%v)", name, encoding, err)
			}
			for header, want := range map[string]string{
				"Content-Type":           "text/javascript; charset=utf-8",
				"Cache-Control":          "no-cache",
				"Vary":                   "Accept-Encoding",
				"X-Content-Type-Options": "nosniff",
			} {
				if got := r.Header.Get(header); got != want {
					t.Errorf("%s accepting %q: %s: got %q, want %q", name, encoding, header, got, want)
				}
			}
			tag := r.Header.Get("ETag")
			if tags[tag] {
				t.Errorf("%s: both forms have the strong ETag %s", name, tag)
			}
			tags[tag] = true
			again := ask("GET", name, map[string]string{"Accept-Encoding": encoding, "If-None-Match": `"x", W/` + tag})
			if rest, _ := io.ReadAll(again.Body); again.StatusCode != http.StatusNotModified || len(rest) > 0 || again.Header.Get("ETag") != tag {
				t.Errorf("%s with its ETag: got %d with %d bytes", name, again.StatusCode, len(rest))
			}
		}
	}
}

func TestHandlerAnswers(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
		cache        string
	}{
		{"HEAD", "tideway.js", 200, "no-cache"},
		{"GET", URL("tideway.js"), 200, "public, max-age=31536000, immutable"},
		{"GET", "tideway.js?v=older", 200, "no-cache"},
		{"GET", "client.d.ts", 404, ""},
		{"GET", "", 404, ""},
		{"POST", "index.js", 405, ""},
	} {
		r := ask(c.method, c.path, nil)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Header.Get("Cache-Control"); r.StatusCode != c.status || got != c.cache {
			t.Errorf("%s %s: got %d, Cache-Control %q, want %d, %q", c.method, c.path, r.StatusCode, got, c.status, c.cache)
		}
		if c.method == "HEAD" && (len(body) > 0 || r.ContentLength == 0) {
			t.Errorf("HEAD: got %d bytes, length %d", len(body), r.ContentLength)
		}
	}
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"gzip": true, "br, GZIP;q=0.5": true, "deflate": false, "gzip;q=0": false, "gzip; q=0.000": false, "*": false, "gzip;q=x": false, "": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", header)
		if got := acceptsGzip(r); got != want {
			t.Errorf("Accept-Encoding %q: got %v, want %v", header, got, want)
		}
	}
}

func TestURLOfAnotherFile(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("URL took a name that is no file")
		}
	}()
	URL("nothing.js")
}
