package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/internal/tools/child"
	"github.com/go-json-experiment/json"
)

// short is a soak for tests.
func short(t *testing.T, logLength int, patience time.Duration) *report {
	t.Helper()
	return shortWith(t, options{logLength: logLength, patience: patience})
}

func shortWith(t *testing.T, o options) *report {
	t.Helper()
	r, err := runSoak(t.Context(), options{
		broker:    "memory",
		failing:   o.failing,
		duration:  4 * time.Second,
		restart:   1700 * time.Millisecond,
		clients:   60,
		seed:      1,
		logLength: o.logLength,
		patience:  o.patience,
	}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.print(t.Output()); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSoak(t *testing.T) {
	r := short(t, 5000, 30*time.Second)
	if !r.clean() {
		t.Error("the soak is not clean")
	}
	if r.Restarts == 0 || r.Sent == 0 || r.Acked != r.Sent || r.Received < r.Sent || r.P50 == 0 || r.Peak.Goroutines <= r.Start.Goroutines {
		t.Errorf("not much happened: %+v", r)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{`"lost":0`, `"p99ms":`, `"ends":{`, `"readings":[{`} {
		if !strings.Contains(string(b), field) {
			t.Errorf("the JSON report has no %s", field)
		}
	}
}

// TestSoakFindsLoss: if the broker keeps one message of each log, clients lose
// the others while they are away.
func TestSoakFindsLoss(t *testing.T) {
	if r := short(t, 1, time.Second); r.clean() || r.Lost == 0 {
		t.Error("nothing is lost")
	}
}

// TestSoakUnavailable: if a broker is overloaded, clients try again, and
// nothing is wrong.
func TestSoakUnavailable(t *testing.T) {
	r := shortWith(t, options{failing: 4, logLength: 5000, patience: 30 * time.Second})
	if !r.clean() || r.Unavailable == 0 {
		t.Errorf("not clean, or nothing was unavailable: %d", r.Unavailable)
	}
}

// TestReportIncomplete: what could not be checked is not wrong, and a report
// with it is not clean.
func TestReportIncomplete(t *testing.T) {
	for _, r := range []report{{Stranded: 1}, {Unchecked: 1}} {
		var b strings.Builder
		if err := r.print(&b); err != nil {
			t.Fatal(err)
		}
		if r.clean() || !r.isRight() || !strings.Contains(b.String(), "INCOMPLETE") {
			t.Errorf("%+v is reported as %s", r, b.String())
		}
	}
}

func TestTrack(t *testing.T) {
	for _, tc := range []struct {
		name     string
		saw      []uint64
		own      []uint64
		outcomes []outcome
		missing  int
	}{
		{"all", []uint64{4, 5, 6}, nil, []outcome{expected, expected, expected}, 0},
		{"none", nil, nil, nil, 3},
		{"the end is missing", []uint64{4}, nil, []outcome{expected}, 2},
		{"a gap", []uint64{4, 6}, nil, []outcome{expected, expected}, 1},
		{"a gap that is no message", []uint64{5, 6}, []uint64{4}, []outcome{expected, expected}, 0},
		{"doubled", []uint64{4, 5, 5, 6}, nil, []outcome{expected, expected, repeated, expected}, 0},
		{"reordered", []uint64{4, 6, 5}, nil, []outcome{expected, expected, filled}, 0},
		{"from before the beginning", []uint64{3, 4, 5, 6}, nil, []outcome{repeated, expected, expected, expected}, 0},
		{"a gap filled twice", []uint64{6, 5, 5, 4}, nil, []outcome{expected, filled, repeated, filled}, 0},
		{"one's own does not come", []uint64{4, 6}, []uint64{5}, []outcome{expected, expected}, 0},
		{"one's own comes late", []uint64{4, 6, 5}, []uint64{5}, []outcome{expected, expected, expected}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLedger()
			for seq := range uint64(6) {
				l.put("room", seq+1, strings.Repeat("m", int(seq)+1), "")
			}
			tr := &track{topic: "room", last: 3, own: make(map[uint64]bool)}
			for _, seq := range tc.own {
				tr.own[seq] = true
			}
			var outcomes []outcome
			for _, seq := range tc.saw {
				outcomes = append(outcomes, tr.saw(seq))
			}
			if !slices.Equal(outcomes, tc.outcomes) {
				t.Errorf("outcomes %v, want %v", outcomes, tc.outcomes)
			}
			if n := tr.missing(l); n != tc.missing {
				t.Errorf("%d missing, want %d", n, tc.missing)
			}
		})
	}
}

// TestFillable: of what history may fill, the newest comes first.
func TestFillable(t *testing.T) {
	tr := newTrack("room", chathub.Position{})
	for _, seq := range []uint64{2, 5, 9} {
		tr.saw(seq)
	}
	if g, ok := tr.fillable(); ok {
		t.Errorf("%v is to be filled, although everything was replayed", g)
	}
	tr.hole = 5
	if g, ok := tr.fillable(); !ok || g != (stretch{3, 4}) {
		t.Errorf("%v is to be filled first", g)
	}
}

func TestLedger(t *testing.T) {
	l := newLedger()
	l.put("room", 1, "a", "")
	l.put("room", 2, "b", "")
	l.put("room", 1, "a", "") // as other clients see it
	l.put("other", 1, "b", "")
	l.promise("inbox", "c")
	if len(l.findings) > 0 || l.head("room") != 2 || l.head("nowhere") != 0 {
		t.Errorf("head %d, findings %v", l.head("room"), l.findings)
	}
	if got := l.broken(); !slices.Equal(got, []string{"c"}) {
		t.Errorf("broken: %v", got)
	}
	l.put("inbox", 7, "c", "")
	if got := l.broken(); len(got) > 0 {
		t.Errorf("broken: %v", got)
	}
	l.put("room", 3, "b", "") // stored twice
	l.put("room", 1, "c", "") // two messages at one position
	if len(l.findings) != 2 {
		t.Errorf("findings: %v", l.findings)
	}
}

// TestLedgerChanges: what clients see of changes has to be the same, and they
// have to show the newest.
func TestLedgerChanges(t *testing.T) {
	first, second := became{version: 3, text: "first"}, became{version: 5, text: "second"}
	deleted := became{version: 7, text: "deleted", deleted: true}
	l := newLedger()
	for seq, id := range map[uint64]string{1: "a", 2: "b"} {
		l.put("room", seq, id, "ana")
	}
	away := newTrack("room", chathub.Position{})
	here := newTrack("room", chathub.Position{})
	for _, tr := range []*track{away, here} {
		tr.saw(1)
		tr.saw(2)
		tr.show(1, became{}, false)
	}
	for _, now := range []became{first, second} {
		l.change("room", 1, now)
		here.saw(now.version)
		here.show(1, now, true)
	}
	here.show(1, first, true) // late
	here.show(9, first, true) // of a message that it does not have
	if len(l.findings) > 0 || here.stale(l) != 0 || here.missing(l) != 0 || len(here.shown) != 1 {
		t.Errorf("findings %v, %d stale, %d missing, shows %v", l.findings, here.stale(l), here.missing(l), here.shown)
	}
	if away.stale(l) != 1 || away.missing(l) != 0 {
		t.Errorf("of the changes of one message, %d are stale and %d missing", away.stale(l), away.missing(l))
	}
	if n := l.unread("room", "bo", 0, 5); n != 2 || l.unread("room", "bo", 1, 5) != 1 || l.unread("room", "ana", 0, 5) != 0 {
		t.Errorf("%d unread", n)
	}
	l.change("room", 1, deleted)
	if n := l.unread("room", "bo", 0, 7); n != 1 {
		t.Errorf("%d unread after a delete", n)
	}
	if len(l.findings) > 0 {
		t.Errorf("findings: %v", l.findings)
	}
	l.change("room", 1, became{version: 7, text: "other"})  // two forms of one version
	l.change("room", 1, became{version: 8, text: "edited"}) // it comes back
	if len(l.findings) != 2 {
		t.Errorf("findings: %v", l.findings)
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	if d := h.quantile(0.5); d != 0 {
		t.Errorf("the median of nothing is %v", d)
	}
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for share, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if d := h.quantile(share); d < want || d > want+want/16 {
			t.Errorf("quantile %v is %v, want %v and up to a sixteenth more", share, d, want)
		}
	}
}

func TestLeaks(t *testing.T) {
	server := func(goroutines int, heap uint64) reading {
		return reading{Usage: child.Usage{Goroutines: goroutines, Heap: heap}}
	}
	r := report{Start: server(8, 1<<20), End: server(8, 0), Empty: server(0, 1<<20+256<<10)}
	if got := r.leaks(); len(got) > 0 {
		t.Errorf("leaks: %v", got)
	}
	r.End, r.Empty = server(20, 0), server(0, 9<<20)
	r.End.Users = 1
	if got := r.leaks(); len(got) != 3 {
		t.Errorf("leaks: %v", got)
	}
}
