package histogram

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	for i := range buckets {
		end := upperEnd(i)
		if got := bucketOf(end); got != i {
			t.Fatalf("the end of bucket %d, %d, is in bucket %d", i, end, got)
		}
		if i+1 < buckets {
			if got := bucketOf(end + 1); got != i+1 {
				t.Fatalf("%d, behind bucket %d, is in bucket %d", end+1, i, got)
			}
		}
	}
	if got := bucketOf(math.MaxUint64); got != buckets-1 {
		t.Errorf("the largest value is in bucket %d of %d", got, buckets)
	}
}

func TestQuantiles(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	values := make([]time.Duration, 10_000)
	for i := range values {
		values[i] = time.Duration(math.Exp(rnd.Float64() * 20)) // 1 ns to half a second
		h.Record(values[i])
	}
	slices.Sort(values)
	for _, q := range []float64{0, 0.5, 0.99, 0.999, 1} {
		want := values[min(int(q*float64(len(values))), len(values)-1)]
		got := h.Quantile(q)
		if got < want || float64(got) > float64(want)*1.04+1 {
			t.Errorf("quantile %v is %v, want %v to 4%% above", q, got, want)
		}
	}
	if n := h.Count(); n != uint64(len(values)) {
		t.Errorf("counted %d of %d", n, len(values))
	}
	h.Record(-time.Second) // clocks
	h.Reset()
	if n := h.Count(); n != 0 {
		t.Errorf("%d left after Reset", n)
	}
}
