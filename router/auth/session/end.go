package session

import (
	"net/http"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
)

// End is for a page's logout handler, inside the manager's LoadAndSave. It
// deletes the session that the request has, and closes the sockets that were
// opened with it with code 4001, in every process of l's network. Without a
// session it does nothing. After an error the session may be there still, or
// sockets of it be open, until their next recheck finds it gone. Errors: what
// [Sessions.Authenticate] and [layer.Layer.Command] return, and the store's.
func (s *Sessions) End(r *http.Request, l *layer.Layer) error {
	u, err := s.Authenticate(r)
	if err != nil || u.Session == "" {
		return err
	}
	if err := s.manager.Destroy(r.Context()); err != nil {
		return s.unavailable(err, consumer.Deny(http.StatusServiceUnavailable, "the session cannot be ended now"))
	}
	kick := router.Kick{Session: u.Session, Code: consumer.StatusUnauthorized, Reason: "logged out"}
	_, err = kick.Do(r.Context(), l)
	return err
}
