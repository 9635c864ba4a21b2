package router

import (
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/tideway-go/tideway/consumer"
)

// A Connect that ends because its time is over may be noticed before the end of
// that time: the answer is the same.
func TestLateIsLate(t *testing.T) {
	r, err := New(nil, Table{}, &Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		w := httptest.NewRecorder()
		h := newHandshake(&connection{router: r}, w, httptest.NewRequest("GET", "/", nil))
		h.refused <- consumer.Result{Err: context.Canceled}
		if h.wait(over); w.Code != 503 {
			t.Fatalf("got %d, want 503", w.Code)
		}
		if _, err := h.accept("", nil); err == nil {
			t.Fatal("accepted after the answer")
		}
	}
}
