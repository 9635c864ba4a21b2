package pages

import (
	"html/template"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestHeaders(t *testing.T) {
	hello := template.Must(template.New("").Parse("hello {{.}}"))
	same := Strict(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	for _, c := range []struct {
		answer func(http.ResponseWriter)
		status int
		header map[string]string
		body   string
	}{
		{func(w http.ResponseWriter) { same.ServeHTTP(w, httptest.NewRequest("GET", "/", nil)) }, 404, map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
		}, ""},
		{func(w http.ResponseWriter) { Show(w, 401, hello, "<you>") }, 401, map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8",
		}, "hello &lt;you&gt;"},
	} {
		w := httptest.NewRecorder()
		c.answer(w)
		if w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("got %d %q, want %d %q", w.Code, w.Body, c.status, c.body)
		}
		for name, want := range c.header {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
}
