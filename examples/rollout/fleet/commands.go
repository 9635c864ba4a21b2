package fleet

import (
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/examples/rollout/gameserver"
)

// start submits an update. The form has a key, so that pressing the button twice,
// or again after a timeout, is one update.
func (s *Site) start(w http.ResponseWriter, r *http.Request, by User) {
	all, err := s.servers.list(r.Context())
	if err != nil {
		http.Error(w, "the game servers do not answer; nothing was started", http.StatusBadGateway)
		return
	}
	u := Update{Version: r.PostFormValue("version"), AtOnce: number(r, "at_once"), StopAfter: number(r, "stop_after")}
	picked := r.PostForm["server"]
	if problem := check(u, picked, all); problem != "" {
		s.showOverview(w, r, http.StatusBadRequest, problem)
		return
	}
	opts := &job.SubmitOptions{Key: r.PostFormValue("key"), Title: u.Version, By: by.Name, Targets: picked}
	id, err := job.Submit(r.Context(), s.layer, Kind, u, opts)
	var bad *job.OptionError
	switch {
	case errors.As(err, &bad):
		s.showOverview(w, r, http.StatusBadRequest, "The update cannot be: "+bad.Why)
	case err != nil:
		s.showOverview(w, r, http.StatusServiceUnavailable, "It is not known whether the update was started. Press the button again: it will be started once.")
	default:
		http.Redirect(w, r, address(id), http.StatusSeeOther)
	}
}

// number reads a number from the form, -1 if it has none.
func number(r *http.Request, name string) int {
	n, err := strconv.Atoi(r.PostFormValue(name))
	if err != nil {
		return -1
	}
	return n
}

// check says what is wrong with an update, "" when nothing is.
func check(u Update, picked []string, all []gameserver.Server) string {
	if len(picked) == 0 {
		return "Pick at least one server."
	}
	for _, name := range picked {
		if !slices.ContainsFunc(all, func(s gameserver.Server) bool { return s.Name == name }) {
			return "There is no server " + strconv.Quote(name) + "."
		}
	}
	switch {
	case !slices.ContainsFunc(versions, func(v version) bool { return v.Name == u.Version }):
		return "Pick a version."
	case u.AtOnce < 1 || u.AtOnce > 40:
		return "1 to 40 servers can be updated at once."
	case u.StopAfter < 0:
		return "Say after how many failures to stop, or 0 for never."
	}
	return ""
}

func (s *Site) cancel(w http.ResponseWriter, r *http.Request, by User) {
	id, ok := s.id(w, r)
	if !ok {
		return
	}
	var ended *job.EndedError
	if err := job.Cancel(r.Context(), s.layer, id, by.Name); err != nil && !errors.As(err, &ended) {
		http.Error(w, "it could not be cancelled; try again", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, address(id), http.StatusSeeOther) // which shows who was first
}

func (s *Site) retry(w http.ResponseWriter, r *http.Request, by User) {
	id, ok := s.id(w, r)
	if !ok {
		return
	}
	next, err := job.Retry(r.Context(), s.layer, id, by.Name)
	var wrong *job.EndedError
	switch {
	case errors.As(err, &wrong):
		next = id
	case err != nil:
		http.Error(w, "it could not be retried; try again", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, address(next), http.StatusSeeOther)
}

// id returns the id in the path if a rollout has it, and answers 404 otherwise.
func (s *Site) id(w http.ResponseWriter, r *http.Request) (string, bool) {
	id := r.PathValue("id")
	known, err := s.isRollout(r.Context(), id)
	switch {
	case err != nil:
		http.Error(w, "rollouts cannot be read now; try again", http.StatusServiceUnavailable)
	case !known:
		http.Error(w, "there is no such rollout; they are kept for seven days", http.StatusNotFound)
	}
	return id, known && err == nil
}
