package bench

import (
	"math"
	"math/bits"
)

const (
	subBits    = 5            // a bucket is at most 1/32 of its value wide
	subBuckets = 1 << subBits // buckets per power of two
	numBuckets = (64 - subBits) * subBuckets
)

// Histogram counts durations in nanoseconds in log-linear buckets: what it
// returns is at most 1.6 % from what was added. The zero Histogram is empty. It
// is not for several goroutines at once.
type Histogram struct {
	count, max int64
	buckets    [numBuckets]int64
}

// Add counts one duration; a negative one, which clocks of two processors may
// make, counts as zero.
func (h *Histogram) Add(ns int64) {
	ns = max(ns, 0)
	h.count++
	h.max = max(h.max, ns)
	h.buckets[bucketOf(ns)]++
}

// bucketOf returns the bucket of a value: the value itself below 32, from there
// on the power of two and the five bits that follow the first.
func bucketOf(ns int64) int {
	if ns < subBuckets {
		return int(ns)
	}
	shift := bits.Len64(uint64(ns)) - subBits - 1
	return shift*subBuckets + int(ns>>shift)
}

// middleOf returns the middle of a bucket.
func middleOf(bucket int) int64 {
	if bucket < 2*subBuckets {
		return int64(bucket)
	}
	shift := bucket/subBuckets - 1
	return int64(subBuckets+bucket%subBuckets)<<shift + int64(1)<<shift/2
}

// Merge adds all that o counted.
func (h *Histogram) Merge(o *Histogram) {
	h.count += o.count
	h.max = max(h.max, o.max)
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
}

// Count returns how many durations were added.
func (h *Histogram) Count() int64 { return h.count }

// Max returns the longest duration, exactly.
func (h *Histogram) Max() int64 { return h.max }

// Quantile returns the duration that a share q of all, from 0 to 1, does not
// exceed; 0 when the histogram is empty.
func (h *Histogram) Quantile(q float64) int64 {
	want := int64(q*float64(h.count) + 0.5)
	if want >= h.count {
		return h.max
	}
	sum := int64(0)
	for i, n := range h.buckets {
		if sum += n; n > 0 && sum >= want {
			return min(middleOf(i), h.max)
		}
	}
	return h.max
}

// QuantilePoint is one point of a distribution.
type QuantilePoint struct {
	Quantile float64 `json:"quantile"`
	Ms       float64 `json:"ms"`
}

// Curve returns the distribution at the quantiles that a plot shows: twenty for
// each factor of ten towards 1, as far as there are durations enough to tell.
func (h *Histogram) Curve() []QuantilePoint {
	if h.count == 0 {
		return nil
	}
	var curve []QuantilePoint
	for i := 0; ; i++ {
		rest := math.Pow(10, -float64(i)/20)
		if rest*float64(h.count) < 1 {
			break
		}
		curve = append(curve, QuantilePoint{1 - rest, milliseconds(h.Quantile(1 - rest))})
	}
	return append(curve, QuantilePoint{1 - 0.5/float64(h.count), milliseconds(h.max)})
}

func milliseconds(ns int64) float64 { return float64(ns) / 1e6 }
