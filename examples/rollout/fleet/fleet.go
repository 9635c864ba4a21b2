// Package fleet is a site on which operators update game servers. An operator
// picks servers and a version and presses "update". Whoever is logged in watches:
// a bar and the lines for each server, live, from the first line on, whenever he
// comes.
//
// Nothing of an update hangs on the page, on the process that served it, or on
// the one that does the work. An update is a job of the kind [Kind]; its log is a
// durable group, which the page joins from the start:
//
//	browser --- POST /rollout/start ---> web process --- job.Submit ---> NATS
//	worker  <--- job.Work --- NATS       each step and line is an event of the job
//	browser <--- WebSocket, tideway.v1 --- any web process <--- the job's group
//
// A page that comes back says how far it has got, and goes on behind that. A
// worker that dies is replaced by the next, which goes on at the step at which the
// dead one was.
//
// The parts are [New], the site; [Work], the worker; and package gameserver, a
// simulated fleet in a process of its own. They may be processes on different
// machines, any number of each, with one NATS between them.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/examples/internal/sessions"
	"github.com/tideway-go/tideway/examples/rollout/gameserver"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/auth/session"
	"github.com/tideway-go/tideway/router/clientjs"
)

// Kind is the kind of the jobs that update servers.
const Kind = "rollout"

// Path is where the site is.
const Path = "/rollout/"

// Groups are the durable groups that the site and the workers need, for
// [layer.Options]: those of jobs, and the sessions.
func Groups() []layer.Retention {
	return append(job.Groups(), sessions.Group(sessionPrefix, sessionAge))
}

const (
	sessionPrefix = "rolloutsession."
	sessionAge    = 12 * time.Hour
)

// Queues are the durable queues that they need. A job whose worker has died goes
// on elsewhere after ackWait; 0 is 30 s. All programs on one network have to agree.
func Queues(ackWait time.Duration) []layer.QueuePolicy {
	all := job.Queues()
	for i := range all {
		all[i].AckWait = ackWait
	}
	return all
}

// Options are the settings of [New].
type Options struct {
	// Servers is the URL of the game servers. Required.
	Servers string

	// Users are those who may log in. Required.
	Users []User

	// Printed says that the program has printed the names and passwords of Users,
	// which the login form then tells. Default false.
	Printed bool

	// SecureCookies is for a site that browsers reach by https alone. Default
	// false.
	SecureCookies bool

	// Router has the settings of the sockets; who they belong to, the site says.
	// Default: those of package router.
	Router *router.Options
}

// Site is the web site. Its methods may be called from many goroutines.
type Site struct {
	layer    *layer.Layer
	servers  *servers
	people   []User
	printed  bool
	sessions *scs.SessionManager
	users    *session.Sessions
	sockets  *router.Router
}

// New makes the site. The layer needs [Groups] and [Queues].
func New(l *layer.Layer, opts *Options) (*Site, error) {
	if opts == nil || opts.Servers == "" || len(opts.Users) == 0 {
		return nil, errors.New("fleet: Options need Servers, the address of the game servers, and Users, who may log in")
	}
	s := &Site{layer: l, servers: newServers(opts.Servers), people: opts.Users, printed: opts.Printed, sessions: scs.New()}
	s.sessions.Store = sessions.New(l, sessionPrefix)
	s.sessions.HashTokenInStore = true
	s.sessions.Lifetime = sessionAge
	s.sessions.Cookie.Name, s.sessions.Cookie.Path = "rollout_session", Path
	s.sessions.Cookie.Secure = opts.SecureCookies
	s.sessions.ErrorFunc = func(w http.ResponseWriter, _ *http.Request, _ error) {
		http.Error(w, "sessions cannot be read now; try again in a moment", http.StatusServiceUnavailable)
	}
	var err error
	if s.users, err = session.New(s.sessions, &session.Options{User: s.user}); err != nil {
		return nil, err
	}
	var o router.Options
	if opts.Router != nil {
		o = *opts.Router
	}
	o.Authenticate = s.users
	s.sockets, err = router.New(l, router.Table{
		Path + "ws/{$}":      s.watchers(),
		Path + "ws/{id}/{$}": s.watchers(),
	}, &o)
	return s, err
}

// Router serves the site's sockets; it is for router.Serve, which shuts it down.
func (s *Site) Router() *router.Router { return s.sockets }

// Handler serves the site below [Path]. What changes something takes no requests
// from other sites' pages.
func (s *Site) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, s.sessions.LoadAndSave(h)) }
	handle("GET "+Path+"{$}", s.overview)
	handle("GET "+Path+"r/{id}/{$}", s.rollout)
	handle("GET "+Path+"whoami", s.whoami)
	handle("POST "+Path+"login", s.login)
	handle("POST "+Path+"logout", s.logout)
	handle("POST "+Path+"start", s.operator(s.start))
	handle("POST "+Path+"r/{id}/cancel", s.operator(s.cancel))
	handle("POST "+Path+"r/{id}/retry", s.operator(s.retry))
	mux.Handle(Path+"ws/", s.sockets)
	mux.Handle("GET "+Path+"tideway/", clientjs.Handler())
	mux.Handle("GET "+Path+"page/", http.StripPrefix(Path+"page/", assets()))
	return http.NewCrossOriginProtection().Handler(mux)
}

// servers are the game servers as seen from here.
type servers struct {
	url    string
	client *http.Client
}

func newServers(url string) *servers { return &servers{url, &http.Client{}} }

// list asks who there is.
func (s *servers) list(ctx context.Context) ([]gameserver.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var all []gameserver.Server
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/servers", nil)
	if err == nil {
		_, err = s.do(r, &all)
	}
	return all, err
}

// do asks, and decodes the answer into v.
func (s *servers) do(r *http.Request, v any) (status int, err error) {
	response, err := s.client.Do(r)
	if err != nil {
		return 0, fmt.Errorf("fleet: %w", err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(http.MaxBytesReader(nil, response.Body, 1<<20)).Decode(v); err != nil {
		return 0, fmt.Errorf("fleet: the answer of the game servers: %w", err)
	}
	return response.StatusCode, nil
}
