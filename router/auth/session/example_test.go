package session_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/alexedwards/scs/v2"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth/session"
)

// The page logs in as it always did; the socket knows the user by the same
// cookie.
func ExampleNew() {
	manager := scs.New()
	users, err := session.New(manager, &session.Options{
		User: func(ctx context.Context, id string) (consumer.User, error) {
			return consumer.User{ID: id, Data: manager.GetString(ctx, "role")}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	login := manager.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := manager.RenewToken(r.Context()); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
			return
		}
		manager.Put(r.Context(), "user_id", "ada")
		manager.Put(r.Context(), "role", "admin")
	}))
	page := httptest.NewRecorder()
	login.ServeHTTP(page, httptest.NewRequest("POST", "/login", nil))

	handshake := httptest.NewRequest("GET", "/ws/", nil)
	handshake.AddCookie(page.Result().Cookies()[0])
	u, err := users.Authenticate(handshake)
	fmt.Println(u.ID, u.Data.(*session.Session).Data, err)
	// Output: ada admin <nil>
}

// A login and a logout over the socket: Connect starts the session, Receive
// changes its user.
func ExampleSessions_Login() {
	users, err := session.New(scs.New(), nil)
	if err != nil {
		log.Fatal(err)
	}

	type chat struct{}
	type request struct {
		Action, Name, Password string
	}
	app := consumer.Type[chat]{
		New: func() *chat { return new(chat) },
		Connect: func(_ *chat, ctx context.Context, c *consumer.Conn) error {
			return users.Start(ctx, c)
		},
		Receive: consumer.JSON(func(_ *chat, ctx context.Context, c *consumer.Conn, m request) error {
			switch {
			case m.Action == "logout":
				return users.Logout(ctx, c)
			case passwordIsRight(m.Name, m.Password):
				return users.Login(ctx, c, m.Name)
			}
			return c.SendJSON(ctx, map[string]string{"error": "wrong name or password"})
		}),
	}
	_ = app // router.Table{"/ws/": app}, with router.Options{Authenticate: users}
}

func passwordIsRight(name, password string) bool { return false }
