package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// checkOrigins refuses settings that no browser's Origin header can equal
// (RFC 6454, section 6.2).
func checkOrigins(origins []string) error {
	for _, o := range origins {
		u, err := url.Parse(o)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.Scheme+"://"+u.Host != o || strings.ToLower(o) != o {
			return fmt.Errorf(`httpapi: Options.Origins has %q; write what browsers send, in lower case and without a slash at the end: "https://example.com"`, o)
		}
	}
	return nil
}

// admitOrigin decides whether the page that made a browser send this may do so,
// and lets it read the answer. A request of a program carries none of the headers
// that it looks at.
//
// Cookies are no credentials here, so a foreign page can do nothing in its
// visitor's name. The check is a second wall, and the only one where the API is
// open.
func (a *API) admitOrigin(w http.ResponseWriter, r *http.Request) error {
	origins, site := r.Header.Values("Origin"), r.Header.Get("Sec-Fetch-Site")
	w.Header().Add("Vary", "Origin")
	switch {
	case len(origins) > 1:
		return Errorf(http.StatusForbidden, "origin", "%d Origin headers in one request", len(origins))
	case len(origins) == 0 && (site == "" || site == "same-origin" || site == "none"):
		return nil
	case len(origins) == 0:
		return Errorf(http.StatusForbidden, "origin", "a page of another site may not ask for this without saying which (CORS)")
	case slices.Contains(a.opts.Origins, origins[0]):
		w.Header().Set("Access-Control-Allow-Origin", origins[0])
		w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
		return nil
	case sameOrigin(origins[0], r.Host) && (site == "" || site == "same-origin"):
		return nil
	}
	return Errorf(http.StatusForbidden, "origin", "pages of %.120q may not ask for this", origins[0])
}

// sameOrigin reports whether an Origin header names the host that the request is
// for. The scheme may differ: a proxy may speak TLS for us.
func sameOrigin(origin, host string) bool {
	scheme, rest, found := strings.Cut(origin, "://")
	return found && (scheme == "http" || scheme == "https") && strings.EqualFold(rest, host)
}

// preflight answers a browser that asks whether a page may send a request
// (the CORS protocol of the Fetch standard), and reports whether r was that.
func (a *API) preflight(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	if err := a.admitOrigin(w, r); err != nil {
		a.refuse(w, r, err)
		return true
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, X-API-Key, Content-Type, Idempotency-Key, Last-Event-ID")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// admitHost stops DNS rebinding: a stranger's name that leads to this server.
func (a *API) admitHost(r *http.Request) error {
	if len(a.opts.Hosts) == 0 && !a.opts.Open {
		return nil // whoever comes by a strange name has no key
	}
	host := strings.ToLower(r.Host)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if len(a.opts.Hosts) == 0 {
		addr, err := netip.ParseAddr(host)
		if host == "localhost" || err == nil && addr.IsLoopback() {
			return nil
		}
	} else if slices.ContainsFunc(a.opts.Hosts, func(h string) bool { return h == "*" || strings.EqualFold(strings.Trim(h, "[]"), host) }) {
		return nil
	}
	return Errorf(http.StatusMisdirectedRequest, "host", "this server does not answer to the name %.120q", r.Host)
}
