package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"

	"github.com/tideway-go/tideway/consumer"
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

// greetPrograms says how programs come in by the HTTP door. A key that somebody
// chose is a secret.
func (d *demo) greetPrograms(host string) {
	key := d.apiKey
	if !d.freshKey {
		key = "$TIDEWAY_API_KEY"
	}
	fmt.Fprintf(d.stdout, "Or from any program that speaks HTTP:\n\n"+
		"    curl -H \"X-API-Key: %s\" --json '%s' http://%s/api/v1/groups/chat.lobby/messages\n\n",
		key, `{"type":"chat.message","user":"curl","text":"hello"}`, host)
}
