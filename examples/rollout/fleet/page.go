package fleet

import (
	"crypto/rand"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/examples/rollout/gameserver"
	"github.com/tideway-go/tideway/router/clientjs"
)

// version is what can be installed.
type version struct{ Name, Note string }

var versions = []version{
	{"2.1.0", "stable"},
	{"2.2.0-rc1", "some servers refuse it at first"},
	{"2.3.0-broken", "no server survives it"},
}

// region is a part of the form.
type region struct {
	Name    string
	Servers []gameserver.Server
}

// view is what a page shows: the login form while User is nobody.
type view struct {
	User    User
	Problem string
	Next    string // after the login
	Printed []User // whose passwords are in the program's terminal
	History []job.Summary

	Rollout *job.Status // of the page of one rollout
	Update  Update

	Key      string // of the form, and what it offers
	Regions  []region
	Versions []version
}

// Operator reports whether the user may do something.
func (v view) Operator() bool { return v.User.Role == Operator }

// Verdict says how the rollout has ended, "" before. The page's script says it,
// too; this is for who opens the page and wants to know at once.
func (v view) Verdict() string {
	count := map[job.State]int{}
	for _, t := range v.Rollout.Progress {
		count[t.State]++
	}
	of := fmt.Sprintf("%d of %d servers updated", count[job.StateSucceeded], len(v.Rollout.Progress))
	switch v.Rollout.State {
	case job.StateSucceeded:
		return "Done: " + of + "."
	case job.StateFailed:
		return fmt.Sprintf("Failed: %s, %d failed.", of, count[job.StateFailed])
	case job.StateCancelled:
		return fmt.Sprintf("Cancelled by %s: %s.", v.Rollout.CancelledBy, of)
	case job.StateDead:
		return "Given up: " + of + ". " + v.Rollout.Error
	}
	return ""
}

// overview shows the form for a new update, and the history.
func (s *Site) overview(w http.ResponseWriter, r *http.Request) {
	s.showOverview(w, r, http.StatusOK, "")
}

func (s *Site) showOverview(w http.ResponseWriter, r *http.Request, status int, problem string) {
	v := view{User: s.who(r), Problem: problem, Key: rand.Text(), Versions: versions}
	if v.User.Name == "" {
		s.showLogin(w, status, v)
		return
	}
	all, err := s.servers.list(r.Context())
	if err != nil && problem == "" {
		v.Problem = "The game servers do not answer. Load the page again in a moment."
	}
	for _, name := range gameserver.Regions {
		in := slices.DeleteFunc(slices.Clone(all), func(s gameserver.Server) bool { return s.Region != name })
		if len(in) > 0 {
			v.Regions = append(v.Regions, region{name, in})
		}
	}
	if v.History, err = s.history(r); err != nil {
		http.Error(w, "rollouts cannot be read now; try again in a moment", http.StatusServiceUnavailable)
		return
	}
	show(w, status, v)
}

// showLogin shows the login form.
func (s *Site) showLogin(w http.ResponseWriter, status int, v view) {
	if s.printed {
		v.Printed = s.people
	}
	show(w, status, v)
}

func (s *Site) history(r *http.Request) ([]job.Summary, error) {
	return job.List(r.Context(), s.layer, &job.ListOptions{Kind: Kind, Limit: 20})
}

// rollout shows one rollout as it stands. The page's socket brings what led to
// it, and what follows.
func (s *Site) rollout(w http.ResponseWriter, r *http.Request) {
	v := view{User: s.who(r), Next: r.URL.Path}
	if v.User.Name == "" {
		s.showLogin(w, http.StatusOK, v)
		return
	}
	id, ok := s.id(w, r)
	if !ok {
		return
	}
	status, err := job.Get(r.Context(), s.layer, id)
	if err == nil {
		v.History, err = s.history(r)
	}
	if err == nil {
		err = status.Decode(&v.Update)
	}
	if err != nil {
		http.Error(w, "the rollout cannot be read now; try again in a moment", http.StatusServiceUnavailable)
		return
	}
	v.Rollout = &status
	show(w, http.StatusOK, v)
}

// address returns the path of a rollout's page.
func address(id string) string { return Path + "r/" + id + "/" }

//go:embed page page.html
var files embed.FS

var page = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"clientjs": func() string { return clientjs.URL("index.js") },
	"clock":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}).ParseFS(files, "page.html"))

// policy lets the page load and open only what this server has.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func show(w http.ResponseWriter, status int, v view) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	_ = page.Execute(w, v) // fails when the client has gone
}

// assets serves the page's style, script and icon.
func assets() http.Handler {
	sub, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the path is constant
	}
	return withHeaders(http.FileServerFS(sub))
}

func withHeaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		h.ServeHTTP(w, r)
	})
}
