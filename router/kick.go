package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
)

// Kick says whose connections are to be closed, on every node.
type Kick struct {
	User    string              `json:"user,omitempty"`    // the User.ID; required unless Session is given
	Session string              `json:"session,omitempty"` // the User.Session; with User, both must match
	Code    consumer.StatusCode `json:"code,omitempty"`    // default 4003, stay away
	Reason  string              `json:"reason,omitempty"`  // default "closed by an operator"
}

// errWhom is returned for a Kick of nobody.
var errWhom = errors.New("router: kick: give a user or a session; closing everybody is what Shutdown is for")

// Do closes the connections that k names, in every process of the network, and
// returns how many there were. Disconnect runs for each of them. What a user
// may do afterwards is for authentication to decide: revoke first, kick then.
func (k Kick) Do(ctx context.Context, l *layer.Layer) (int, error) {
	if k.User == "" && k.Session == "" {
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

// answerKick carries out a Kick in this process.
func (r *Router) answerKick(_ context.Context, args json.RawMessage) (any, error) {
	var k Kick
	if err := json.Unmarshal(args, &k); err != nil {
		return nil, fmt.Errorf("router: kick: %w", err)
	}
	if k.User == "" && k.Session == "" {
		return nil, errWhom
	}
	setDefault(&k.Code, consumer.StatusForbidden)
	setDefault(&k.Reason, "closed by an operator")
	return r.conns.close(k.User, func(u consumer.User) bool {
		return k.Session == "" || u.Session == k.Session
	}, &consumer.CloseError{Code: k.Code, Reason: k.Reason}), nil
}
