package roster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/roster"
)

func TestAnnounce(t *testing.T) {
	for name, lines := range map[string]string{
		"the first announcement is a whole, the next are differences": `
			arrive ana
			arrive bob
			announce = 0>1 +ana +bob
			position = 1
			arrive cid
			lose ana
			quit bob
			announce = 1>2 +cid -ana !bob
			position = 2
			announce`,
		"tabs are nobody's business": `
			arrive ana
			announce = 0>1 +ana
			arrive ana
			lose ana
			announce`,
		"what was taken back is no news": `
			arrive ana
			announce = 0>1 +ana
			arrive bob
			quit bob
			lose ana
			arrive ana
			announce
			position = 1`,
		"it is news to other nodes before the grace is over": `
			arrive ana
			announce = 0>1 +ana
			settle = in ana
			lose ana
			settle
			announce = 1>2 -ana`,
		"a user that settled away before it was announced": `
			arrive ana
			announce = 0>1 +ana
			settle = in ana
			quit ana
			settle = out ana
			announce = 1>2 !ana
			position = 0`,
		"and one that came back after it": `
			arrive ana
			announce = 0>1 +ana
			settle = in ana
			quit ana
			settle = out ana
			arrive ana
			announce = 1>2 !ana +ana
			position = 2`,
		"a new name is news, each time": `
			arrive ana/Ana
			announce = 0>1 +ana
			arrive ana/Zoe
			announce = 1>2 +ana
			arrive ana/Zoe
			announce
			arrive ana/Ana
			arrive ana/Zoe
			announce = 2>3 +ana
			rename ana/Ana
			rename ana/Ana
			rename eve/Eve
			announce = 3>4 +ana
			rename ana/Ana
			announce`,
		"a user that nobody has heard of is announced once, under its last name": `
			arrive bob
			announce = 0>1 +bob
			arrive ana/Ana
			arrive ana/Zoe
			announce = 1>2 +ana`,
		"alone, a node announces nothing; the first to come gets a whole": `
			others 0
			arrive ana
			announce
			others 1
			position = 1
			arrive bob
			announce = 1>2 +bob
			others 0
			arrive cid
			others 1
			arrive dan
			announce = 0>3 +ana +bob +cid +dan`,
		"what waited when the others went is not announced": `
			arrive ana
			announce = 0>1 +ana
			arrive bob
			others 0
			announce
			others 1
			position = 2
			whole = 0>2 +ana +bob`,
		"others that come and go between changes leave the position valid": `
			arrive ana
			announce = 0>1 +ana
			others 0
			others 1
			position = 1
			arrive bob
			announce = 1>2 +bob`,
		"nobody is at position 0": `
			position = 0
			arrive ana
			quit ana
			announce
			position = 0
			arrive ana
			announce = 0>1 +ana
			quit ana
			announce = 1>2 !ana
			position = 0
			arrive ana
			announce = 2>3 +ana
			position = 3`,
		"users of other nodes are not announced": `
			hear n1 0>7 +ana +bob
			arrive bob
			announce = 0>1 +bob
			hear n1 7>8 -bob
			lose bob
			announce = 1>2 -bob`,
	} {
		t.Run(name, func(t *testing.T) { runScript(t, lines) })
	}
}

func TestWhole(t *testing.T) {
	for name, lines := range map[string]string{
		"a whole is at the position of the last announcement": `
			arrive ana
			announce = 0>1 +ana
			whole = 0>1 +ana
			arrive bob
			announce = 1>2 +bob
			whole = 0>2 +ana +bob
			position = 2`,
		"a whole that nobody is in has a position of its own": `
			whole = 0>1
			arrive ana
			announce = 0>2 +ana
			quit ana
			announce = 2>3 !ana
			whole = 0>4`,
		"it tells of graces": `
			arrive ana
			arrive bob
			hear n1 0>7 +cid
			announce = 0>1 +ana +bob
			settle = in ana bob cid
			lose ana
			hear n1 7>8 -cid
			wait 2s
			announce = 1>2 -ana
			whole = 0>2 ~ana@2s +bob ~cid@2s
			wait 3s
			settle = out ana cid
			whole = 0>2 +bob`,
		"users of other nodes are not in it": `
			hear n1 0>7 +ana
			whole = 0>1`,
	} {
		t.Run(name, func(t *testing.T) { runScript(t, lines) })
	}
}

func TestLingering(t *testing.T) {
	now := time.Now()
	r := roster.New(&roster.Node{Grace: grace})
	r.Arrive(note.User{ID: "ana"})
	for i, want := range []bool{false, true, true, false} {
		if r.Lingering() != want {
			t.Errorf("step %d: somebody is in the grace: %t", i, !want)
		}
		switch i {
		case 0:
			r.Depart("ana", now)
		case 1:
			r.Settle(now)
		case 2:
			r.Arrive(note.User{ID: "ana"})
		}
	}
}

// TestAnnounceMany: an announcement that fills several notes is a chain of
// differences, or a whole in parts, and is understood by another node.
func TestAnnounceMany(t *testing.T) {
	here, there := roster.New(&roster.Node{Others: 1}), roster.New(&roster.Node{})
	now := time.Now()
	const many = 3000
	tell := func(notes []*note.Note) {
		t.Helper()
		sent := 0
		for _, n := range notes {
			for part := range n.Split() {
				sent++
				if there.Hear("n1", part, now) {
					t.Error("something is missing")
				}
			}
		}
		if sent < 2 {
			t.Errorf("all is in %d notes", sent)
		}
		if there.Count() != here.Count() || there.Known("n1") != here.Position() {
			t.Errorf("%d users at %d are known as %d at %d", here.Count(), here.Position(), there.Count(), there.Known("n1"))
		}
	}
	for i := range many {
		here.Arrive(note.User{ID: fmt.Sprintf("user%040d", i)})
	}
	tell(here.Announce())
	for i := range many {
		here.Arrive(note.User{ID: fmt.Sprintf("more%040d", i)})
	}
	tell(here.Announce())
	there.DropAll()
	tell([]*note.Note{here.Whole(now)})
}

// TestPositionsOfNode: the positions of a node grow over all of its rosters, so
// that one of a room that was forgotten is not taken for one of its successor.
func TestPositionsOfNode(t *testing.T) {
	node := &roster.Node{Others: 1}
	there := roster.New(&roster.Node{})
	now := time.Now()
	before := roster.New(node)
	before.Arrive(note.User{ID: "ana"})
	for _, n := range before.Announce() {
		there.Hear("n1", n, now)
	}
	old := before.Position()

	after := roster.New(node)
	after.Arrive(note.User{ID: "bob"})
	for _, n := range after.Announce() {
		there.Hear("n1", n, now)
	}
	if after.Position() <= old {
		t.Errorf("position %d comes after %d", after.Position(), old)
	}
	if users := there.Users(); len(users) != 1 || users[0].ID != "bob" {
		t.Errorf("the other node knows of %v", users)
	}
}
