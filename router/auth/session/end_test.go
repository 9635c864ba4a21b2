package session_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router/auth/session"
)

// A logout on a page closes the sockets of that session at once, on every node,
// and no others.
func TestEnd(t *testing.T) {
	manager := scs.New() // outside the bubble: it starts a goroutine for good
	manager.Store = memstore.NewWithCleanupInterval(0)
	synctest.Test(t, func(t *testing.T) {
		users, err := session.New(manager, nil)
		if err != nil {
			t.Fatal(err)
		}
		sockets, l := serve(t, users)
		mux := http.NewServeMux()
		mux.Handle("/ws/", sockets)
		mux.HandleFunc("/login", func(_ http.ResponseWriter, r *http.Request) {
			manager.Put(r.Context(), "user_id", r.FormValue("user"))
		})
		mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
			if err := users.End(r, l); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
			}
		})
		h := manager.LoadAndSave(mux)
		ask := func(path, cookie string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("POST", path, nil)
			r.Header.Set("Cookie", cookie)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		open := func(user string) (cookie string, c *consumertest.Client) {
			cookie = ask("/login?user="+user, "").Result().Cookies()[0].String()
			c = consumertest.Dial(t, h, "/ws/", &consumertest.Options{
				Header: http.Header{"Cookie": {cookie}, "Origin": {"http://localhost"}},
			})
			return cookie, c
		}
		ada, first := open("ada")
		_, second := open("ada")

		if w := ask("/logout", ada); w.Code != http.StatusOK {
			t.Fatalf("logout: %d %s", w.Code, w.Body)
		}
		if code, reason := first.ReceiveClose(); code != consumer.StatusUnauthorized || reason != "logged out" {
			t.Errorf("the session's socket was closed with %d %q", code, reason)
		}
		second.ReceiveNothing(time.Second)
		for _, cookie := range []string{ada, ""} {
			if w := ask("/logout", cookie); w.Code != http.StatusOK {
				t.Errorf("logout without a session: %d %s", w.Code, w.Body)
			}
		}
	})
}
