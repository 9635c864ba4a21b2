package router

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// originRules decides which pages may open a socket. A browser names the page's
// origin in the Origin header of every WebSocket handshake and lets no script
// change it; cookies are sent whatever the origin is, so this check is what
// stands between a user's session and every other site. That Origin and Host
// agree proves nothing: a stranger's name that resolves to this server (DNS
// rebinding) makes them agree.
//
// A pattern is one of
//
//	example.com               that host, http or https, any port
//	.example.com              that host and its subdomains, http or https, any port
//	https://example.com       that scheme and host, on the scheme's own port
//	https://.example.com:8443 that scheme, host or subdomain, and port
//	*                         anything, a missing Origin too
//
// Hosts are compared without case and byte by byte: an international name is
// written as browsers send it, xn--bcher-kva.example. A name with a trailing dot
// is another origin to a browser and is refused, as Channels refuses it. IPv6
// addresses stand in brackets and are compared as addresses.
//
// No pattern means loopback: localhost, 127.0.0.0/8 and [::1].
type originRules struct {
	any      bool
	patterns []originPattern // none: loopback
	list     string          // for the log
}

// newOriginRules reads patterns. Its error names the one that is wrong and what
// to write instead.
func newOriginRules(patterns []string) (*originRules, error) {
	o := &originRules{list: describePatterns(patterns)}
	for _, text := range patterns {
		if text == "*" {
			if len(patterns) > 1 {
				return nil, fmt.Errorf(`router: origin pattern "*" allows every origin, so %s has no effect: keep one of the two`, o.list)
			}
			o.any = true
			continue
		}
		p, err := parseOriginPattern(text)
		if err != nil {
			return nil, fmt.Errorf("router: origin pattern %q: %w", text, err)
		}
		o.patterns = append(o.patterns, p)
	}
	return o, nil
}

// allowRequest is allow for a request: it finds the headers, and refuses one
// with several Origins, which no browser sends.
func (o *originRules) allowRequest(r *http.Request) (ok bool, why string) {
	values := r.Header.Values("Origin")
	if len(values) > 1 && !o.any {
		return false, fmt.Sprintf("%d Origin headers in one request", len(values))
	}
	origin := ""
	if len(values) > 0 {
		origin = values[0]
	}
	return o.allow(origin, len(values) > 0, len(r.Header["Cookie"]) > 0)
}

// allow decides about one Origin header. present tells an empty header from a
// missing one: scripts and tools send none, and may come without it as long as
// they carry no cookie; browsers never leave it out. why says for the log what
// was wrong, and what would have been allowed.
func (o *originRules) allow(origin string, present, hasCookie bool) (ok bool, why string) {
	switch {
	case o.any:
		return true, ""
	case !present && hasCookie:
		return false, "a cookie but no Origin header: no browser sends that; allowed are " + o.list
	case !present:
		return true, ""
	}
	a, err := parseOrigin(origin)
	if err != nil {
		return false, fmt.Sprintf("origin %s is refused: %v; allowed are %s", shorten(origin), err, o.list)
	}
	if len(o.patterns) == 0 && a.web() && a.host.loopback() {
		return true, ""
	}
	for _, p := range o.patterns {
		if p.match(a) {
			return true, ""
		}
	}
	return false, fmt.Sprintf("origin %s is not allowed; allowed are %s", shorten(origin), o.list)
}

// hostRules decides which names this server answers to. A name that it was not
// given, and that yet leads here, is a stranger's (DNS rebinding). Patterns are
// those of originRules without scheme and port; the port of the Host header is
// not compared. No pattern means loopback.
type hostRules struct {
	any   bool
	hosts []hostPattern // none: loopback
	list  string        // for the log
}

// newHostRules reads patterns. Its error names the one that is wrong and what
// to write instead.
func newHostRules(patterns []string) (*hostRules, error) {
	h := &hostRules{list: describePatterns(patterns)}
	for _, text := range patterns {
		if text == "*" {
			if len(patterns) > 1 {
				return nil, fmt.Errorf(`router: host pattern "*" allows every host, so %s has no effect: keep one of the two`, h.list)
			}
			h.any = true
			continue
		}
		if strings.Contains(text, "://") {
			return nil, fmt.Errorf("router: host pattern %q: a Host header has no scheme: write the name alone, such as example.com", text)
		}
		p, err := parseHostPattern(text)
		if err != nil {
			return nil, fmt.Errorf("router: host pattern %q: %w", text, err)
		}
		h.hosts = append(h.hosts, p)
	}
	return h, nil
}

// allow decides about one Host header. why is as in originRules.
func (h *hostRules) allow(host string) (ok bool, why string) {
	if h.any {
		return true, ""
	}
	a, _, err := parseHostPort(host)
	if err != nil {
		return false, fmt.Sprintf("host %s is refused: %v; allowed are %s", shorten(host), err, h.list)
	}
	if len(h.hosts) == 0 && a.loopback() {
		return true, ""
	}
	for _, p := range h.hosts {
		if p.match(a) {
			return true, ""
		}
	}
	return false, fmt.Sprintf("host %s is not allowed; allowed are %s", shorten(host), h.list)
}

// originPattern is one line of the rules. An empty scheme is http or https on
// any port.
type originPattern struct {
	scheme string
	host   hostPattern
	port   int
}

func (p originPattern) match(a originParts) bool {
	if p.scheme == "" {
		return a.web() && p.host.match(a.host)
	}
	return p.scheme == a.scheme && p.port == a.port && p.host.match(a.host)
}

func parseOriginPattern(text string) (originPattern, error) {
	if strings.EqualFold(text, "null") {
		return originPattern{}, errNullOrigin
	}
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		host, err := parseHostPattern(text)
		return originPattern{host: host}, err
	}
	scheme = strings.ToLower(scheme)
	switch {
	case scheme == "ws" || scheme == "wss":
		return originPattern{}, fmt.Errorf("an origin has the scheme of the page: write http%s:// in place of %s://", scheme[2:], scheme)
	case !validScheme(scheme):
		return originPattern{}, fmt.Errorf("%q is no scheme: write one such as https://example.com", scheme)
	case strings.Contains(rest, "/"):
		return originPattern{}, fmt.Errorf("an origin ends after host and port: leave the slash out")
	}
	name, sub := strings.CutPrefix(rest, ".")
	host, port, err := parseHostPort(name)
	if err != nil {
		return originPattern{}, wrapPatternError(name, err)
	}
	if sub && host.addr.IsValid() {
		return originPattern{}, fmt.Errorf("an address has no subdomains: leave the dot out")
	}
	if port == 0 {
		port = defaultPort(scheme)
	}
	return originPattern{scheme: scheme, host: hostPattern{host: host, sub: sub}, port: port}, nil
}

// hostPattern is a host, or with sub a host and its subdomains.
type hostPattern struct {
	host hostName
	sub  bool
}

func (p hostPattern) match(h hostName) bool {
	if h == p.host {
		return true
	}
	return p.sub && !h.addr.IsValid() && strings.HasSuffix(h.name, "."+p.host.name)
}

func parseHostPattern(text string) (hostPattern, error) {
	name, sub := strings.CutPrefix(text, ".")
	host, port, err := parseHostPort(name)
	switch {
	case err != nil:
		return hostPattern{}, wrapPatternError(name, err)
	case port != 0:
		return hostPattern{}, fmt.Errorf("a name without a scheme stands for every port: write %q, or for an origin http://%s", strings.TrimSuffix(text, ":"+strconv.Itoa(port)), name)
	case sub && host.addr.IsValid():
		return hostPattern{}, fmt.Errorf("an address has no subdomains: leave the dot out")
	}
	return hostPattern{host: host, sub: sub}, nil
}

// wrapPatternError adds what may be written. The family's own validator takes
// "*.example.com" and then never matches it, so that form has a word of its own.
func wrapPatternError(name string, err error) error {
	if rest, found := strings.CutPrefix(name, "*."); found {
		return fmt.Errorf("write .%s for a host and its subdomains", rest)
	}
	if addr, e := netip.ParseAddr(name); e == nil && addr.Is6() {
		return fmt.Errorf("write an IPv6 address in brackets: [%s]", name)
	}
	return fmt.Errorf("%w; write example.com, .example.com (with its subdomains), or * (anything), and for an origin also https://example.com or https://example.com:8443", err)
}

func describePatterns(patterns []string) string {
	if len(patterns) == 0 {
		return "loopback names only (localhost, 127.0.0.0/8, [::1])"
	}
	return strings.Join(patterns, ", ")
}

// shorten quotes what a stranger sent, for one line of a log.
func shorten(s string) string {
	const most = 120
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
