// Package layertest holds the promises of package layer as a test suite that
// any bus runs in one line:
//
//	layertest.TestBus(t, network, nil)
//
// Each row of the suite quotes the sentence of package layer's documentation
// that it proves, so a failing row says which promise is broken.
package layertest

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Dial returns the bus of one more process on a network. What it starts, it
// ends by the test's Cleanup.
type Dial func(testing.TB) layer.Bus

// Network makes a network that nothing of another call can be heard on: a
// server of its own, or a prefix of its own on a server that is there.
type Network func(testing.TB) Dial

// Options are the settings of [TestBus]. A nil *Options and the zero Options
// mean the defaults.
type Options struct {
	// Bubble runs each row in a bubble of testing/synctest, in which waiting
	// takes no time and a goroutine that is left behind is an error. It is for
	// networks that need no descriptors. Default false.
	Bubble bool

	// Layer is what the layers of the suite are made with, where a row has no
	// wish of its own. Default nil.
	Layer *layer.Options

	patience time.Duration // how long a row waits for what must come; 0 is the default
}

// TestBus runs every row of the suite on a network of its own, as a parallel
// subtest.
func TestBus(t *testing.T, network Network, opts *Options) {
	t.Helper()
	var o Options
	if opts != nil {
		o = *opts
	}
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			if o.Bubble {
				synctest.Test(t, func(t *testing.T) { r.try(t, network, &o) })
			} else {
				r.try(t, network, &o)
			}
		})
	}
}

// row is a promise and the way to prove it.
type row struct {
	name string
	says string // a sentence of package layer's documentation, word by word
	run  func(*trial)
}

// try runs the row on a fresh network.
func (r row) try(tb testing.TB, network Network, o *Options) {
	tb.Helper()
	t := newTrial(tb, network, o)
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the promise is: %s", r.says)
		}
	})
	r.run(t)
}

// rows are the whole suite.
func rows() []row {
	return slices.Concat(messageRows, channelRows, sharedRows, groupRows, durableRows, stateRows, queueRows, workRows, flowRows, expiryRows, lifeRows, presenceRows)
}

// wait is how long a row waits for what must come.
func (o *Options) wait() time.Duration {
	switch {
	case o.patience > 0:
		return o.patience
	case o.Bubble:
		return 5 * time.Minute
	}
	return time.Minute
}
