// Package histogram counts durations.
package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	subBits = 5 // 32 buckets for each power of two: an error of at most 3 %
	sub     = 1 << subBits
	buckets = (64 - subBits + 1) * sub
)

// Histogram counts durations in buckets whose width grows with the value. So it
// is small, and exact to 3 %. All methods may be called concurrently. The zero
// value is empty.
type Histogram struct {
	counts [buckets]atomic.Uint64
}

// Record counts d. A negative duration counts as zero.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucketOf(uint64(max(d, 0)))].Add(1)
}

// Reset removes all values.
func (h *Histogram) Reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
}

// Count returns the number of values.
func (h *Histogram) Count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Quantile returns the upper end of the bucket with the q-th part (0 to 1) of
// the values, or 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(total)), total-1)
	var seen uint64
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen > rank {
			return time.Duration(upperEnd(i))
		}
	}
	return 0
}

// bucketOf returns v itself below 2*sub, and above that one of sub buckets per
// power of two.
func bucketOf(v uint64) int {
	if v < sub {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift*sub + int(v>>shift)
}

// upperEnd returns the largest value of a bucket.
func upperEnd(i int) uint64 {
	if i < 2*sub {
		return uint64(i)
	}
	shift := i/sub - 1
	return (uint64(i%sub+sub)+1)<<shift - 1
}

// Below returns how many values are less than d, to 3 % of d.
func (h *Histogram) Below(d time.Duration) (n uint64) {
	for i := range bucketOf(uint64(max(d, 0))) {
		n += h.counts[i].Load()
	}
	return n
}
