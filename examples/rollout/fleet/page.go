package fleet

import (
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/examples/pages"
	"github.com/tideway-go/tideway/examples/rollout/gameserver"
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
	var beside sync.WaitGroup
	var unlisted error
	beside.Go(func() { v.History, unlisted = s.history(r) })
	status, err := job.Get(r.Context(), s.layer, id)
	beside.Wait()
	if err == nil {
		err = status.Decode(&v.Update)
	}
	if err != nil || unlisted != nil {
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

var html = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"asset": asset,
	"clock": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}).ParseFS(files, "page.html"))

func show(w http.ResponseWriter, status int, v view) { pages.Show(w, status, html, v) }

// tags are the hashes of the page's style, script and icon.
var tags = sync.OnceValue(func() map[string]string {
	all := map[string]string{}
	for _, name := range []string{"rollout.css", "rollout.js", "icon.svg"} {
		data, err := files.ReadFile("page/" + name)
		if err != nil {
			panic(err) // the path is constant
		}
		all[name] = fmt.Sprintf("%x", sha256.Sum256(data))[:12]
	}
	return all
})

// asset returns the URL of one of them, with a query that changes with its
// content. So a browser may keep it, and has a page on the screen that is opened
// again without waiting for its style.
func asset(name string) string { return Path + "page/" + name + "?v=" + tags()[name] }

// assets serves them.
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
		if v := r.URL.Query().Get("v"); v != "" && v == tags()[path.Base(r.URL.Path)] {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		h.ServeHTTP(w, r)
	})
}
