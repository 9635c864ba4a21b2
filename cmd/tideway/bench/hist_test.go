package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestBuckets(t *testing.T) {
	last := -1
	for _, v := range []int64{0, 1, 31, 32, 33, 63, 64, 65, 66, 127, 128, 1000, 1e6, 1e9, 1e12, 1<<63 - 1} {
		b := bucketOf(v)
		if b < last || b >= numBuckets {
			t.Errorf("bucketOf(%d): got %d behind %d of %d", v, b, last, numBuckets)
		}
		last = b
		mid := middleOf(b)
		if diff := max(mid-v, v-mid); float64(diff) > float64(v)/60 {
			t.Errorf("the bucket of %d has its middle at %d", v, mid)
		}
		if bucketOf(mid) != b {
			t.Errorf("the middle of bucket %d, %d, is in bucket %d", b, mid, bucketOf(mid))
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h Histogram
	if got := h.Quantile(.5); got != 0 {
		t.Errorf("an empty histogram: got %d, want 0", got)
	}
	if got := h.Curve(); got != nil {
		t.Errorf("an empty histogram has the curve %v", got)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var all []int64
	for range 20_000 {
		v := int64(rng.ExpFloat64() * 3e6)
		all = append(all, v)
		h.Add(v)
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		got, want := h.Quantile(q), all[int(q*float64(len(all)))]
		if diff := float64(max(got-want, want-got)) / float64(want); diff > 0.04 {
			t.Errorf("quantile %v: got %d, want about %d", q, got, want)
		}
	}
	if got, want := h.Quantile(1), all[len(all)-1]; got != want || h.Max() != want {
		t.Errorf("the longest: got %d and %d, want %d", got, h.Max(), want)
	}
}

func TestCurve(t *testing.T) {
	var h Histogram
	for i := range int64(1000) {
		h.Add(i * 1e6)
	}
	curve := h.Curve()
	if first, last := curve[0], curve[len(curve)-1]; first.Quantile != 0 || last.Ms != 999 {
		t.Errorf("got a curve from %v to %v, want it from quantile 0 to 999 ms", first, last)
	}
	for i := 1; i < len(curve); i++ {
		if a, b := curve[i-1], curve[i]; a.Quantile >= b.Quantile || a.Ms > b.Ms {
			t.Errorf("%v follows %v", b, a)
		}
	}
}

func TestMergeAndNegative(t *testing.T) {
	var a, b Histogram
	a.Add(-5)
	b.Add(7)
	b.Add(9)
	a.Merge(&b)
	if a.Count() != 3 || a.Max() != 9 || a.Quantile(0.1) != 0 || a.Quantile(0.6) != 7 {
		t.Errorf("got %d durations up to %d, quantiles %d and %d", a.Count(), a.Max(), a.Quantile(0.1), a.Quantile(0.6))
	}
}
