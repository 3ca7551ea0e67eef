package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// report is the result of a soak.
type report struct {
	Seconds  float64 `json:"seconds"`
	Broker   string  `json:"broker"`
	Clients  int     `json:"clients"`
	Seed     uint64  `json:"seed"`
	Restarts int     `json:"restarts"`

	Sent     int64 `json:"sent"`  // durable messages, each counted once
	Acked    int64 `json:"acked"` // accepted messages
	Received int64 `json:"received"`

	// These must be 0.
	Lost       int   `json:"lost"` // deliveries that did not come
	Unacked    int   `json:"unacked"`
	Doubled    int64 `json:"doubled"`
	Reordered  int64 `json:"reordered"`
	Foreign    int64 `json:"foreign"` // messages to a client that must not get them
	Stray      int64 `json:"stray"`   // answers without a request
	BadAnswers int64 `json:"badAnswers"`
	Conflicts  int   `json:"conflicts"` // one position of two messages, or two of one
	Logged     int64 `json:"logged"`    // errors in the server's log
	// Leaks is what is left once all clients have gone.
	Leaks []string `json:"leaks"`
	// Nothing is wrong if the hub or its broker is overloaded, but not all is
	// checked then. Stranded are clients that could not return in the end, and
	// Unchecked those whose questions in the end were not answered. These must
	// be 0, too.
	Stranded  int `json:"stranded"`
	Unchecked int `json:"unchecked"`

	// Unavailable are answers that something cannot be done now. Clients try
	// again.
	Unavailable int            `json:"unavailable"`
	Unrecovered int64          `json:"unrecovered"` // resumes with recovered false
	Backfilled  int64          `json:"backfilled"`  // messages that came from history then
	CutOff      int64          `json:"calmCutOff"`  // calm clients closed other than by a drain
	Dials       int            `json:"dials"`
	Ends        map[string]int `json:"ends"`   // of connections, by close code or reason
	Errors      map[string]int `json:"errors"` // error answers, by code
	Faults      map[string]int `json:"faults"` // of clients

	// The latency of calm clients, from sending to receiving.
	P50, P99, P999 time.Duration `json:"-"`
	P50ms          float64       `json:"p50ms"`
	P99ms          float64       `json:"p99ms"`
	P999ms         float64       `json:"p999ms"`

	// The server at the start, its maximums, after all clients have gone, and
	// without hub and broker.
	Start    reading   `json:"start"`
	Peak     reading   `json:"peak"`
	End      reading   `json:"end"`
	Empty    reading   `json:"empty"`
	Readings []reading `json:"readings"` // over time

	Notes []string `json:"notes"` // the first few findings
}

// clean reports whether nothing is wrong, and everything was checked.
func (r *report) clean() bool { return r.isRight() && r.Stranded == 0 && r.Unchecked == 0 }

// isRight reports whether nothing is wrong.
func (r *report) isRight() bool {
	return r.Lost == 0 && r.Unacked == 0 && r.Doubled == 0 && r.Reordered == 0 && r.Foreign == 0 &&
		r.Stray == 0 && r.BadAnswers == 0 && r.Conflicts == 0 && r.Logged == 0 && len(r.Leaks) == 0
}

// print writes the report as text.
func (r *report) print(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("soak", "%.0f s on %s, %d clients, %d restarts, seed %d", r.Seconds, r.Broker, r.Clients, r.Restarts, r.Seed)
	line("messages", "%d sent, %d accepted, %d received", r.Sent, r.Acked, r.Received)
	line("wrong", "%d lost, %d unacked, %d doubled, %d reordered, %d foreign, %d stray and %d bad answers, %d conflicts, %d errors logged",
		r.Lost, r.Unacked, r.Doubled, r.Reordered, r.Foreign, r.Stray, r.BadAnswers, r.Conflicts, r.Logged)
	line("overload", "%d answers were unavailable; in the end, %d clients could not return and %d got no answers", r.Unavailable, r.Stranded, r.Unchecked)
	line("recovery", "%d resumes did not replay everything, %d messages came from history instead", r.Unrecovered, r.Backfilled)
	line("connections", "%d dialed; ended: %s", r.Dials, counts(r.Ends))
	line("faults", "%s", counts(r.Faults))
	line("errors", "%s", counts(r.Errors))
	line("calm", "latency p50 %v, p99 %v, p99.9 %v; %d cut off", r.P50, r.P99, r.P999, r.CutOff)
	line("memory", "resident %s at the start, %s at most, %s without clients; heap %s, %s, %s, and %s without hub and broker",
		mib(r.Start.RSS), mib(r.Peak.RSS), mib(r.End.RSS), mib(r.Start.Heap), mib(r.Peak.Heap), mib(r.End.Heap), mib(r.Empty.Heap))
	line("goroutines", "%d at the start, %d at most, %d without clients", r.Start.Goroutines, r.Peak.Goroutines, r.End.Goroutines)
	for _, leak := range r.Leaks {
		line("leak", "%s", leak)
	}
	for _, n := range r.Notes {
		line("note", "%s", n)
	}
	switch {
	case r.clean():
		line("result", "clean")
	case r.isRight():
		line("result", "INCOMPLETE: nothing is wrong, but the server was too slow to check all clients")
	default:
		line("result", "FAILED")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func counts(m map[string]int) string {
	if len(m) == 0 {
		return "none"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

func mib(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// peak returns the maximum of each figure of two readings.
func peak(a, b reading) reading {
	a.RSS = max(a.RSS, b.RSS)
	a.Heap = max(a.Heap, b.Heap)
	a.Goroutines = max(a.Goroutines, b.Goroutines)
	a.Connections = max(a.Connections, b.Connections)
	a.Users = max(a.Users, b.Users)
	a.Rooms = max(a.Rooms, b.Rooms)
	return a
}

const (
	// leakGoroutines allows for goroutines of the runtime and net/http that
	// come and go.
	leakGoroutines = 4
	// leakHeap allows for pools and the runtime, and a NATS server keeps more.
	leakHeap     = 512 << 10
	leakHeapNATS = 2 << 20
)

// leaks returns what should not be left.
func (r *report) leaks() (leaks []string) {
	if e := r.End; e.Connections > 0 || e.Users > 0 || e.Rooms > 0 {
		leaks = append(leaks, fmt.Sprintf("%d connections, %d users and %d rooms in the hub", e.Connections, e.Users, e.Rooms))
	}
	if n := r.End.Goroutines - r.Start.Goroutines; n > leakGoroutines {
		leaks = append(leaks, fmt.Sprintf("%d goroutines", n))
	}
	most := int64(leakHeap)
	if r.Broker == "nats" {
		most = leakHeapNATS
	}
	if n := int64(r.Empty.Heap) - int64(r.Start.Heap); n > most {
		leaks = append(leaks, fmt.Sprintf("%s of heap without hub and broker", mib(uint64(n))))
	}
	return leaks
}
