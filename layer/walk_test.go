package layer

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// diary is a tap that writes down what it is offered. It takes no lock: one
// channel's offers never overlap.
type diary struct {
	got    []string
	before func()
}

func (d *diary) Offer(b *Batch) bool {
	if d.before != nil {
		d.before()
	}
	for _, m := range b.Messages {
		d.got = append(d.got, string(m.Data))
	}
	return true
}

func (d *diary) Wake() {}

// crowd makes a layer with members of the group "g".
func crowd(t *testing.T, members int) (*Layer, []*diary) {
	t.Helper()
	l, err := New(&direct{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	all := make([]*diary, members)
	for i := range all {
		all[i] = &diary{}
		c, err := l.Tap(t.Context(), all[i])
		if err == nil {
			err = l.GroupAdd(t.Context(), "g", c.Name())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return l, all
}

// Every member of a group of any size gets every message, in order.
func TestWalkOrder(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	for _, members := range []int{1, pageSize, pageSize + 1, 5*pageSize + 7} {
		l, all := crowd(t, members)
		var want []string
		for i := range 50 {
			data := fmt.Sprintf(`{"type":"t","n":%d}`, i)
			want = append(want, data)
			if err := l.GroupSend(t.Context(), "g", Message{Data: []byte(data)}); err != nil {
				t.Fatal(err)
			}
		}
		for i, d := range all {
			if !slices.Equal(d.got, want) {
				t.Fatalf("member %d of %d got %d messages: %v", i, members, len(d.got), d.got)
			}
		}
		if got, want := l.Stats().Delivered, int64(50*members); got != want {
			t.Errorf("%d members: %d deliveries are counted, want %d", members, got, want)
		}
	}
}

// The pages of a large group are delivered to at the same time.
func TestWalkShared(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	l, all := crowd(t, 2*pageSize)
	var meet sync.WaitGroup
	meet.Add(2)
	for _, d := range []*diary{all[0], all[pageSize]} {
		d.before = func() {
			meet.Done()
			met := make(chan struct{})
			go func() {
				defer close(met)
				meet.Wait()
			}()
			select {
			case <-met:
			case <-time.After(30 * time.Second):
				t.Error("one page waits for the other")
			}
		}
	}
	if err := l.GroupSend(t.Context(), "g", said); err != nil {
		t.Fatal(err)
	}
}
