package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

// The site stands, and shows the board; a taken port is an error that names it.
func TestRun(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := run(t.Context(), addr); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("with a taken port: %v, want an error that names %s", err, addr)
	}
	ln.Close()

	addr = freeport.Addr(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, addr) }()
	var page *http.Response
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if page, err = http.Get("http://" + addr + "/"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	html, err := io.ReadAll(page.Body)
	page.Body.Close()
	if err != nil || !strings.Contains(string(html), "Tideway quotes") {
		t.Errorf("the page is %.200q, %v", html, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the site ended with %v", err)
	}
}
