package roster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/roster"
)

func TestHear(t *testing.T) {
	for name, lines := range map[string]string{
		"a user is counted once, on however many nodes": `
			arrive ana
			hear n1 0>5 +ana +bob
			hear n2 0>5 +bob
			count = 2
			settle = in ana bob
			lose ana
			hear n1 5>6 !bob
			settle
			hear n1 6>7 -ana
			hear n2 5>6 !bob
			users = ana
			settle = out bob
			wait 5s
			settle = out ana`,
		"whoever leaves a node of its own accord has no grace": `
			hear n1 0>5 +ana +bob
			settle = in ana bob
			hear n1 5>6 -ana !bob
			settle = out bob
			wait 4s
			users = ana
			wait 1s
			settle = out ana`,
		"what comes twice or late changes nothing": `
			hear n1 0>5 +ana
			hear n1 5>6 +bob
			hear n1 5>6 +bob
			hear n1 6>7 !bob
			hear n1 5>6 +bob
			hear n1 0>5 +ana +cid
			users = ana
			known n1 = 7`,
		"what comes early waits for the whole": `
			hear n1 0>5 +ana
			hear n1 7>8 -ana = gap
			hear n1 8>9 +cid = gap
			users = ana
			hear n1 0>8 +bob
			users = ana bob cid
			known n1 = 9`,
		"what came before the whole is dropped": `
			hear n1 6>7 +eve = gap
			hear n1 0>8 +bob
			users = bob
			hear n1 8>9 +ana
			users = ana bob`,
		"a difference without a whole is a gap, of an empty roster too": `
			hear n1 5>6 +ana = gap
			count = 0
			known n1 = 0`,
		"a whole replaces what is known": `
			hear n1 0>5 +ana +bob
			settle = in ana bob
			hear n1 0>9 +bob +cid
			settle = in cid
			users = ana bob cid
			wait 5s
			settle = out ana`,
		"a whole in parts counts once all are there": `
			hear n1 0>5.0+ +ana
			hear n1 0>5.1+ +bob
			count = 0
			hear n1 0>5.2 +cid
			users = ana bob cid
			known n1 = 5`,
		"parts in the wrong order, and of another whole, are not taken": `
			hear n1 0>5.1 +bob
			hear n1 0>5.0+ +ana
			hear n1 0>5.2 +cid
			hear n1 0>6.1 +dan
			count = 0
			hear n1 0>5.1 +bob
			users = ana bob`,
		"a whole that begins anew forgets the parts of the last": `
			hear n1 0>5.0+ +ana
			hear n1 0>6.0+ +bob
			hear n1 0>5.1 +cid
			hear n1 0>6.1 +dan
			users = bob dan`,
		"a part that comes twice is taken once": `
			hear n1 0>5.0+ +ana
			hear n1 0>5.0+ +ana
			hear n1 0>5.1 +bob
			hear n1 0>5.1 +bob
			users = ana bob`,
		"a graceful user of another node lingers here too, for the rest of its grace": `
			hear n1 0>5 +ana ~bob@2s ~cid@5s
			users = ana bob
			settle = in ana bob
			wait 2999ms
			settle
			wait 1ms
			settle = out bob`,
		"only of a node of which nothing was known": `
			hear n1 0>5 +ana
			hear n1 0>6 +ana ~bob@2s
			users = ana
			hear n1 6>7 ~bob@2s
			users = ana`,
		"and only if the user is not here": `
			arrive bob
			hear n1 0>5 ~bob@4s
			settle = in bob
			wait 1h
			settle
			lose bob
			hear n2 0>5 ~bob@4s
			wait 4s
			settle
			users = bob`,
		"a new name comes with an announcement": `
			hear n1 0>5 +ana/Ana +bob/Bob
			users = ana bob
			hear n1 5>6 +ana/Zoe
			users = bob ana
			count = 2`,
		"one that leaves twice left once": `
			hear n1 0>5 +ana
			hear n2 0>5 +ana
			hear n1 5>6 !ana
			hear n1 6>7 !ana -bob
			users = ana`,
	} {
		t.Run(name, func(t *testing.T) { runScript(t, lines) })
	}
}

func TestDrop(t *testing.T) {
	for name, lines := range map[string]string{
		"users of a silent node have a grace since it was heard last": `
			hear n1 0>5 +ana
			settle = in ana
			drop n1 3s
			settle
			users = ana
			wait 2s
			settle = out ana`,
		"which may be over": `
			hear n1 0>5 +ana
			settle = in ana
			drop n1 6s
			settle = out ana`,
		"users that are elsewhere stay": `
			arrive ana
			hear n1 0>5 +ana +bob
			hear n2 0>5 +bob
			settle = in ana bob
			drop n1
			settle
			users = ana bob
			drop n2
			settle = out bob`,
		"an unknown node is no loss": `
			arrive ana
			drop n1
			users = ana`,
		"a node that is back is known as a whole only, at any position": `
			hear n1 0>5 +ana
			drop n1
			settle
			hear n1 5>6 +ana = gap
			hear n1 0>3 +bob
			users = bob`,
	} {
		t.Run(name, func(t *testing.T) { runScript(t, lines) })
	}
}

func TestCheck(t *testing.T) {
	for name, lines := range map[string]string{
		"one check at a time": `
			check n1 = due
			check n1
			check n2 = due
			wait 999ms
			check n1
			wait 1ms
			check n1 = due`,
		"a whole answers it": `
			check n1 = due
			hear n1 0>5 +ana
			check n1 = due`,
		"a difference does not": `
			hear n1 0>5 +ana
			check n1 = due
			hear n1 5>6 +bob
			check n1
			wait 1s
			check n1 = due`,
		"a node without users is known at 0, wherever it stands": `
			hear n1 0>5 +ana
			hear n1 5>6 -ana
			known n1 = 0
			hear n1 6>7 +bob
			known n1 = 7`,
	} {
		t.Run(name, func(t *testing.T) { runScript(t, lines) })
	}
}

// TestAheadBounded: a node whose whole never comes does not fill the memory.
func TestAheadBounded(t *testing.T) {
	r, now := roster.New(&roster.Node{}), time.Now()
	for i := range uint64(1000) {
		if !r.Hear("n1", &note.Note{Op: note.OpState, Prev: i + 1, Seq: i + 2}, now) {
			t.Fatal("nothing is missing")
		}
	}
	if err := r.Invariants(); err != nil {
		t.Error(err)
	}
}

// FuzzHear: whatever other nodes say, and however often, the invariants hold,
// and nothing is left of them once they are gone.
func FuzzHear(f *testing.F) {
	ana, bob := note.User{ID: "ana", Name: "Ana"}, note.User{ID: "bob"}
	for _, n := range []note.Note{
		{Seq: 3, Users: []note.Movement{{User: ana}, {User: bob, How: note.Lingers, Age: time.Second}}},
		{Seq: 3, Part: 1, More: true, Users: []note.Movement{{User: ana}}},
		{Prev: 1, Seq: 2, Users: []note.Movement{{User: ana, How: note.Left}, {User: ana, How: note.Went}}},
		{Prev: 2, Seq: 1, Users: []note.Movement{{User: ana}, {User: ana, How: note.Went}, {User: ana}}},
	} {
		n.Op, n.From = note.OpState, "n1"
		f.Add(n.Encode())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var n note.Note
		if n.Decode(body) != nil || n.Op != note.OpState {
			return
		}
		now := time.Now()
		r := roster.New(&roster.Node{Grace: grace})
		check := func(step string) {
			if err := r.Invariants(); err != nil {
				t.Errorf("%s: %v", step, err)
			}
		}
		r.Hear("n1", &note.Note{Op: note.OpState, Seq: 1, Users: []note.Movement{{User: ana}}}, now)
		for i := range 3 {
			r.Hear(fmt.Sprint("n", 1+i/2), &n, now)
			check("heard")
		}
		r.Settle(now)
		check("settled")
		r.Drop("n1", now)
		r.Drop("n2", time.Time{})
		check("dropped")
		r.Settle(now.Add(2 * grace))
		check("over")
		if r.Count() != 0 || !r.Empty() || r.Replicas() != 0 {
			t.Errorf("of nodes that have gone there remain %v and %d replicas", r.Users(), r.Replicas())
		}
	})
}
