package chathub

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// FuzzRing compares a ring with a slice. Each byte pushes (even) or pops (odd)
// a few.
func FuzzRing(f *testing.F) {
	f.Add([]byte{20, 41, 6, 3, 200, 255, 255})
	f.Add([]byte{2, 3, 2, 3, 18, 5, 20, 7, 20, 7})
	f.Fuzz(func(t *testing.T, steps []byte) {
		steps = steps[:min(len(steps), 100)] // each looks at everything
		var r ring[int]
		var model []int
		next := 0
		for _, step := range steps {
			for range int(step) / 2 {
				if step%2 == 0 {
					next++
					*r.push() = next
					model = append(model, next)
				} else if len(model) > 0 {
					if got := *r.at(0); got != model[0] {
						t.Fatalf("pop: %d, want %d", got, model[0])
					}
					r.pop()
					model = model[1:]
				}
				if r.len() != len(model) || len(r.buf) > max(4, 4*len(model)) || len(model) == 0 && r.buf != nil {
					t.Fatalf("%d elements in %d places, want %d", r.len(), len(r.buf), len(model))
				}
			}
			for i := range r.buf {
				want := 0 // what has left is not held
				if i < len(model) {
					want = model[i]
				}
				if got := *r.at(i); got != want {
					t.Fatalf("place %d has %d, want %d", i, got, want)
				}
			}
		}
	})
}

// TestQueue compares a queue with a slice, while entries leave at random
// places.
func TestQueue(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	owners := []*share{{}, {}, {}}
	var q queue[uint64]
	var model []entry[uint64]
	seq := uint64(0)
	for step := range 20_000 {
		if up := step/1000%2 == 0; len(model) == 0 || random.IntN(10) < 7 == up {
			seq += 1 + random.Uint64N(3)
			e := entry[uint64]{seq: seq, share: owners[random.IntN(3)], value: random.Uint64()}
			*q.push() = e
			model = append(model, e)
		} else {
			i := random.IntN(len(model))
			if random.IntN(2) == 0 {
				i = 0
			}
			place := q.find(model[i].seq)
			if *q.at(place) != model[i] {
				t.Fatalf("step %d: found %+v, want %+v", step, *q.at(place), model[i])
			}
			q.remove(place)
			model = slices.Delete(model, i, i+1)
		}
		if q.size() != len(model) || q.len() > 2*len(model)+1 || len(q.buf) > max(2, 4*q.len()) {
			t.Fatalf("step %d: %d entries, %d places, %d in memory, want %d", step, q.size(), q.len(), len(q.buf), len(model))
		}
		if len(model) == 0 {
			continue
		}
		from := model[random.IntN(len(model))].seq - random.Uint64N(3)
		at := slices.IndexFunc(model, func(e entry[uint64]) bool { return e.seq >= from })
		if place := q.find(from); q.at(place).seq < from || place > 0 && q.at(place-1).seq >= from {
			t.Fatalf("step %d: the first of %d on is %d", step, from, q.at(place).seq)
		}
		if got := *q.at(q.next(model[at].share, from)); got != model[at] {
			t.Fatalf("step %d: the next of a share is %+v, want %+v", step, got, model[at])
		}
	}
}
