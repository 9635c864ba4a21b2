package layer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// signers returns two processes of one network with durable groups.
func signers(t *testing.T) (a, b *layer.Layer) {
	t.Helper()
	bus := membus.New()
	for _, l := range []**layer.Layer{&a, &b} {
		var err error
		if *l, err = layer.New(bus, &layer.Options{Groups: []layer.Retention{{Pattern: "job.>"}}}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*l).Close(context.Background()) })
	}
	return a, b
}

func TestSign(t *testing.T) {
	a, b := signers(t)
	ctx := t.Context()
	token := a.Sign("cursor/job.1", []byte("here"))
	got, err := b.Verify(ctx, "cursor/job.1", token)
	if err != nil || string(got) != "here" {
		t.Errorf("got %q, %v; want here", got, err)
	}
	flip := func(i int) string {
		c := "A"
		if token[i] == 'A' {
			c = "B"
		}
		return token[:i] + c + token[i+1:]
	}
	for _, test := range []struct{ name, purpose, token string }{
		{"another purpose", "cursor/job.2", token},
		{"another key", "cursor/job.1", flip(0)},
		{"another proof", "cursor/job.1", flip(10)},
		{"other data", "cursor/job.1", flip(28)},
		{"cut", "cursor/job.1", token[:20]},
		{"longer", "cursor/job.1", token + "AAAA"},
		{"empty", "cursor/job.1", ""},
		{"no base64url", "cursor/job.1", strings.Repeat("=", 40)},
	} {
		if got, err := b.Verify(ctx, test.purpose, test.token); !errors.Is(err, layer.ErrForged) {
			t.Errorf("%s: got %q, %v; want ErrForged", test.name, got, err)
		}
	}
}

// A token outlives one renewal of the keys and not two; all processes sign with
// the same key.
func TestKeysRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := signers(t)
		ctx := t.Context()
		first := a.Sign("p", []byte("1"))
		time.Sleep(25 * time.Hour)
		second := a.Sign("p", []byte("2"))
		if first[:5] == second[:5] {
			t.Error("the key was not renewed after a day")
		}
		if other := b.Sign("p", []byte("2")); other != second {
			t.Errorf("the other process signs with another key: %s, %s", second, other)
		}
		for _, token := range []string{first, second} {
			if _, err := b.Verify(ctx, "p", token); err != nil {
				t.Errorf("after one renewal: %v", err)
			}
		}
		time.Sleep(24 * time.Hour)
		if _, err := b.Verify(ctx, "p", first); !errors.Is(err, layer.ErrForged) {
			t.Errorf("after two renewals: got %v, want ErrForged", err)
		}
		if _, err := b.Verify(ctx, "p", second); err != nil {
			t.Errorf("the newer one after its first renewal: %v", err)
		}
	})
}

func TestReaches(t *testing.T) {
	position := func(s string) layer.Position {
		p, err := layer.ParsePosition(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, test := range []struct {
		p, q string
		want bool
	}{
		{"a.5", "a.5", true},
		{"a.6", "a.5", true},
		{"a.4", "a.5", false},
		{"b.6", "a.5", false},
		{"a.0.7", "a.1", false},
		{"a.1", "a.0.7", true},
		{"", "a.1", false},
	} {
		if got := position(test.p).Reaches(position(test.q)); got != test.want {
			t.Errorf("%q reaches %q: got %v, want %v", test.p, test.q, got, test.want)
		}
	}
}
