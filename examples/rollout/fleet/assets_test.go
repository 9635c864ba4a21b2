package fleet_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/examples/rollout/fleet"
)

func TestAssets(t *testing.T) {
	site := newStage(t, time.Millisecond).web()
	b := browse(t, site, "")
	for path, want := range map[string]string{
		"page/rollout.js": "connect(", "page/rollout.css": "color-scheme", "page/icon.svg": "<svg", "tideway/index.js": "connect", "whoami": "",
	} {
		if status, body := b.get(path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %.100q, want %q", path, status, body, want)
		}
	}

	// What the page refers to may be kept, and by other names it may not.
	_, body := b.get("")
	style := regexp.MustCompile(`page/rollout\.css\?v=\w+`).FindString(body)
	for path, want := range map[string]string{style: "public, max-age=31536000, immutable", style + "0": "no-cache", "page/rollout.css": "no-cache"} {
		r, err := b.Get(site.URL + fleet.Path + path)
		if status, _ := b.read(r, err); status != http.StatusOK || r.Header.Get("Cache-Control") != want {
			t.Errorf("%s: got %d, Cache-Control %q, want %q", path, status, r.Header.Get("Cache-Control"), want)
		}
	}
}
