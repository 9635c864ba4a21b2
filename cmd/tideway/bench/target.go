package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// target is where connections go, resolved once.
type target struct {
	secure bool
	host   string // for the Host header and for TLS
	addr   netip.AddrPort
	path   string // may hold %d, the number of the group
	header string // further lines
}

// parseTarget resolves a URL. Addresses other than loopback need allow.
func parseTarget(ctx context.Context, raw string, header []string, allow bool) (*target, error) {
	u, err := url.Parse(strings.ReplaceAll(raw, "%d", "0")) // %d would be a broken escape
	if err != nil {
		return nil, settingsErrorf("--url %q: %v", raw, err)
	}
	if u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" {
		return nil, settingsErrorf("--url %q is no address of a WebSocket server: want ws://host:port/path, where %%d stands for the group's number", raw)
	}
	t := &target{secure: u.Scheme == "wss", host: u.Host, path: rawPath(raw)}
	port := u.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[t.secure]
	}
	ip, err := resolve(ctx, u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("--url %q: %w", raw, err)
	}
	if !ip.IsLoopback() && !allow {
		return nil, settingsErrorf("--url %q has the address %v, which is not this machine's: a benchmark is an attack on a server that does not expect it; add --yes-load-that-server if it is yours", raw, ip)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, settingsErrorf("--url %q: %v", raw, err)
	}
	t.addr = netip.AddrPortFrom(ip, uint16(n))
	for _, line := range header {
		name, value, found := strings.Cut(line, ":")
		if !found || strings.ContainsAny(line, "\r\n") {
			return nil, settingsErrorf("--header %q: want \"Name: value\"", line)
		}
		t.header += http.CanonicalHeaderKey(strings.TrimSpace(name)) + ": " + strings.TrimSpace(value) + "\r\n"
	}
	return t, nil
}

// rawPath returns the path and query of a URL as they were written.
func rawPath(raw string) string {
	_, rest, _ := strings.Cut(raw, "://")
	rest, _, _ = strings.Cut(rest, "#")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		if rest[i] == '?' {
			return "/" + rest[i:]
		}
		return rest[i:]
	}
	return "/"
}

// resolve returns the first IPv4 address of a host, else its first.
func resolve(ctx context.Context, host string) (netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() {
			return ip, nil
		}
	}
	return ips[0], nil
}

// The nonce of a handshake and its answer are those of RFC 6455, section 1.3.
const (
	nonce       = "dGhlIHNhbXBsZSBub25jZQ=="
	nonceAnswer = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// withGroup puts the number of a group in the place of %d.
func withGroup(s string, group int) string {
	return strings.ReplaceAll(s, "%d", strconv.Itoa(group))
}

// request returns the handshake of a client of a group.
func (t *target) request(group int) []byte {
	return []byte("GET " + withGroup(t.path, group) + " HTTP/1.1\r\nHost: " + t.host +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + nonce +
		"\r\n" + t.header + "\r\n")
}

// maxHead is the longest answer to a handshake.
const maxHead = 16 << 10

// refusal is an answer to a handshake that is not 101.
type refusal struct {
	status string
	code   int
	retry  time.Duration // what Retry-After asks for
}

func (r *refusal) Error() string { return "the handshake got " + r.status }

// again reports whether the server asks to come back later.
func (r *refusal) again() bool {
	return r.code == http.StatusServiceUnavailable || r.code == http.StatusTooManyRequests
}

// parseAnswer reads the answer to a handshake off b: done is false while the
// head is incomplete, and rest is what follows it.
func parseAnswer(b []byte) (rest []byte, done bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= maxHead {
			return nil, true, fmt.Errorf("the answer to the handshake is longer than %d bytes", maxHead)
		}
		return nil, false, nil
	}
	lines := strings.Split(string(b[:end]), "\r\n")
	version, status, _ := strings.Cut(lines[0], " ")
	if version != "HTTP/1.1" || len(status) < 3 {
		return nil, true, fmt.Errorf("the answer to the handshake is no HTTP: %.60q", lines[0])
	}
	code, err := strconv.Atoi(status[:3])
	if err != nil {
		return nil, true, fmt.Errorf("the answer to the handshake is no HTTP: %.60q", lines[0])
	}
	if code != http.StatusSwitchingProtocols {
		seconds, _ := strconv.ParseUint(fieldOf(lines[1:], "Retry-After"), 10, 16)
		return nil, true, &refusal{status: fmt.Sprintf("%.60q", status), code: code, retry: time.Duration(seconds) * time.Second}
	}
	if got := fieldOf(lines[1:], "Sec-WebSocket-Accept"); got != nonceAnswer {
		return nil, true, fmt.Errorf("the handshake got the wrong answer to its nonce: %.60q", got)
	}
	return b[end+4:], true, nil
}

// fieldOf returns the value of a header field.
func fieldOf(lines []string, name string) string {
	for _, line := range lines {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
