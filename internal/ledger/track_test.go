package ledger_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chathub-go/chathub/internal/ledger"
)

func TestTrack(t *testing.T) {
	for _, tc := range []struct {
		name     string
		saw      []uint64
		own      []uint64
		outcomes []ledger.Outcome
		missing  int
	}{
		{"all", []uint64{4, 5, 6}, nil, []ledger.Outcome{ledger.Expected, ledger.Expected, ledger.Expected}, 0},
		{"none", nil, nil, nil, 3},
		{"the end is missing", []uint64{4}, nil, []ledger.Outcome{ledger.Expected}, 2},
		{"a gap", []uint64{4, 6}, nil, []ledger.Outcome{ledger.Expected, ledger.Expected}, 1},
		{"a gap that is no message", []uint64{5, 6}, []uint64{4}, []ledger.Outcome{ledger.Expected, ledger.Expected}, 0},
		{"doubled", []uint64{4, 5, 5, 6}, nil, []ledger.Outcome{ledger.Expected, ledger.Expected, ledger.Repeated, ledger.Expected}, 0},
		{"reordered", []uint64{4, 6, 5}, nil, []ledger.Outcome{ledger.Expected, ledger.Expected, ledger.Filled}, 0},
		{"from before the beginning", []uint64{3, 4, 5, 6}, nil, []ledger.Outcome{ledger.Repeated, ledger.Expected, ledger.Expected, ledger.Expected}, 0},
		{"a gap filled twice", []uint64{6, 5, 5, 4}, nil, []ledger.Outcome{ledger.Expected, ledger.Filled, ledger.Repeated, ledger.Filled}, 0},
		{"one's own does not come", []uint64{4, 6}, []uint64{5}, []ledger.Outcome{ledger.Expected, ledger.Expected}, 0},
		{"one's own comes late", []uint64{4, 6, 5}, []uint64{5}, []ledger.Outcome{ledger.Expected, ledger.Expected, ledger.Expected}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := ledger.New()
			for seq := range uint64(6) {
				l.Put("room", seq+1, strings.Repeat("m", int(seq)+1), "")
			}
			tr := &ledger.Track{Topic: "room", Last: 3, Own: make(map[uint64]bool)}
			for _, seq := range tc.own {
				tr.Own[seq] = true
			}
			var outcomes []ledger.Outcome
			for _, seq := range tc.saw {
				outcomes = append(outcomes, tr.Saw(seq))
			}
			if !slices.Equal(outcomes, tc.outcomes) {
				t.Errorf("outcomes %v, want %v", outcomes, tc.outcomes)
			}
			if n := tr.Missing(l); n != tc.missing {
				t.Errorf("%d missing, want %d", n, tc.missing)
			}
		})
	}
}

// TestFillable: of what history may fill, the newest comes first.
func TestFillable(t *testing.T) {
	tr := ledger.NewTrack("room", "e", 0)
	for _, seq := range []uint64{2, 5, 9} {
		tr.Saw(seq)
	}
	if g, ok := tr.Fillable(); ok {
		t.Errorf("%v is to be filled, although everything was replayed", g)
	}
	tr.Hole = 5
	if g, ok := tr.Fillable(); !ok || g != (ledger.Stretch{From: 3, To: 4}) {
		t.Errorf("%v is to be filled first", g)
	}
}
