package layertest

import (
	"context"
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// documentation returns all comments of package layer, in one line.
func documentation(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range f.Comments {
			text.WriteString(" " + c.Text())
		}
	}
	return strings.Join(strings.Fields(text.String()), " ")
}

// A row that quotes what the documentation does not say proves nothing that
// anybody was promised.
func TestRowsQuoteTheDocumentation(t *testing.T) {
	said := documentation(t)
	seen := map[string]bool{}
	for _, r := range rows() {
		if !strings.Contains(said, r.says) {
			t.Errorf("row %q quotes what package layer does not say: %s", r.name, r.says)
		}
		if seen[r.name] {
			t.Errorf("two rows are named %q", r.name)
		}
		seen[r.name] = true
	}
}

// recorder is a testing.TB that takes failures instead of failing.
type recorder struct {
	testing.TB
	ctx context.Context

	mu       sync.Mutex // guards all below
	failures []string
	cleanups []func()
}

// Context implements testing.TB.
func (r *recorder) Context() context.Context { return r.ctx }

// Cleanup implements testing.TB.
func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

// Failed implements testing.TB.
func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

// Errorf implements testing.TB.
func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// Error implements testing.TB.
func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprintln(args...)) }

// Fatalf implements testing.TB.
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// Fatal implements testing.TB.
func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

// Logf implements testing.TB.
func (r *recorder) Logf(string, ...any) {}

// run runs a row and returns its failures.
func (r *recorder) run(x row, network Network, o *Options) []string {
	ctx, cancel := context.WithCancel(r.TB.Context())
	r.ctx = ctx
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		x.try(r, network, o)
	}()
	<-ended
	cancel()
	for len(r.cleanups) > 0 {
		last := len(r.cleanups) - 1
		f := r.cleanups[last]
		r.cleanups = r.cleanups[:last]
		f()
	}
	return r.failures
}

// broken is a network with a fault.
func broken(f fault) Network {
	var one *membus.Bus
	return func(testing.TB) Dial {
		bus := membus.New()
		if f.oneNetwork {
			if one == nil {
				one = bus
			}
			bus = one
		}
		x := &faulty{fault: f, Bus: bus}
		return func(testing.TB) layer.Bus { return x }
	}
}

func rowNamed(t *testing.T, name string) row {
	t.Helper()
	all := rows()
	i := slices.IndexFunc(all, func(r row) bool { return r.name == name })
	if i < 0 {
		t.Fatalf("no row is named %q", name)
	}
	return all[i]
}

// A suite is worth what it catches.
func TestFaultsAreCaught(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{TB: t}
			failures := r.run(rowNamed(t, f.caught), broken(f), &Options{patience: time.Second})
			if len(failures) == 0 {
				t.Errorf("the row %q does not notice a bus that %s", f.caught, f.name)
			} else {
				t.Logf("%q says: %s", f.caught, failures[0])
			}
		})
	}
}

// What the faults are put into is a bus that works.
func TestWithoutFault(t *testing.T) {
	TestBus(t, broken(fault{}), &Options{Bubble: true})
}
