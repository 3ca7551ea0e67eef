package chathub

import "testing"

// FuzzRing compares a ring with a slice. Each byte pushes (even) or pops (odd) a few.
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
