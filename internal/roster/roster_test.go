package roster_test

import (
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/roster"
)

func TestSettle(t *testing.T) {
	for name, lines := range map[string]string{
		"the second tab of a user is no news": `
			arrive ana
			arrive bob
			settle = in ana bob
			arrive ana
			lose ana
			settle
			users = ana bob
			count = 2`,
		"a user that loses its last connection has a grace": `
			arrive ana
			settle = in ana
			lose ana
			settle
			wait 4999ms
			settle
			users = ana
			wait 1ms
			settle = out ana
			count = 0`,
		"a user that is back within its grace was never away": `
			arrive ana
			settle = in ana
			lose ana
			settle
			wait 4s
			arrive ana
			wait 1h
			settle
			users = ana`,
		"a grace begins anew each time": `
			arrive ana
			settle = in ana
			lose ana
			wait 4s
			arrive ana
			lose ana
			wait 4s
			settle
			users = ana
			wait 1s
			settle = out ana`,
		"a user that leaves of its own accord is gone at once": `
			arrive ana
			settle = in ana
			quit ana
			count = 0
			settle = out ana`,
		"it is gone only with its last connection": `
			arrive ana
			arrive ana
			settle = in ana
			quit ana
			settle
			lose ana
			count = 1
			settle
			wait 5s
			settle = out ana`,
		"a user that came and went between two calls is no news": `
			arrive ana
			quit ana
			settle
			arrive ana
			settle = in ana
			quit ana
			arrive ana
			settle`,
		"unless someone was shown the list": `
			arrive ana
			show
			quit ana
			settle = out ana
			arrive ana
			settle = in ana
			quit ana
			show
			arrive ana
			settle = in ana`,
		"showing the list has no effect after the next call, nor without changes": `
			arrive ana
			show
			settle = in ana
			show
			quit ana
			arrive ana
			settle
			arrive bob
			quit bob
			settle`,
		"changes are in the order of the last change of each user": `
			arrive cid
			arrive ana
			arrive bob
			settle = in cid ana bob
			arrive eve
			quit bob
			arrive dan
			quit ana
			quit eve
			arrive eve
			settle = in dan eve, out bob ana`,
		"a user in its grace keeps its place among later changes": `
			arrive ana
			arrive bob
			settle = in ana bob
			lose ana
			settle
			wait 5s
			quit bob
			settle = out ana bob`,
		"a user that is back under another name is no news, but the list has it": `
			arrive ana/Ana
			arrive bob/Bob
			settle = in ana bob
			users = ana bob
			arrive ana/Zoe
			settle
			users = bob ana`,
		"nor is a user that is renamed": `
			arrive ana/Ana
			arrive bob/Bob
			settle = in ana bob
			rename ana/Zoe
			rename eve/Eve
			settle
			users = bob ana
			count = 2`,
	} {
		t.Run(name, func(t *testing.T) { runScript(t, lines) })
	}
}

// TestHas: a user counts until its grace is over, even if Settle comes late.
func TestHas(t *testing.T) {
	r := roster.New(&roster.Node{Grace: 5 * time.Second})
	ana := note.User{ID: "ana"}
	began := time.Unix(0, 0)
	want := func(after time.Duration, want bool) {
		t.Helper()
		if got := r.Has("ana", began.Add(after)); got != want {
			t.Errorf("after %v: %t, want %t", after, got, want)
		}
	}
	want(0, false)
	r.Arrive(ana)
	want(0, true)
	r.Depart("ana", began)
	want(5*time.Second-1, true)
	want(5*time.Second, false)
	r.Arrive(ana)
	r.Depart("ana", time.Time{})
	want(0, false)
}

func TestWithoutGrace(t *testing.T) {
	for _, grace := range []time.Duration{0, -1} {
		r := roster.New(&roster.Node{Grace: grace})
		ana, now := note.User{ID: "ana"}, time.Now()
		r.Arrive(ana)
		r.Settle(now)
		r.Depart("ana", now)
		if c := r.Settle(now); len(c.Out) != 1 || r.Count() != 0 || !r.Empty() || r.Unsettled() {
			t.Errorf("grace %v: after a user is gone, %+v, and there are %d", grace, c, r.Count())
		}
	}
}

// TestForgettable: a roster is empty when nothing is lost with it.
func TestForgettable(t *testing.T) {
	now := time.Now()
	r := roster.New(&roster.Node{Grace: grace})
	check := func(step string, empty, unsettled bool) {
		t.Helper()
		if r.Empty() != empty || r.Unsettled() != unsettled {
			t.Errorf("%s: empty=%t, unsettled=%t", step, r.Empty(), r.Unsettled())
		}
	}
	check("new", true, false)
	r.Arrive(note.User{ID: "ana"})
	check("arrived", false, true)
	r.Settle(now)
	check("settled", false, false)
	r.Depart("ana", now)
	r.Settle(now)
	check("in its grace", false, true)
	r.Settle(now.Add(grace))
	check("gone", true, false)
}
