package inbox

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/examples/internal/sessions"
	"github.com/tideway-go/tideway/examples/terminal"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/auth/session"
	"github.com/tideway-go/tideway/router/clientjs"
)

// Path is where the site is.
const Path = "/inbox/"

// Options are the settings of [New]. A nil *Options and the zero Options mean the
// defaults.
type Options struct {
	// Commands are what the page shows, for terminals. Default
	// [terminal.Commands].
	Commands []terminal.Command

	// Router has the settings of the sockets; who they belong to, the site says.
	// Default: those of package router.
	Router *router.Options
}

// Site is the web site. Its methods may be called from many goroutines.
type Site struct {
	layer    *layer.Layer
	commands []terminal.Command
	sessions *scs.SessionManager
	users    *session.Sessions
	sockets  *router.Router
}

// New makes the site. The layer needs [Groups].
func New(l *layer.Layer, opts *Options) (*Site, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	s := &Site{layer: l, commands: o.Commands, sessions: scs.New()}
	if s.commands == nil {
		s.commands = terminal.Commands()
	}
	s.sessions.Store = sessions.New(l, sessionPrefix)
	s.sessions.HashTokenInStore = true
	s.sessions.Lifetime = lifetime
	s.sessions.Cookie.Name, s.sessions.Cookie.Path = "notify_session", Path
	s.sessions.ErrorFunc = func(w http.ResponseWriter, _ *http.Request, _ error) {
		http.Error(w, "sessions cannot be read now; try again in a moment", http.StatusServiceUnavailable)
	}
	var err error
	if s.users, err = session.New(s.sessions, nil); err != nil {
		return nil, err
	}
	var sockets router.Options
	if o.Router != nil {
		sockets = *o.Router
	}
	sockets.Authenticate = s.users
	s.sockets, err = router.New(l, router.Table{Path + "ws/{$}": windows}, &sockets)
	return s, err
}

// Router serves the site's sockets; it is for router.Serve, which shuts it down.
func (s *Site) Router() *router.Router { return s.sockets }

// Handler serves the site below [Path]. What changes something takes no requests
// from other sites' pages; a program, which has no Origin, may notify.
func (s *Site) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, s.sessions.LoadAndSave(h)) }
	handle("GET "+Path+"{$}", s.index)
	handle("GET "+Path+"whoami", s.whoami)
	handle("POST "+Path+"login", s.login)
	handle("POST "+Path+"logout", s.logout)
	mux.HandleFunc("POST "+Path+"notify/{user}", s.notify)
	mux.Handle(Path+"ws/", s.sockets)
	mux.Handle("GET "+Path+"tideway/", http.StripPrefix(Path+"tideway/", clientjs.Handler()))
	mux.Handle("GET "+Path+"page/", http.StripPrefix(Path+"page/", assets()))
	return http.NewCrossOriginProtection().Handler(mux)
}

// notify puts the form's text into a user's inbox. It knows nothing of sockets.
// When it answers 202 the text is stored. On a real site it asks who is calling
// first.
func (s *Site) notify(w http.ResponseWriter, r *http.Request) {
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
func (s *Site) login(w http.ResponseWriter, r *http.Request) {
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
	http.Redirect(w, r, Path, http.StatusSeeOther)
}

// logout ends the session, and then the sockets that were opened with it, on
// whichever node they are.
func (s *Site) logout(w http.ResponseWriter, r *http.Request) {
	if err := s.users.End(r, s.layer); err != nil {
		http.Error(w, "you may still be logged in; try again", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, Path, http.StatusSeeOther)
}

// index renders the inbox with the place in its group: the page's client goes on
// from there, so nothing falls between the page and its socket.
func (s *Site) index(w http.ResponseWriter, r *http.Request) {
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
	v := view{User: user, Commands: s.lines(r.Host, user), Group: group(user), Cursor: consumer.Cursor(s.layer, group(user), b.at), Unread: b.unread}
	for i, n := range slices.Backward(b.all) { // the newest on top
		v.Lines = append(v.Lines, line{n.Text, n.Sent, len(b.all)-i <= b.unread})
	}
	show(w, http.StatusOK, v)
}

// whoami answers a page whose socket was refused, which a browser does not tell
// the reason.
func (s *Site) whoami(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, s.sessions.GetString(r.Context(), "user_id"))
}
