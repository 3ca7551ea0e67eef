package main

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/chathub-go/chathub/internal/histogram"
)

// tally counts what all clients see. It may be used concurrently.
type tally struct {
	sent, acked, received     atomic.Int64
	doubled, reordered        atomic.Int64
	foreign, stray, badAnswer atomic.Int64
	unrecovered, backfilled   atomic.Int64
	cutOff                    atomic.Int64        // calm clients closed other than by a drain
	latency                   histogram.Histogram // of calm clients

	mu     sync.Mutex
	dials  int
	ends   map[string]int // of connections, by close code or reason
	errors map[string]int // error answers, by code
	faults map[string]int // of clients
	notes  []string       // the first few findings
}

func newTally() *tally {
	return &tally{ends: make(map[string]int), errors: make(map[string]int), faults: make(map[string]int)}
}

func (t *tally) dialed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dials++
}

func (t *tally) ended(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ends[reason]++
}

func (t *tally) answered(code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errors[code]++
}

func (t *tally) fault(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults[what]++
}

// note notes a finding. The first few are enough.
func (t *tally) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.notes) < 20 {
		t.notes = append(t.notes, fmt.Sprintf(format, args...))
	}
}

// snapshot returns copies of what is counted by name.
func (t *tally) snapshot() (dials int, ends, errors, faults map[string]int, notes []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dials, maps.Clone(t.ends), maps.Clone(t.errors), maps.Clone(t.faults), t.notes
}
