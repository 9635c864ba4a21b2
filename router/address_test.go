package router

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Case 94: X-Forwarded-For is ignored unless a trusted proxy sent it, and then
// only as far as trusted proxies wrote it.
func TestClientAddress(t *testing.T) {
	const v4, v6 = "203.0.113.9", "2001:db8::9"
	for _, test := range []struct {
		name    string
		trusted []string
		peer    string
		headers []string
		want    string
	}{
		{"by default it is ignored", nil, "10.0.0.1:5000", []string{v4}, "10.0.0.1"},
		{"nobody between", nil, v4 + ":5000", nil, v4},
		{"nobody between, IPv6", nil, "[" + v6 + "]:5000", nil, v6},
		{"one proxy", []string{"10.0.0.1"}, "10.0.0.1:5000", []string{v4}, v4},
		{"one proxy, IPv6", []string{"10.0.0.1"}, "10.0.0.1:5000", []string{v6}, v6},
		{"with a port", []string{"10.0.0.1"}, "10.0.0.1:5000", []string{v4 + ":1234"}, v4},
		{"IPv6 in brackets", []string{"10.0.0.1"}, "10.0.0.1:5000", []string{"[" + v6 + "]"}, v6},
		{"IPv6 with a port", []string{"10.0.0.1"}, "10.0.0.1:5000", []string{"[" + v6 + "]:1234"}, v6},
		{"IPv4 in IPv6", []string{"10.0.0.1"}, "[::ffff:10.0.0.1]:5000", []string{"::ffff:" + v4}, v4},
		{"a network of proxies", []string{"10.0.0.0/8"}, "10.9.8.7:5000", []string{v4}, v4},
		{"an IPv6 proxy", []string{"fd00::/8"}, "[fd00::1]:5000", []string{v4}, v4},
		{"two proxies", []string{"10.0.0.0/8"}, "10.0.0.1:5000", []string{v4 + ", 10.0.0.2"}, v4},
		{"two headers", []string{"10.0.0.0/8"}, "10.0.0.1:5000", []string{v4, "10.0.0.2"}, v4},
		{"what the client made up", []string{"10.0.0.0/8"}, "10.0.0.1:5000", []string{"127.0.0.1, " + v4}, v4},
		{"what the client made up as a proxy", []string{"10.0.0.0/8"}, "10.0.0.1:5000", []string{"10.0.0.3," + v4 + ",10.0.0.2"}, v4},
		{"a stranger who calls himself a proxy", []string{"10.0.0.0/8"}, v4 + ":5000", []string{"10.0.0.1"}, v4},
		{"only proxies", []string{"10.0.0.0/8"}, "10.0.0.1:5000", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"no address", []string{"10.0.0.0/8"}, "10.0.0.1:5000", []string{"unknown, 10.0.0.2"}, "10.0.0.2"},
		{"garbage", []string{"10.0.0.0/8"}, "10.0.0.1:5000", []string{"<script>"}, "10.0.0.1"},
		{"nothing", []string{"10.0.0.0/8"}, "10.0.0.1:5000", []string{""}, "10.0.0.1"},
		{"no header", []string{"10.0.0.0/8"}, "10.0.0.1:5000", nil, "10.0.0.1"},
		{"a Unix socket that is not trusted", nil, "@", []string{v4}, "@"},
		{"a Unix socket", []string{"unix"}, "@", []string{v4}, v4},
		{"a Unix socket without a name", []string{"unix"}, "", []string{v4}, v4},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := (&Options{TrustedProxies: test.trusted}).resolve()
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = test.peer
			for _, h := range test.headers {
				r.Header.Add("X-Forwarded-For", h)
			}
			if got := s.clientAddr(r); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestSiteOf(t *testing.T) {
	for address, want := range map[string]string{
		"203.0.113.9":           "203.0.113.9",
		"2001:db8:1:2:3:4:5:6":  "2001:db8:1:2::/64",
		"2001:db8:1:2::":        "2001:db8:1:2::/64",
		"fe80::1%eth0":          "fe80::/64",
		"@":                     "",
		"":                      "",
		"an address of a stack": "",
	} {
		if got := siteOf(address); got != want {
			t.Errorf("siteOf(%q): got %q, want %q", address, got, want)
		}
	}
}

// An option that makes no sense is an error that names it. Case 115: an unknown
// one does not compile.
func TestBadOptions(t *testing.T) {
	for want, o := range map[string]*Options{
		"Options.HandshakeTimeout": {HandshakeTimeout: -time.Second},
		`Options.Prefix is "app"`:  {Prefix: "app"},
		`Options.Prefix is "/a/"`:  {Prefix: "/a/"},
		`TrustedProxies has "me"`:  {TrustedProxies: []string{"10.0.0.1", "me"}},
		"Options.Limits":           {Limits: Limits{QueueBytes: -1}},
		"origin pattern":           {Origins: []string{"http://"}},
		"host pattern":             {Hosts: []string{"http://example.com"}},
	} {
		_, err := New(nil, Table{}, o)
		if err == nil || !strings.HasPrefix(err.Error(), "router: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that names %s", err, want)
		}
	}
}
