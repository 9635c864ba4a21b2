package layer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// case 115: a name that Options does not have is a compile error; a value that
// makes no sense is one here.
func TestBadOptions(t *testing.T) {
	for _, x := range []struct {
		opts layer.Options
		want string
	}{
		{layer.Options{Capacity: -1}, "layer: Options.Capacity is -1"},
		{layer.Options{Expiry: -time.Second}, "layer: Options.Expiry is -1s"},
		{layer.Options{Expiry: time.Microsecond}, "layer: Options.Expiry is 1µs"},
		{layer.Options{MaxMessage: 10}, "layer: Options.MaxMessage is 10 bytes"},
		{layer.Options{Capacities: []layer.Capacity{{Pattern: "[", Limit: 1}}}, `the pattern "["`},
		{layer.Options{Capacities: []layer.Capacity{{Pattern: "", Limit: 1}}}, `the pattern ""`},
		{layer.Options{Capacities: []layer.Capacity{{Pattern: "one"}}}, `gives "one" a limit of 0`},
	} {
		l, err := layer.New(membus.New(), &x.opts)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: got %v, error %v, want one that says %s", x.opts, l, err, x.want)
		}
	}
	if _, err := layer.New(nil, nil); err == nil {
		t.Error("New without a bus: got no error")
	}
}
