package fleet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
)

// Role is what a user may do.
type Role string

// The roles of users.
const (
	Viewer   Role = "viewer"   // watches
	Operator Role = "operator" // watches, starts, cancels and retries
)

// User is somebody who may log in. The built-in ones are for an example: a real
// site has a table of users, and keeps their passwords as slow hashes.
type User struct {
	Name     string
	Role     Role
	Password string
}

// DemoUsers returns the operator ann and the viewer bob, with passwords that
// nobody can guess.
func DemoUsers() []User {
	password := func() string { return strings.ToLower(rand.Text()[:12]) }
	return []User{{"ann", Operator, password()}, {"bob", Viewer, password()}}
}

// ParseUsers reads users from a text such as "ann:operator:secret,bob:viewer:word".
// The passwords have 8 characters or more, and no comma.
func ParseUsers(text string) ([]User, error) {
	var all []User
	for one := range strings.SplitSeq(text, ",") {
		part := strings.SplitN(one, ":", 3)
		if len(part) != 3 {
			return nil, fmt.Errorf("fleet: a user is name:role:password, which one of them is not")
		}
		u := User{part[0], Role(part[1]), part[2]}
		switch {
		case layer.CheckGroup(u.Name) != nil:
			return nil, fmt.Errorf("fleet: the user's name %q is not made of letters, digits, hyphens, underscores and periods", u.Name)
		case u.Role != Operator && u.Role != Viewer:
			return nil, fmt.Errorf("fleet: the user %s has the role %q; want operator or viewer", u.Name, u.Role)
		case len(u.Password) < 8:
			return nil, fmt.Errorf("fleet: the password of %s has less than 8 characters", u.Name)
		}
		all = append(all, u)
	}
	return all, nil
}

// user makes the user of a session. Whoever is no longer in the list is logged
// out.
func (s *Site) user(_ context.Context, id string) (consumer.User, error) {
	u := s.person(id)
	return consumer.User{ID: u.Name, Data: u.Role}, nil
}

// person returns the user of that name, or nobody.
func (s *Site) person(name string) User {
	i := slices.IndexFunc(s.people, func(u User) bool { return u.Name == name })
	if i < 0 {
		return User{}
	}
	return s.people[i]
}

// who returns who asks, or nobody.
func (s *Site) who(r *http.Request) User {
	return s.person(s.sessions.GetString(r.Context(), "user_id"))
}

// operator lets operators alone use h.
func (s *Site) operator(h func(http.ResponseWriter, *http.Request, User)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 256<<10)
		switch u := s.who(r); u.Role {
		case Operator:
			h(w, r, u)
		case Viewer:
			http.Error(w, "this is for operators; you may watch", http.StatusForbidden)
		default:
			http.Error(w, "log in first", http.StatusUnauthorized)
		}
	}
}

func (s *Site) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	u := s.person(r.PostFormValue("user"))
	want, got := sha256.Sum256([]byte(u.Password)), sha256.Sum256([]byte(r.PostFormValue("password")))
	if subtle.ConstantTimeCompare(want[:], got[:]) == 0 || u.Name == "" {
		next := r.PostFormValue("next")
		s.showLogin(w, http.StatusForbidden, view{Problem: "There is no such user with that password.", Next: next})
		return
	}
	if err := s.sessions.RenewToken(r.Context()); err != nil {
		http.Error(w, "the session cannot be written now; try again", http.StatusServiceUnavailable)
		return
	}
	s.sessions.Put(r.Context(), "user_id", u.Name)
	http.Redirect(w, r, local(r.PostFormValue("next")), http.StatusSeeOther)
}

// local returns the page of the rollout that next is the address of, and the
// site's for anything else: nobody is to be sent elsewhere from here.
func local(next string) string {
	id, found := strings.CutPrefix(strings.TrimSuffix(next, "/"), Path+"r/")
	if !found || job.CheckID(id) != nil {
		return Path
	}
	return address(id)
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

// whoami answers a page whose socket was refused, which a browser does not tell
// the reason.
func (s *Site) whoami(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, s.who(r).Name)
}
