package chathub

import (
	"math/rand/v2"
	"testing"
)

// TestLevel: the level frees as much as is needed, and hardly more.
func TestLevel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	free := func(claims []claim, level int) (n int) {
		for _, c := range claims {
			n += max(0, c.has-level*c.weight)
		}
		return n
	}
	for range 2000 {
		claims := make([]claim, 1+random.IntN(20))
		total := 0
		largest := 1 + random.IntN(1<<random.IntN(40))
		for i := range claims {
			claims[i] = claim{has: random.IntN(largest), weight: 1}
			if random.IntN(10) == 0 {
				claims[i].weight = applicationWeight
			}
			total += claims[i].has
		}
		if total == 0 {
			continue
		}
		need := 1 + random.IntN(total)
		level := levelOf(claims, need)
		if n := free(claims, level); n < need {
			t.Fatalf("%+v: level %d frees %d, need is %d", claims, level, n, need)
		}
		if n := free(claims, level+level/256+2); n >= need {
			t.Fatalf("%+v: a level over %d frees %d, need is %d", claims, level, n, need)
		}
	}
	claims := []claim{{has: 5, weight: 1}, {has: 2, weight: 1}}
	if level := levelOf(claims, 100); level != 0 {
		t.Errorf("the level for more than there is: %d", level)
	}
}

func TestLookup(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var l shrinkingMap[int, int]
	model := make(map[int]int)
	for step := range 20_000 {
		k := random.IntN(1000)
		if up := step/2000%2 == 0; random.IntN(10) < 8 == up {
			l.set(k, step)
			model[k] = step
		} else {
			l.remove(k)
			delete(model, k)
		}
		if len(l.m) != len(model) || l.m[k] != model[k] {
			t.Fatalf("step %d: %d of %d, %d is %d", step, len(l.m), len(model), k, l.m[k])
		}
		if l.peak > 4*len(model) || len(model) == 0 && l.m != nil {
			t.Fatalf("step %d: memory for %d, has %d", step, l.peak, len(model))
		}
	}
}
