package natsbroker

import (
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestMerge checks that merged messages are in order, that an error comes at
// once, and that the reader may stop at any time.
func TestMerge(t *testing.T) {
	failure := errors.New("failure")
	sequence := func(positions []uint64, err error) iter.Seq2[entry, error] {
		return func(yield func(entry, error) bool) {
			for _, seq := range positions {
				if !yield(entry{seq: seq}, nil) {
					return
				}
			}
			if err != nil {
				yield(entry{}, err)
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var a, b, want []uint64
		for seq := range uint64(random.IntN(20)) {
			want = append(want, seq+1)
			if random.IntN(2) == 0 {
				a = append(a, seq+1)
			} else {
				b = append(b, seq+1)
			}
		}
		stop := random.IntN(25)
		var got []uint64
		for m, err := range merge(sequence(a, nil), sequence(b, nil)) {
			if len(got) == stop {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m.seq)
		}
		if !slices.Equal(got, want[:min(stop, len(want))]) {
			t.Fatalf("%v and %v became %v", a, b, got)
		}
		for _, failing := range []bool{false, true} {
			errs := []error{nil, failure}
			if failing {
				slices.Reverse(errs)
			}
			last := error(nil)
			for _, err := range merge(sequence(a, errs[0]), sequence(b, errs[1])) {
				if last = err; err != nil {
					break
				}
			}
			if !errors.Is(last, failure) {
				t.Fatalf("%v and %v, with a failure: %v", a, b, last)
			}
		}
	}
}
