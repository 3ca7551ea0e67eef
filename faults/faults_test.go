//go:build linux

package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

func TestMain(m *testing.M) {
	if inRole() != nil {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestFaults provokes every fault in its quick form. The result is the table of
// docs/faults.md, with smaller numbers.
func TestFaults(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting
			r := s.run(t.Context(), options{quick: true})
			for _, p := range r.Problems {
				t.Error(p)
			}
			if len(r.Figures) == 0 || r.After == 0 || (r.Calm == nil) != s.noCalm {
				t.Errorf("nothing was measured: %+v", r)
			}
			var table strings.Builder
			printTable(&table, []row{r})
			t.Log(strings.Split(table.String(), "\n")[2])
		})
	}
}

// TestSeen: lost and doubled messages are counted.
func TestSeen(t *testing.T) {
	s := newSeen(&peer{room: chathub.Position{Epoch: "e", Seq: 3}}, "red")
	for _, seq := range []uint64{4, 5, 5, 8, 8, 8} {
		s.note(hubtest.Frame{Type: "room-message", Room: "red", Seq: seq})
		s.note(hubtest.Frame{Type: "room-message", Room: "blue", Seq: 6})
	}
	if lost, doubled := s.count(9); lost != 3 || doubled != 3 || s.top() != 5 {
		t.Errorf("%d lost, %d doubled, up to %d", lost, doubled, s.top())
	}
	var c crowder
	for _, seq := range []uint64{1, 2, 2, 5} {
		c.step(seq)
	}
	if c.lost.Load() != 2 || c.doubled.Load() != 1 {
		t.Errorf("%d lost, %d doubled", c.lost.Load(), c.doubled.Load())
	}
	if seq := seqOf([]byte(`{"type":"room-message","data":",\"seq\":7","seq":12,"ts":1}`)); seq != 12 {
		t.Errorf("seq %d", seq)
	}
}

// TestCalmFindsLoss: a calm client reports lost and doubled messages.
func TestCalmFindsLoss(t *testing.T) {
	c := &calm{acked: map[int]bool{0: true, 1: true}, heard: map[int]int{0: 2}, spoke: make([]time.Time, 3), ends: []error{ended{4001}}}
	f, problems := c.sum(0)
	if f.Sent != 3 || f.Lost != 2 || f.Doubled != 1 || len(problems) != 2 {
		t.Errorf("%+v, %q", f, problems)
	}
}
