package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
)

// Kick says whose connections are to be closed, on every node: those that match
// all of User, Session and Group that are given, at least one.
type Kick struct {
	User    string              `json:"user,omitempty"`    // the User.ID
	Session string              `json:"session,omitempty"` // the User.Session
	Group   string              `json:"group,omitempty"`   // one that the connection is in
	Code    consumer.StatusCode `json:"code,omitempty"`    // default 4003, stay away
	Reason  string              `json:"reason,omitempty"`  // default "closed by an operator"
}

// errWhom is returned for a Kick of nobody.
var errWhom = errors.New("router: kick: give a user, a session or a group; closing everybody is what Shutdown is for")

// Do closes the connections that k names, in every process of the network, and
// returns how many there were. Disconnect runs for each of them. What a user
// may do afterwards is for authentication to decide: revoke first, kick then.
func (k Kick) Do(ctx context.Context, l *layer.Layer) (int, error) {
	if k.nobody() {
		return 0, errWhom
	}
	answers, err := l.Command(ctx, "", "kick", k)
	n := 0
	for _, a := range answers {
		var one int
		if e := json.Unmarshal(a, &one); e != nil {
			err = errors.Join(err, fmt.Errorf("router: kick: an answer: %w", e))
		}
		n += one
	}
	return n, err
}

func (k Kick) nobody() bool { return k.User == "" && k.Session == "" && k.Group == "" }

// matches reports whether Session and Group are those of a connection.
func (k Kick) matches(c *connection) bool {
	return (k.Session == "" || c.who().Session == k.Session) &&
		(k.Group == "" || c.conn != nil && c.conn.InGroup(k.Group))
}

// answerKick carries out a Kick in this process.
func (r *Router) answerKick(_ context.Context, args json.RawMessage) (any, error) {
	var k Kick
	if err := json.Unmarshal(args, &k); err != nil {
		return nil, fmt.Errorf("router: kick: %w", err)
	}
	if k.nobody() {
		return nil, errWhom
	}
	setDefault(&k.Code, consumer.StatusForbidden)
	setDefault(&k.Reason, "closed by an operator")
	return r.conns.close(k.User, k.matches, &consumer.CloseError{Code: k.Code, Reason: k.Reason}), nil
}
