package router

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// parseProxies reads addresses and networks, and "unix".
func parseProxies(list []string) (out []netip.Prefix, unix bool, err error) {
	for _, text := range list {
		if text == "unix" {
			unix = true
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, aerr := netip.ParseAddr(text)
			if aerr != nil {
				return nil, false, fmt.Errorf(`router: Options.TrustedProxies has %q; write an address ("10.0.0.7"), a network ("10.0.0.0/8") or "unix"`, text)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p)
	}
	return out, unix, nil
}

// clientAddr returns the address of whoever speaks to us: the peer's, or, where
// the peer is a trusted proxy, the last address in X-Forwarded-For that is not
// one, since whatever stands before it may be the client's own invention. Unix
// sockets have none.
func (s *settings) clientAddr(r *http.Request) string {
	peer := addrOf(r.RemoteAddr)
	if !s.trusted(peer) {
		return peer
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, err := netip.ParseAddr(addrOf(strings.TrimSpace(hop)))
		if err != nil {
			break
		}
		peer = a.Unmap().String()
		if !s.trusted(peer) {
			break
		}
	}
	return peer
}

// addrOf strips a port, brackets included.
func addrOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return strings.Trim(addr, "[]")
}

func (s *settings) trusted(addr string) bool {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return s.unix && (addr == "" || strings.HasPrefix(addr, "@") || strings.HasPrefix(addr, "/"))
	}
	a = a.Unmap()
	return slices.ContainsFunc(s.proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}
