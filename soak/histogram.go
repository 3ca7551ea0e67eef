package main

import (
	"math"
	"sync/atomic"
	"time"
)

// histogram counts durations in steps of 5 %. It may be used concurrently.
type histogram struct {
	counts [400]atomic.Uint64
}

const histogramStep = 1.05

func (h *histogram) add(d time.Duration) {
	us := max(float64(d)/float64(time.Microsecond), 1)
	h.counts[min(int(math.Log(us)/math.Log(histogramStep)), len(h.counts)-1)].Add(1)
}

// quantile returns, to 5 %, the duration that a share of all durations does not
// exceed.
func (h *histogram) quantile(share float64) time.Duration {
	var total uint64
	for i := range h.counts {
		total += h.counts[i].Load()
	}
	rank := uint64(math.Ceil(share * float64(total)))
	var n uint64
	for i := range h.counts {
		if n += h.counts[i].Load(); n >= rank && n > 0 {
			return time.Duration(math.Pow(histogramStep, float64(i+1)) * float64(time.Microsecond)).Round(10 * time.Microsecond)
		}
	}
	return 0
}
