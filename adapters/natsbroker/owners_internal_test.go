package natsbroker

import (
	"fmt"
	"testing"
)

func observed(bound, used int64) *ledger {
	l := &ledger{}
	l.observe(&streamState{maxBytes: bound, bytes: uint64(used)})
	return l
}

// TestHolding checks that the sample of a holding stands for its bytes: what an
// audit leaves is about what exists, however often messages are dropped.
func TestHolding(t *testing.T) {
	h := &holding{}
	const kept, size = 1000, 100
	seq := uint64(0)
	for round := range 50 {
		for range kept / 2 {
			seq++
			h.add(size, seq)
		}
		h.keep(func(s uint64) bool { return s+kept > seq })
		if want := int64(kept * size); round > 2 && (h.bytes < want/2 || h.bytes > want*2) {
			t.Fatalf("round %d: %d bytes, want about %d", round, h.bytes, want)
		}
	}
	h.keep(func(uint64) bool { return false })
	if h.bytes != 0 {
		t.Errorf("%d bytes of nothing", h.bytes)
	}
}

// TestLedgerBounded checks that many small owners do not make a ledger forget a
// large one.
func TestLedgerBounded(t *testing.T) {
	l := observed(1<<30, 1<<30)
	for i := range 10 * ownersKept {
		l.charge(fmt.Sprint(i), 100, uint64(i))
		l.charge("large", 2000, uint64(i))
	}
	if len(l.held) > ownersKept {
		t.Errorf("%d owners", len(l.held))
	}
	if got, want := l.held["large"].bytes, int64(10*ownersKept*2000); got != want {
		t.Errorf("the largest has %d bytes, want %d", got, want)
	}
	if suspect, _ := l.suspects("large"); !suspect {
		t.Error("the largest is not suspected")
	}
	if suspect, _ := l.suspects("1"); suspect {
		t.Error("a small owner is suspected")
	}
}

// TestLedgerSuspects checks who is suspected, and when.
func TestLedgerSuspects(t *testing.T) {
	const bound = 1600
	for _, c := range []struct {
		name string
		used int64
		held map[string]int
		want map[string]bool
	}{
		{"a stream that is not crowded", 0, map[string]int{"a": 700}, map[string]bool{"a": false}},
		{"one owner in a crowded stream", 900, map[string]int{"a": 200, "b": 50}, map[string]bool{"a": true, "b": false, "c": false, "": false}},
		{"what was stored since", 0, map[string]int{"a": 900}, map[string]bool{"a": true}},
		{"two owners", 900, map[string]int{"a": 200, "b": 200, "c": 50}, map[string]bool{"a": true, "b": true, "c": false}},
		{"like owners", 900, map[string]int{"a": 200, "b": 190, "c": 170, "d": 150}, map[string]bool{"a": false, "b": false, "c": false}},
		{"one among like owners", 900, map[string]int{"a": 600, "b": 190, "c": 170, "d": 150}, map[string]bool{"a": true, "b": false, "c": false}},
		{"the application", 900, map[string]int{"": 900}, map[string]bool{"": false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := observed(bound, c.used)
			for owner, n := range c.held {
				l.charge(owner, n, 1)
			}
			l.setMost()
			for owner, want := range c.want {
				if suspect, _ := l.suspects(owner); suspect != want {
					t.Errorf("%q is suspected: %v, want %v", owner, suspect, want)
				}
			}
		})
	}
	unbounded := observed(-1, 1<<40)
	unbounded.charge("a", 1<<40, 1)
	if suspect, _ := unbounded.suspects("a"); suspect {
		t.Error("suspected in a stream without a bound")
	}
}
