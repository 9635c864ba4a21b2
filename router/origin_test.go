package router

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// case 83: the table of the family, whose answers are ours except where a
// comment says so.
func TestOriginTable(t *testing.T) {
	loopback := []string(nil)
	tests := []struct {
		patterns []string
		origin   string
		want     bool
	}{
		{[]string{"allowed.example"}, "http://allowed.example", true},
		{[]string{"allowed.example"}, "https://allowed.example", true},
		{[]string{"allowed.example"}, "http://bad.example", false},
		{[]string{".allowed.example"}, "http://sub.allowed.example", true},
		{[]string{".allowed.example"}, "http://a.b.allowed.example:81", true},
		{[]string{".allowed.example"}, "http://allowed.example", true},
		{[]string{".allowed.example"}, "http://notallowed.example", false},
		{[]string{".allowed.example"}, "http://.allowed.example", false},
		{[]string{"http://allowed.example"}, "http://allowed.example", true},
		{[]string{"http://allowed.example"}, "https://allowed.example", false},
		{[]string{"http://allowed.example"}, "http://sub.allowed.example", false},
		{[]string{"*"}, "http://anything.example", true},
		{[]string{"*"}, "null", true},
		{[]string{"*"}, "\x00", true},
		{[]string{}, "http://allowed.example", false},
		{[]string{"allowed.example"}, "", false},
		{[]string{"allowed.example"}, "ws://[2001::", false},
		{[]string{"allowed.example"}, "\x00", false},

		// One of several.
		{[]string{"a.example", "b.example"}, "http://b.example", true},
		{[]string{"a.example", "https://b.example"}, "http://b.example", false},

		// Nothing configured: loopback, and only that.
		{loopback, "http://localhost", true},
		{loopback, "https://localhost:3000", true},
		{loopback, "http://127.0.0.1:8000", true},
		{loopback, "http://127.9.8.7", true},
		{loopback, "http://[::1]:8000", true},
		{loopback, "http://[0:0:0:0:0:0:0:1]", true},
		{loopback, "http://LOCALHOST", true},
		{loopback, "http://localhost.evil.example", false},
		{loopback, "http://evil.localhost", false},
		{loopback, "http://localhost.", false},
		{loopback, "http://127.0.0.1.evil.example", false},
		{loopback, "http://128.0.0.1", false},
		{loopback, "http://0.0.0.0", false},
		{loopback, "http://[::]", false},
		{loopback, "http://[::ffff:127.0.0.1]", false},
		{loopback, "http://[::1%25lo]", false},
		{loopback, "http://[::1%lo]", false},
		{loopback, "http://127.1", false},
		{loopback, "http://2130706433", false},
		{loopback, "http://0x7f.0x1", false},
		{loopback, "http://127.0.0.01", false},
		{loopback, "app://localhost", false},
		{loopback, "http://evil.example", false}, // whatever Host says

		// What names nobody.
		{[]string{"a.example"}, "null", false},
		{[]string{"a.example"}, "NULL", false},
		{[]string{"a.example"}, "file://", false},
		{[]string{"a.example"}, "file:///a.example", false},
		{[]string{"a.example"}, "file://a.example", false},
		{[]string{"a.example"}, "a.example", false},
		{[]string{"a.example"}, "//a.example", false},
		{[]string{"a.example"}, "://a.example", false},
		{[]string{"a.example"}, "http:a.example", false},
		{[]string{"a.example"}, "http:/a.example", false},
		{[]string{"a.example"}, "http://", false},
		{[]string{"a.example"}, "http://:80", false},
		{[]string{"a.example"}, "javascript://a.example", false},
		{[]string{"a.example"}, "ws://a.example", false}, // Channels allows it; a page has no such origin
		{[]string{"a.example"}, "h\u0131ttp://a.example", false},
		{[]string{"a.example"}, "1http://a.example", false},

		// Ports.
		{[]string{"a.example"}, "http://a.example:1", true},
		{[]string{"a.example"}, "http://a.example:65535", true},
		{[]string{"a.example"}, "http://a.example:65536", false},
		{[]string{"a.example"}, "http://a.example:0", false},
		{[]string{"a.example"}, "http://a.example:", false},
		{[]string{"a.example"}, "http://a.example:080", false},
		{[]string{"a.example"}, "http://a.example:+80", false},
		{[]string{"a.example"}, "http://a.example:-1", false},
		{[]string{"a.example"}, "http://a.example:http", false}, // Channels allows it
		{[]string{"a.example"}, "http://a.example:80:80", false},
		{[]string{"https://a.example"}, "https://a.example:443", true},
		{[]string{"https://a.example"}, "https://a.example:8443", false},
		{[]string{"https://a.example:443"}, "https://a.example", true},
		{[]string{"https://a.example:8443"}, "https://a.example:8443", true},
		{[]string{"https://a.example:8443"}, "https://a.example", false},
		{[]string{"http://a.example:443"}, "https://a.example", false},
		{[]string{"http://a.example:80"}, "http://a.example", true},

		// Schemes.
		{[]string{"HTTPS://A.example"}, "https://a.example", true},
		{[]string{"https://a.example"}, "HTTPS://A.EXAMPLE", true},
		{[]string{"https://.a.example"}, "https://b.a.example", true},
		{[]string{"https://.a.example"}, "https://a.example", true},
		{[]string{"https://.a.example"}, "http://b.a.example", false},
		{[]string{"https://.a.example:8443"}, "https://b.a.example:8443", true},
		{[]string{"capacitor://localhost"}, "capacitor://localhost", true},
		{[]string{"capacitor://localhost"}, "http://localhost", false},
		{[]string{"chrome-extension://abcdefghijklmnop"}, "chrome-extension://abcdefghijklmnop", true},

		// Suffixes and prefixes that are not the host.
		{[]string{"a.example"}, "http://a.example.evil.test", false},
		{[]string{"a.example"}, "http://evila.example", false},
		{[]string{"a.example"}, "http://b.a.example", false},
		{[]string{".a.example"}, "http://b.a.example.evil.test", false},
		{[]string{".a.example"}, "http://evil.test/.a.example", false},
		{[]string{".a.example"}, "http://evil.test?.a.example", false},
		{[]string{".a.example"}, "http://evil.test#.a.example", false},
		{[]string{".a.example"}, "http://evil.test\\.a.example", false},
		{[]string{".a.example"}, "http://evil.test:80.a.example", false},
		{[]string{".a.example"}, "http://evil.test%2e.a.example", false},
		{[]string{".a.example"}, "http://evil.test%00.a.example", false},
		{[]string{".a.example"}, "http://evil.test\x00.a.example", false},
		{[]string{".a.example"}, "http://evil.test .a.example", false},
		{[]string{".a.example"}, "http://[::1].a.example", false},
		{[]string{".a.example"}, "http://b..a.example", false},

		// User names, paths, lists, dots, other alphabets.
		{[]string{"a.example"}, "http://evil.test@a.example", false},
		{[]string{"a.example"}, "http://a.example@evil.test", false},
		{[]string{"a.example"}, "http://u:p@a.example", false},
		{[]string{"a.example"}, "http://@a.example", false},
		{[]string{"a.example"}, "http://a.example/", false},
		{[]string{"a.example"}, "http://a.example/x", false},
		{[]string{"a.example"}, "http://a.example http://evil.test", false},
		{[]string{"a.example"}, "http://a.example,http://a.example", false},
		{[]string{"a.example"}, " http://a.example", false},
		{[]string{"a.example"}, "http://a.example.", false},
		{[]string{".a.example"}, "http://b.a.example.", false},
		{[]string{"xn--bcher-kva.example"}, "http://xn--bcher-kva.example", true},
		{[]string{"xn--bcher-kva.example"}, "http://XN--BCHER-KVA.example", true},
		{[]string{"xn--bcher-kva.example"}, "http://bücher.example", false},
		{[]string{"k.example"}, "http://\u212a.example", false}, // the Kelvin sign lower-cases to k

		// Addresses.
		{[]string{"[2001:db8::1]"}, "http://[2001:db8::1]", true},
		{[]string{"[2001:db8::1]"}, "http://[2001:DB8:0:0::1]:8000", true},
		{[]string{"[2001:db8::1]"}, "http://[2001:db8::2]", false},
		{[]string{"[2001:db8::1]"}, "http://2001:db8::1", false},
		{[]string{"[2001:db8::1]"}, "http://[2001:db8::1", false},
		{[]string{"[2001:db8::1]"}, "http://[2001:db8::1]x", false},
		{[]string{"[2001:db8::1]"}, "http://[[2001:db8::1]]", false},
		{[]string{"https://[2001:db8::1]:8443"}, "https://[2001:db8::1]:8443", true},
		{[]string{"192.0.2.1"}, "http://192.0.2.1:8000", true},
		{[]string{"192.0.2.1"}, "http://[::ffff:192.0.2.1]", false},
		{[]string{"192.0.2.1"}, "http://[192.0.2.1]", false},
		{[]string{"192.0.2.1"}, "http://x.192.0.2.1", false},
	}
	for _, tt := range tests {
		rules, err := newOriginRules(tt.patterns)
		if err != nil {
			t.Errorf("newOriginRules(%q): %v", tt.patterns, err)
			continue
		}
		got, why := rules.allow(tt.origin, true, true)
		if got != tt.want {
			t.Errorf("patterns %q, origin %q: got %v (%s), want %v", tt.patterns, tt.origin, got, why, tt.want)
		}
		if got == (why != "") {
			t.Errorf("patterns %q, origin %q: allowed is %v, and the reason is %q", tt.patterns, tt.origin, got, why)
		}
	}
}

// case 83: without an Origin header.
func TestOriginMissing(t *testing.T) {
	tests := []struct {
		patterns  []string
		hasCookie bool
		want      bool
	}{
		{nil, false, true}, // a script: Channels refuses it
		{nil, true, false},
		{[]string{"a.example"}, false, true},
		{[]string{"a.example"}, true, false},
		{[]string{"*"}, true, true},
		{[]string{"*"}, false, true},
	}
	for _, tt := range tests {
		rules, err := newOriginRules(tt.patterns)
		if err != nil {
			t.Fatal(err)
		}
		if got, why := rules.allow("", false, tt.hasCookie); got != tt.want {
			t.Errorf("patterns %q, cookie %v: got %v (%s), want %v", tt.patterns, tt.hasCookie, got, why, tt.want)
		}
	}
}

func TestOriginOfRequest(t *testing.T) {
	rules, err := newOriginRules([]string{"a.example"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		header http.Header
		want   bool
	}{
		{"right", http.Header{"Origin": {"http://a.example"}, "Cookie": {"s=1"}}, true},
		{"missing", http.Header{}, true},
		{"missing, with a cookie", http.Header{"Cookie": {"s=1"}}, false},
		{"empty", http.Header{"Origin": {""}}, false},
		{"twice the same", http.Header{"Origin": {"http://a.example", "http://a.example"}}, false},
		{"wrong then right", http.Header{"Origin": {"http://evil.test", "http://a.example"}}, false},
		{"right then wrong", http.Header{"Origin": {"http://a.example", "http://evil.test"}}, false},
		{"Origin is Host", http.Header{"Origin": {"http://evil.test"}}, false},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("GET", "http://evil.test/ws/", nil)
		r.Header = tt.header
		if got, why := rules.allowRequest(r); got != tt.want {
			t.Errorf("%s: got %v (%s), want %v", tt.name, got, why, tt.want)
		}
	}
}

func TestOriginReasonIsOneLine(t *testing.T) {
	rules, err := newOriginRules([]string{"a.example", "https://b.example"})
	if err != nil {
		t.Fatal(err)
	}
	_, why := rules.allow("https://evil.test\nlevel=ERROR", true, true)
	for _, want := range []string{`"https://evil.test\nlevel=ERROR"`, "a.example, https://b.example"} {
		if !strings.Contains(why, want) {
			t.Errorf("reason %q does not contain %q", why, want)
		}
	}
	if strings.ContainsAny(why, "\r\n") {
		t.Errorf("reason %q is more than one line", why)
	}
	if _, why = rules.allow("https://"+strings.Repeat("x", 9000), true, true); len(why) > 400 {
		t.Errorf("the reason for a long origin has %d bytes", len(why))
	}
}

func TestPatternErrors(t *testing.T) {
	tests := []struct {
		patterns []string
		want     string // in the error of origins
		host     string // in the error of hosts; "" is as want
	}{
		{[]string{"*.a.example"}, "write .a.example", ""},
		{[]string{"https://*.a.example"}, "write .a.example", "no scheme"},
		{[]string{"a.example:8000"}, "http://a.example:8000", ""},
		{[]string{"[::1]:8000"}, "http://[::1]:8000", ""},
		{[]string{"::1"}, "[::1]", ""},
		{[]string{""}, "names no host", ""},
		{[]string{"."}, "names no host", ""},
		{[]string{"..a.example"}, "neither a name", ""},
		{[]string{"a.example."}, "ends in a dot", ""},
		{[]string{"null"}, "null", "ok"},
		{[]string{"https://a.example/"}, "slash", "no scheme"},
		{[]string{"https://a.example/x"}, "slash", "no scheme"},
		{[]string{"https://"}, "names no host", "no scheme"},
		{[]string{"file://"}, "names no host", "no scheme"},
		{[]string{"://a.example"}, "is no scheme", "no scheme"},
		{[]string{"wss://a.example"}, "write https://", "no scheme"},
		{[]string{"ws://a.example"}, "write http://", "no scheme"},
		{[]string{"https://a.example:99999"}, "port", "no scheme"},
		{[]string{"a b.example"}, "neither a name", ""},
		{[]string{"a.example/x"}, "neither a name", ""},
		{[]string{"u@a.example"}, "neither a name", ""},
		{[]string{"bücher.example"}, "neither a name", ""},
		{[]string{".127.0.0.1"}, "no subdomains", ""},
		{[]string{"https://.127.0.0.1"}, "no subdomains", "no scheme"},
		{[]string{"127.1"}, "neither a name", ""},
		{[]string{"a.example", "*"}, "has no effect", ""},
		{[]string{"*", "a.example"}, "has no effect", ""},
	}
	for _, tt := range tests {
		_, err := newOriginRules(tt.patterns)
		checkPatternError(t, "origin", tt.patterns, err, tt.want)
		if tt.host == "" {
			tt.host = tt.want
		}
		_, err = newHostRules(tt.patterns)
		checkPatternError(t, "host", tt.patterns, err, tt.host)
	}
}

func checkPatternError(t *testing.T, kind string, patterns []string, err error, want string) {
	t.Helper()
	switch {
	case want == "ok":
		if err != nil {
			t.Errorf("%s patterns %q: %v", kind, patterns, err)
		}
	case err == nil:
		t.Errorf("%s patterns %q: no error, want one with %q", kind, patterns, want)
	case !strings.HasPrefix(err.Error(), "router: "+kind+" pattern "), !strings.Contains(err.Error(), want):
		t.Errorf("%s patterns %q: got %q, want it to contain %q", kind, patterns, err, want)
	}
}

func TestHostTable(t *testing.T) {
	tests := []struct {
		patterns []string
		host     string
		want     bool
	}{
		{nil, "localhost", true},
		{nil, "localhost:8000", true},
		{nil, "LocalHost:8000", true},
		{nil, "127.0.0.1:8000", true},
		{nil, "[::1]:8000", true},
		{nil, "[::1]", true},
		{nil, "::1", false},
		{nil, "", false},
		{nil, ":8000", false},
		{nil, "localhost.", false},
		{nil, "localhost.:8000", false},
		{nil, "evil.test", false}, // DNS rebinding: it leads here, and its Origin agrees
		{nil, "evil.test:8000", false},
		{nil, "127.0.0.1.evil.test", false},
		{nil, "0.0.0.0:8000", false},
		{nil, "192.168.1.2", false},
		{nil, "localhost:8000:8000", false},
		{nil, "localhost:", false},
		{nil, "localhost:0", false},
		{nil, "user@localhost", false},
		{nil, "localhost/x", false},
		{nil, "http://localhost", false},
		{[]string{}, "localhost", true},
		{[]string{"a.example"}, "a.example", true},
		{[]string{"a.example"}, "A.Example:443", true},
		{[]string{"a.example"}, "localhost", false},
		{[]string{"a.example"}, "b.a.example", false},
		{[]string{"a.example"}, "a.example.evil.test", false},
		{[]string{".a.example"}, "b.a.example", true},
		{[]string{".a.example"}, "a.example:1", true},
		{[]string{".a.example"}, "evila.example", false},
		{[]string{"[2001:db8::1]"}, "[2001:DB8::1]:80", true},
		{[]string{"[2001:db8::1]"}, "[2001:db8::1%eth0]", false},
		{[]string{"*"}, "anything at all", true},
		{[]string{"*"}, "", true},
	}
	for _, tt := range tests {
		rules, err := newHostRules(tt.patterns)
		if err != nil {
			t.Errorf("newHostRules(%q): %v", tt.patterns, err)
			continue
		}
		got, why := rules.allow(tt.host)
		if got != tt.want || got == (why != "") {
			t.Errorf("patterns %q, host %q: got %v (%s), want %v", tt.patterns, tt.host, got, why, tt.want)
		}
	}
}

// FuzzOrigin asks another parser, net/url, what an allowed origin means.
func FuzzOrigin(f *testing.F) {
	for _, pattern := range []string{"a.example", ".a.example", "https://a.example", "https://.a.example:8443", "[2001:db8::1]", "192.0.2.1", "*.a.example", ""} {
		for _, origin := range []string{
			"http://a.example", "https://b.a.example:8443", "null", "file://", "http://u@a.example", "http://[2001:db8::1]:80",
			"http://192.0.2.1", "http://a.example.", "http://a.example\\.evil.test", "http://evil.test#.a.example", "",
		} {
			f.Add(pattern, origin)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, origin string) {
		rules, err := newOriginRules([]string{pattern})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "router: origin pattern ") {
				t.Errorf("pattern %q: error %q", pattern, err)
			}
			return
		}
		hosts, hostErr := newHostRules([]string{pattern})
		if hostErr == nil {
			hosts.allow(origin)
		}
		ok, why := rules.allow(origin, true, false)
		if ok != (why == "") || strings.ContainsAny(why, "\r\n") && !strings.ContainsAny(pattern, "\r\n") {
			t.Errorf("pattern %q, origin %q: allowed is %v, and the reason %q", pattern, origin, ok, why)
		}
		if upper, _ := rules.allow(strings.ToUpper(origin), true, false); ok && !upper {
			t.Errorf("pattern %q: %q is allowed and in capitals it is not", pattern, origin)
		}
		if ok && pattern != "*" {
			checkAllowed(t, pattern, origin)
		}
	})
}

func checkAllowed(t *testing.T, pattern, origin string) {
	t.Helper()
	u, err := url.Parse(origin)
	if err != nil || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
		t.Fatalf("pattern %q allows %q, which is more than an origin: %+v, %v", pattern, origin, u, err)
	}
	scheme, rest, found := strings.Cut(strings.ToLower(pattern), "://")
	if !found {
		scheme, rest = "", scheme
		if u.Scheme != "http" && u.Scheme != "https" {
			t.Fatalf("pattern %q allows %q of another scheme", pattern, origin)
		}
	} else if scheme != u.Scheme {
		t.Fatalf("pattern %q allows %q of another scheme", pattern, origin)
	}
	rest, sub := strings.CutPrefix(rest, ".")
	want, err := parseOrigin("http://" + rest)
	if err != nil {
		t.Fatalf("pattern %q was taken: %v", pattern, err)
	}
	got, err := parseHost(hostOf(u))
	if err != nil {
		t.Fatalf("pattern %q allows %q: %v", pattern, origin, err)
	}
	if got != want.host && !(sub && strings.HasSuffix(strings.ToLower(u.Hostname()), "."+want.host.name)) {
		t.Fatalf("pattern %q allows %q of another host", pattern, origin)
	}
	if strings.ContainsAny(origin, "@\\?#% \t\r\n") || strings.Count(origin, "/") != 2 {
		t.Fatalf("pattern %q allows %q", pattern, origin)
	}
}

// hostOf is u's host with the brackets that Hostname takes away.
func hostOf(u *url.URL) string {
	if h := u.Hostname(); strings.Contains(h, ":") {
		return "[" + h + "]"
	}
	return u.Hostname()
}
