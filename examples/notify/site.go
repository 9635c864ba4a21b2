package main

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/auth/session"
	"github.com/tideway-go/tideway/router/clientjs"
)

// site is a web site with sessions.
type site struct {
	layer    *layer.Layer
	sessions *scs.SessionManager
	users    *session.Sessions
	sockets  *router.Router
}

// newSite makes the site. opts are for its sockets; who they belong to, the site
// says.
func newSite(l *layer.Layer, store scs.Store, opts *router.Options) (*site, error) {
	s := &site{layer: l, sessions: scs.New()}
	s.sessions.Store, s.sessions.Lifetime = store, lifetime
	s.sessions.Cookie.Name = "notify_session"
	var err error
	if s.users, err = session.New(s.sessions, nil); err != nil {
		return nil, err
	}
	var o router.Options
	if opts != nil {
		o = *opts
	}
	o.Authenticate = s.users
	s.sockets, err = router.New(l, router.Table{"/ws/notify/{$}": windows}, &o)
	return s, err
}

// handler returns the site's handler. What changes something takes no requests
// from other sites' pages; a program, which has no Origin, may notify.
func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/ws/", s.sockets)
	mux.HandleFunc("POST /notify/{user}", s.notify)
	mux.Handle("POST /login", s.sessions.LoadAndSave(http.HandlerFunc(s.login)))
	mux.Handle("POST /logout", s.sessions.LoadAndSave(http.HandlerFunc(s.logout)))
	mux.Handle("GET /{$}", s.sessions.LoadAndSave(http.HandlerFunc(s.index)))
	mux.Handle("GET /whoami", s.sessions.LoadAndSave(http.HandlerFunc(s.whoami)))
	mux.Handle("GET /tideway/", http.StripPrefix("/tideway/", clientjs.Handler()))
	mux.Handle("/", assets())
	return http.NewCrossOriginProtection().Handler(mux)
}

// notify puts the form's text into a user's inbox. It knows nothing of sockets.
// When it answers 202 the text is stored. On a real site it asks who is calling
// first.
func (s *site) notify(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	text := strings.TrimSpace(r.FormValue("text"))
	if text == "" {
		http.Error(w, "there is no text", http.StatusBadRequest)
		return
	}
	var name *layer.NameError
	switch err := s.layer.GroupSend(r.Context(), group(r.PathValue("user")), Notification{text, time.Now().UTC().Truncate(time.Second)}); {
	case errors.As(err, &name):
		http.Error(w, "there can be no such user: "+name.Why, http.StatusBadRequest)
	case err != nil:
		http.Error(w, "the notification was not sent; try again", http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintln(w, "sent")
	}
}

// login takes everybody at their word. A real one checks a password.
func (s *site) login(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimSpace(r.FormValue("user"))
	if user == "" || layer.CheckGroup(group(user)) != nil {
		show(w, http.StatusBadRequest, view{Problem: `A name is made of letters, digits, ".", "_" and "-".`})
		return
	}
	if err := s.sessions.RenewToken(r.Context()); err != nil {
		http.Error(w, "the session cannot be written now", http.StatusServiceUnavailable)
		return
	}
	s.sessions.Put(r.Context(), "user_id", user)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// logout ends the session, and then the sockets that were opened with it, on
// whichever node they are.
func (s *site) logout(w http.ResponseWriter, r *http.Request) {
	u, err := s.users.Authenticate(r)
	if err == nil {
		err = s.sessions.Destroy(r.Context())
	}
	if err == nil && u.Session != "" {
		kick := router.Kick{Session: u.Session, Code: consumer.StatusUnauthorized, Reason: "logged out"}
		_, err = kick.Do(r.Context(), s.layer)
	}
	if err != nil {
		http.Error(w, "you may still be logged in; try again", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// index renders the inbox with the place in its group: the page's client goes on
// from there, so nothing falls between the page and its socket.
func (s *site) index(w http.ResponseWriter, r *http.Request) {
	user := s.sessions.GetString(r.Context(), "user_id")
	if user == "" {
		show(w, http.StatusOK, view{})
		return
	}
	b, err := load(r.Context(), s.layer, user, layer.Position{})
	if err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the inbox cannot be read now; try again", http.StatusServiceUnavailable)
		return
	}
	v := view{User: user, Host: r.Host, Group: group(user), Cursor: consumer.Cursor(s.layer, group(user), b.at), Unread: b.unread}
	for i, n := range slices.Backward(b.all) { // the newest on top
		v.Lines = append(v.Lines, line{n.Text, n.Sent, len(b.all)-i <= b.unread})
	}
	show(w, http.StatusOK, v)
}

// whoami answers a page whose socket was refused, which a browser does not tell
// the reason.
func (s *site) whoami(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, s.sessions.GetString(r.Context(), "user_id"))
}

// view is what the page shows: the login form while User is "".
type view struct {
	User, Host, Problem string

	Group, Cursor string // where the page's client goes on
	Unread        int
	Lines         []line
}

// line is one notification of the list.
type line struct {
	Text   string
	Sent   time.Time
	Unread bool
}

//go:embed page
var files embed.FS

var page = template.Must(template.ParseFS(files, "page/index.html"))

func show(w http.ResponseWriter, status int, v view) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "+
		"img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_ = page.Execute(w, v) // fails when the client has gone
}

// assets serves the page's style and script.
func assets() http.Handler {
	sub, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the path is constant
	}
	return http.FileServerFS(sub)
}
