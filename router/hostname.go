package router

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// originParts is an Origin header taken apart (RFC 6454, section 6.1).
type originParts struct {
	scheme string // lower case
	host   hostName
	port   int // the scheme's own where none is written; 0 where it has none
}

// web reports whether the origin is a page fetched over HTTP.
func (o originParts) web() bool { return o.scheme == "http" || o.scheme == "https" }

// hostName is a host that can be compared with ==: a lower-case name, or an
// address.
type hostName struct {
	name string
	addr netip.Addr
}

// loopback reports whether the host is localhost, in 127.0.0.0/8, or ::1. An
// IPv4 address written as IPv6 is not: no browser calls this machine so.
func (h hostName) loopback() bool {
	return h.name == "localhost" || h.addr.IsLoopback() && !h.addr.Is4In6()
}

// The reasons why an origin or a host is no such thing.
var (
	errNullOrigin  = errors.New(`"null" is what sandboxed frames and files send, and names nobody`)
	errNoScheme    = errors.New("it is not scheme://host")
	errEmptyHost   = errors.New("it names no host")
	errTrailingDot = errors.New("the host ends in a dot, which makes it another name to a browser")
	errHost        = errors.New("the host is neither a name nor an address")
	errPort        = errors.New("the port is not a number from 1 to 65535")
)

// parseOrigin reads what a browser writes: scheme, host and perhaps a port, and
// not a byte more. User names, paths, blanks, lists of origins and bytes beyond
// ASCII all end as an error of the host or the port.
func parseOrigin(s string) (originParts, error) {
	if s == "null" {
		return originParts{}, errNullOrigin
	}
	scheme, rest, found := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !found || !validScheme(scheme) {
		return originParts{}, errNoScheme
	}
	host, port, err := parseHostPort(rest)
	if err != nil {
		return originParts{}, err
	}
	if port == 0 {
		port = defaultPort(scheme)
	}
	return originParts{scheme, host, port}, nil
}

// parseHostPort reads a Host header: a name, an IPv4 address or a bracketed IPv6
// address, and perhaps a port, which is 0 where there is none.
func parseHostPort(s string) (hostName, int, error) {
	host, port, hasPort := s, "", false
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host, port, hasPort = s[:i], s[i+1:], true
	}
	h, err := parseHost(host)
	if err != nil || !hasPort {
		return h, 0, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	// ParseUint takes "0080" as well, which no browser writes.
	if err != nil || n == 0 || port[0] == '0' {
		return hostName{}, 0, errPort
	}
	return h, int(n), nil
}

func parseHost(s string) (hostName, error) {
	switch {
	case s == "":
		return hostName{}, errEmptyHost
	case s[0] == '[':
		addr, err := netip.ParseAddr(strings.TrimSuffix(s[1:], "]"))
		if err != nil || s[len(s)-1] != ']' || !addr.Is6() || addr.Zone() != "" {
			return hostName{}, errHost
		}
		return hostName{addr: addr}, nil
	case s[len(s)-1] == '.':
		return hostName{}, errTrailingDot
	case !validName(s):
		return hostName{}, errHost
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return hostName{addr: addr}, nil
	}
	// A last label of digits makes a browser read the whole as an IPv4 address
	// (127.1, 2130706433), which it would then have written in full.
	last := s[strings.LastIndexByte(s, '.')+1:]
	if last[0] >= '0' && last[0] <= '9' {
		if _, err := strconv.ParseUint(last, 0, 64); err == nil || strings.Trim(last, "0123456789") == "" {
			return hostName{}, errHost
		}
	}
	return hostName{name: strings.ToLower(s)}, nil
}

// validName reports whether s is made of labels of letters, digits, hyphens and
// underscores. It is no full check of a DNS name: it keeps out what could be
// taken apart in two ways.
func validName(s string) bool {
	if len(s) > 253 {
		return false
	}
	label := 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.' && label > 0:
			label = 0
			continue
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		default:
			return false
		}
	}
	return label > 0
}

// validScheme follows RFC 3986, section 3.1, in lower case.
func validScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.')) {
			return false
		}
	}
	return s != ""
}

func defaultPort(scheme string) int {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return 0
}
