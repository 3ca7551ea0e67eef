package main

import (
	"strings"
	"testing"
	"time"

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
