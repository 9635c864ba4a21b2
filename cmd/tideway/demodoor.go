package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/examples/notify/inbox"
	"github.com/tideway-go/tideway/examples/rollout/fleet"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/httpapi"
)

// retentions are the policies that --durable asks for.
func (d *demo) retentions() (all []layer.Retention) {
	for _, pattern := range d.durable {
		all = append(all, layer.Retention{Pattern: pattern})
	}
	return all
}

// checkDurable says which pattern of --durable is none, or covers what another one
// does.
func (d *demo) checkDurable() error {
	all := d.retentions()
	for i, r := range all {
		front, open := strings.CutSuffix(r.Pattern, ">")
		if r.Pattern != ">" && (open && !strings.HasSuffix(front, ".") || layer.CheckGroup(front) != nil) {
			return usagef(`--durable %q is no pattern: want the name of a group, or its front, a period and ">", such as "chat.>"`, r.Pattern)
		}
		for _, o := range all[:i] {
			if r.Overlaps(o) {
				return usagef("--durable %q and %q are about the same groups: give one of them", o.Pattern, r.Pattern)
			}
		}
	}
	return nil
}

// allRetentions are those, and the demo's own. What the demo keeps anyway need not
// be asked for.
func (d *demo) allRetentions() []layer.Retention {
	own := append(fleet.Groups(), inbox.Groups()...)
	asked := slices.DeleteFunc(d.retentions(), func(r layer.Retention) bool {
		return slices.ContainsFunc(own, func(o layer.Retention) bool {
			return o.Pattern == r.Pattern || o.Covers(strings.TrimSuffix(r.Pattern, ">"))
		})
	})
	return append(asked, own...)
}

// chooseKey takes the key that somebody chose, or makes one.
func (d *demo) chooseKey() error {
	d.apiKey = cmp.Or(d.apiKey, d.env("TIDEWAY_API_KEY"))
	if d.apiKey == "" {
		d.apiKey, d.freshKey = rand.Text(), true
	}
	if n := len(d.apiKey); n < 16 {
		return usagef("the key of --api-key or TIDEWAY_API_KEY has %d characters; 16 is the least", n)
	}
	return nil
}

// door makes the HTTP door, with one key that may do everything.
func (d *demo) door(l *layer.Layer, log *slog.Logger) (*httpapi.API, error) {
	return httpapi.New(l, &httpapi.Options{
		Keys:   []httpapi.Key{{Name: "demo", Secret: d.apiKey, Scopes: []string{"*"}}},
		Logger: log,
		Disconnect: func(ctx context.Context, k httpapi.Kick) (int, error) {
			return router.Kick{User: k.User, Session: k.Session, Group: k.Group, Code: consumer.StatusCode(k.Code), Reason: k.Reason}.Do(ctx, l)
		},
	})
}
