package socket

import (
	"runtime"
	"testing"
)

// An idle connection is one goroutine and at most 12 KB of heap and stack, the
// test's own end (a raw socket without buffers) included: the goal of 9 KB is
// measured without that, in a process of its own.
func TestIdleConnection(t *testing.T) {
	const n = 500
	s := newServer(t, nil, echo)
	warm := dial(t, s)
	defer warm.Close()
	goroutines, before := runtime.NumGoroutine(), memory()
	conns := make([]*client, n)
	for i := range conns {
		conns[i] = dial(t, s)
		conns[i].br = nil
	}
	const few = 5 // what the baseline may have missed
	until(t, "each idle connection is one goroutine", func() bool { return runtime.NumGoroutine() <= goroutines+n+few })
	each := (memory() - before) / n
	t.Logf("%d bytes of heap and stack for each idle connection", each)
	if each > underRace*12<<10 {
		t.Errorf("an idle connection holds %d bytes of heap and stack, want at most 12 KB", each)
	}
	for _, c := range conns {
		c.Close()
	}
}

// memory is what is in use after a collection, stacks included.
func memory() int64 {
	bytes := heap()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return bytes + int64(m.StackInuse)
}

// heap is what is in use on the heap after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
