package bench

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct {
		url     string
		allow   bool
		addr    string
		request string // how the request for group 7 begins
		wrong   string // or what the error says
	}{
		{url: "ws://127.0.0.1:8000/ws?g=%d", addr: "127.0.0.1:8000", request: "GET /ws?g=7 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"},
		{url: "ws://[::1]:8000", addr: "[::1]:8000", request: "GET / HTTP/1.1\r\nHost: [::1]:8000\r\n"},
		{url: "wss://127.0.0.1?a=%20b#c", addr: "127.0.0.1:443", request: "GET /?a=%20b HTTP/1.1\r\n"},
		{url: "ws://127.3.2.1/a/%d/%d", addr: "127.3.2.1:80", request: "GET /a/7/7 HTTP/1.1\r\n"},
		{url: "ws://192.0.2.1/", wrong: "--yes-load-that-server"},
		{url: "ws://0.0.0.0/", wrong: "--yes-load-that-server"},
		{url: "ws://192.0.2.1/", allow: true, addr: "192.0.2.1:80", request: "GET / HTTP/1.1\r\n"},
		{url: "http://127.0.0.1/", wrong: "no address of a WebSocket server"},
		{url: "127.0.0.1:8000", wrong: "--url"},
		{url: "ws://127.0.0.1:99999/", wrong: "--url"},
		{url: "", wrong: "no address"},
	} {
		got, err := parseTarget(t.Context(), tt.url, nil, tt.allow)
		switch {
		case tt.wrong != "":
			var settings *SettingsError
			if !errors.As(err, &settings) || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%s: got %v, want an error with %q", tt.url, err, tt.wrong)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.url, err)
		case got.addr.String() != tt.addr || !strings.HasPrefix(string(got.request(7)), tt.request):
			t.Errorf("%s: got %v and %q, want %s and %q", tt.url, got.addr, got.request(7), tt.addr, tt.request)
		}
	}
}

func TestHeaders(t *testing.T) {
	got, err := parseTarget(t.Context(), "ws://127.0.0.1/", []string{"cookie: a=b", "X-Key:  c "}, false)
	if want := "\r\nCookie: a=b\r\nX-Key: c\r\n\r\n"; err != nil || !strings.HasSuffix(string(got.request(0)), want) {
		t.Errorf("got %v (%v), want a request that ends with %q", got, err, want)
	}
	for _, line := range []string{"cookie", "a: b\r\nc: d"} {
		if _, err := parseTarget(t.Context(), "ws://127.0.0.1/", []string{line}, false); err == nil {
			t.Errorf("the header %q is taken", line)
		}
	}
}

const accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nsec-websocket-accept: " + nonceAnswer + "\r\n\r\n"

func TestParseAnswer(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		rest         string
		done         bool
		wrong        string
	}{
		{name: "accepted, with a frame behind", answer: accepted + "\x81\x00", rest: "\x81\x00", done: true},
		{name: "not all of it", answer: accepted[:len(accepted)-1]},
		{name: "refused", answer: "HTTP/1.1 403 Forbidden\r\n\r\nno", done: true, wrong: `got "403 Forbidden"`},
		{name: "wrong nonce", answer: "HTTP/1.1 101 x\r\nSec-WebSocket-Accept: abc=\r\n\r\n", done: true, wrong: "wrong answer to its nonce"},
		{name: "another protocol", answer: "SSH-2.0-x\r\n\r\n", done: true, wrong: "is no HTTP"},
		{name: "no status", answer: "HTTP/1.1 abc\r\n\r\n", done: true, wrong: "is no HTTP"},
		{name: "endless", answer: strings.Repeat("x", maxHead), done: true, wrong: "longer than"},
	} {
		rest, done, err := parseAnswer([]byte(tt.answer))
		if string(rest) != tt.rest || done != tt.done || (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%s: got %q, %v, %v", tt.name, rest, done, err)
		}
	}
}

func TestRefusalAsksToComeAgain(t *testing.T) {
	_, _, err := parseAnswer([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\n\r\n"))
	var r *refusal
	if !errors.As(err, &r) || !r.again() || r.retry != 3*time.Second {
		t.Errorf("got %v, want a refusal for 3 s", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(accepted))
	f.Add([]byte("HTTP/1.1 429 x\r\nRetry-After: 99999999999\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rest, done, err := parseAnswer(b)
		if err != nil && !done || !done && rest != nil || len(rest) > len(b) {
			t.Fatalf("got %q, %v, %v", rest, done, err)
		}
	})
}

func TestResolveGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ip, err := resolve(ctx, "a.host.that.does.not.exist.invalid"); err == nil {
		t.Errorf("got %v", ip)
	}
}
