package bench

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestStreamKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().Add(time.Second).UnixNano()
		s := stream{Rate: 100, Start: start, Duration: time.Second}
		var dues []int64
		r := s.run(t.Context(), newCredit(), func(i int, due int64) error {
			if now := time.Now().UnixNano(); now != due {
				t.Errorf("message %d is sent %v late", i, time.Duration(now-due))
			}
			dues = append(dues, due)
			return nil
		})
		if r.Sent != 100 || r.Failed != 0 || dues[0] != start || dues[99]-start != 990e6 {
			t.Errorf("got %+v, from %d to %d ms", r, (dues[0]-start)/1e6, (dues[99]-start)/1e6)
		}
	})
}

// A publisher that was held up sends what was due, as due when it was.
func TestStreamCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().UnixNano()
		s := stream{Rate: 10, Start: start, Duration: time.Second}
		late := time.Duration(0)
		r := s.run(t.Context(), newCredit(), func(i int, due int64) error {
			if i == 2 {
				time.Sleep(500 * time.Millisecond)
			}
			late = max(late, time.Duration(time.Now().UnixNano()-due))
			return nil
		})
		if r.Sent != 10 || late != 500*time.Millisecond || r.Late != 0 {
			t.Errorf("got %+v, at most %v late", r, late)
		}
	})
}

func TestStreamWithoutRateWaitsForCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCredit()
		s := stream{Start: time.Now().UnixNano(), Duration: time.Second}
		sent := make(chan streamed, 1)
		n, last := 0, int64(0)
		go func() {
			sent <- s.run(t.Context(), c, func(_ int, due int64) error {
				if due <= last {
					t.Errorf("%d is due after %d", due, last)
				}
				n, last = n+1, due
				return nil
			})
		}()
		for _, total := range []int64{3, 10} {
			c.grant(total)
			synctest.Wait()
			if int64(n) != total {
				t.Errorf("sent %d with a credit of %d", n, total)
			}
		}
		if r := <-sent; r.Sent != 10 { // its time is up
			t.Errorf("got %+v", r)
		}
	})
}

func TestStreamGivesUpWhenNothingWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stream{Rate: 1e6, Start: time.Now().UnixNano(), Duration: time.Minute}
		r := s.run(t.Context(), newCredit(), func(int, int64) error { return errors.New("no") })
		if r.Sent != 1000 || r.Failed != 1000 || r.Err != "no" {
			t.Errorf("got %+v", r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if r := s.run(ctx, newCredit(), func(int, int64) error { return nil }); r.Sent != 0 {
			t.Errorf("after the end: %+v", r)
		}
	})
}
