package ledger_test

import (
	"slices"
	"testing"

	"github.com/chathub-go/chathub/internal/ledger"
)

func TestLedger(t *testing.T) {
	l := ledger.New()
	l.Put("room", 1, "a", "")
	l.Put("room", 2, "b", "")
	l.Put("room", 1, "a", "") // as other clients see it
	l.Put("other", 1, "b", "")
	l.Promise("inbox", "c")
	if len(l.Findings()) > 0 || l.Head("room") != 2 || l.Head("nowhere") != 0 {
		t.Errorf("head %d, findings %v", l.Head("room"), l.Findings())
	}
	if got := l.Broken(); !slices.Equal(got, []string{"c"}) {
		t.Errorf("broken: %v", got)
	}
	l.Put("inbox", 7, "c", "")
	if got := l.Broken(); len(got) > 0 {
		t.Errorf("broken: %v", got)
	}
	l.Put("room", 3, "b", "") // stored twice
	l.Put("room", 1, "c", "") // two messages at one position
	if len(l.Findings()) != 2 {
		t.Errorf("findings: %v", l.Findings())
	}
}

// TestLedgerChanges: what clients see of changes has to be the same, and they
// have to show the newest.
func TestLedgerChanges(t *testing.T) {
	first, second := ledger.Became{Version: 3, Text: "first"}, ledger.Became{Version: 5, Text: "second"}
	deleted := ledger.Became{Version: 7, Text: "deleted", Deleted: true}
	l := ledger.New()
	for seq, id := range map[uint64]string{1: "a", 2: "b"} {
		l.Put("room", seq, id, "ana")
	}
	away := ledger.NewTrack("room", "", 0)
	here := ledger.NewTrack("room", "", 0)
	for _, tr := range []*ledger.Track{away, here} {
		tr.Saw(1)
		tr.Saw(2)
		tr.Show(1, ledger.Became{}, false)
	}
	for _, now := range []ledger.Became{first, second} {
		l.Change("room", 1, now)
		here.Saw(now.Version)
		here.Show(1, now, true)
	}
	here.Show(1, first, true) // late
	here.Show(9, first, true) // of a message that it does not have
	if len(l.Findings()) > 0 || here.Stale(l) != 0 || here.Missing(l) != 0 || len(here.Shown) != 1 {
		t.Errorf("findings %v, %d stale, %d missing, shows %v", l.Findings(), here.Stale(l), here.Missing(l), here.Shown)
	}
	if away.Stale(l) != 1 || away.Missing(l) != 0 {
		t.Errorf("of the changes of one message, %d are stale and %d missing", away.Stale(l), away.Missing(l))
	}
	if n := l.Unread("room", "bo", 0, 5); n != 2 || l.Unread("room", "bo", 1, 5) != 1 || l.Unread("room", "ana", 0, 5) != 0 {
		t.Errorf("%d unread", n)
	}
	l.Change("room", 1, deleted)
	if n := l.Unread("room", "bo", 0, 7); n != 1 {
		t.Errorf("%d unread after a delete", n)
	}
	if len(l.Findings()) > 0 {
		t.Errorf("findings: %v", l.Findings())
	}
	l.Change("room", 1, ledger.Became{Version: 7, Text: "other"})  // two forms of one version
	l.Change("room", 1, ledger.Became{Version: 8, Text: "edited"}) // it comes back
	if len(l.Findings()) != 2 {
		t.Errorf("findings: %v", l.Findings())
	}
}
