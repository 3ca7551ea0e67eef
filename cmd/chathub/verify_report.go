package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/internal/histogram"
)

// verifyTally counts what all users see. It may be used concurrently.
type verifyTally struct {
	sent, acked, refused, received atomic.Int64
	doubled, reordered, bad        atomic.Int64
	gaps, backfilled               atomic.Int64
	again                          atomic.Int64 // connections after a user's first
	failures                       atomic.Int64 // attempts that failed before anybody was connected
	connected                      atomic.Bool  // somebody has been
	latency, ackLatency            histogram.Histogram
	silence, outage                longest

	mu     sync.Mutex
	last   time.Time      // of the last delivery to anybody
	ends   map[string]int // of connections, by close code or reason
	errors map[string]int // by code
	notes  []string       // the first few findings
	noted  map[string]int // by format
}

func (t *verifyTally) reconnects() int64 { return t.again.Load() }

func (t *verifyTally) ended(how string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count(&t.ends, how)
}

func (t *verifyTally) answeredWith(code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count(&t.errors, printable(code))
}

func count(m *map[string]int, key string) {
	if *m == nil {
		*m = make(map[string]int)
	}
	(*m)[key]++
}

// note notes a finding. The first few of a kind are enough.
func (t *verifyTally) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if count(&t.noted, format); t.noted[format] <= mostNotes {
		t.notes = append(t.notes, fmt.Sprintf(format, args...))
	}
}

const mostNotes = 3

// wrong counts what the protocol does not allow.
func (t *verifyTally) wrong(format string, args ...any) {
	t.bad.Add(1)
	t.note(format, args...)
}

// deliveredTo measures how long nobody got anything.
func (t *verifyTally) deliveredTo(now, began time.Time) {
	t.mu.Lock()
	last := t.last
	t.last = now
	t.mu.Unlock()
	if !last.IsZero() {
		t.outage.note(now.Sub(last), "", last.Sub(began))
	}
}

// longest keeps the longest time without a delivery. It may be used
// concurrently.
type longest struct {
	mu   sync.Mutex
	d    time.Duration
	user string
	at   time.Duration // its beginning, since the run began
}

func (l *longest) note(d time.Duration, user string, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d > l.d {
		l.d, l.user, l.at = d, user, at
	}
}

// latencyReport has durations in milliseconds.
type latencyReport struct {
	P50 float64 `json:"p50Ms"`
	P99 float64 `json:"p99Ms"`
	Max float64 `json:"maxMs"`
}

func latencyOf(h *histogram.Histogram) latencyReport {
	return latencyReport{milliseconds(h.Quantile(0.5)), milliseconds(h.Quantile(0.99)), milliseconds(h.Quantile(1))}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

func (l latencyReport) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, max %s", showMs(l.P50), showMs(l.P99), showMs(l.Max))
}

// showMs shows milliseconds with three significant digits or so.
func showMs(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}

// silenceReport is a time without a delivery.
type silenceReport struct {
	Ms   float64 `json:"ms"`
	User string  `json:"user,omitzero"`
	At   float64 `json:"atSeconds"` // since the run began
}

func (l *longest) report() silenceReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	return silenceReport{milliseconds(l.d), l.user, l.at.Round(time.Millisecond).Seconds()}
}

// verifyReport is the result of a run. Its JSON names are documented in the
// README.
type verifyReport struct {
	URL         string  `json:"url"`
	Run         string  `json:"run"`
	Seconds     float64 `json:"seconds"`
	Users       int     `json:"users"`
	Rooms       int     `json:"rooms"`
	Interrupted bool    `json:"interrupted"`
	Clean       bool    `json:"clean"`

	Sent     int64 `json:"sent"`
	Acked    int64 `json:"acked"`
	Refused  int64 `json:"refused"`
	Unacked  int   `json:"unacked"`
	Received int64 `json:"received"`

	Lost        int   `json:"lost"` // deliveries that are missing
	Doubled     int64 `json:"doubled"`
	Reordered   int64 `json:"reordered"`
	Contradicts int   `json:"contradictions"` // two messages at one position, or one at two
	Bad         int64 `json:"bad"`            // what the protocol does not allow
	Behind      int   `json:"behind"`         // users that did not catch up

	Gaps       int64 `json:"gaps"` // answers with recovered: false
	Backfilled int64 `json:"backfilled"`

	Reconnects int64          `json:"reconnects"`
	Ends       map[string]int `json:"ends"`
	Errors     map[string]int `json:"errors"`

	Delivery latencyReport `json:"delivery"`
	Ack      latencyReport `json:"ack"`
	Silence  silenceReport `json:"silence"` // of one user
	Outage   silenceReport `json:"outage"`  // of all at once
	Notes    []string      `json:"notes"`
}

func (v *verify) report(behind int) *verifyReport {
	t := &v.tally
	r := &verifyReport{
		URL: shown(v.con.url), Run: v.run, Seconds: time.Since(v.began).Round(time.Millisecond).Seconds(),
		Users: len(v.users), Rooms: len(v.rooms),
		Sent: t.sent.Load(), Acked: t.acked.Load(), Refused: t.refused.Load(), Received: t.received.Load(),
		Doubled: t.doubled.Load(), Reordered: t.reordered.Load(), Bad: t.bad.Load(), Behind: behind,
		Gaps: t.gaps.Load(), Backfilled: t.backfilled.Load(), Reconnects: t.reconnects(),
		Delivery: latencyOf(&t.latency), Ack: latencyOf(&t.ackLatency),
		Silence: t.silence.report(), Outage: t.outage.report(),
	}
	for _, u := range v.users {
		missing, unacked := u.missing()
		r.Lost += missing
		r.Unacked += unacked
		if missing > 0 {
			t.note("%s lacks %d messages", u.name, missing)
		}
	}
	broken := v.ledger.Broken()
	r.Lost += len(broken)
	if len(broken) > 0 {
		t.note("acknowledged private messages that nobody got: %s", strings.Join(broken[:min(len(broken), 5)], ", "))
	}
	findings := v.ledger.Findings()
	r.Contradicts = len(findings)
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Ends, r.Errors = maps.Clone(t.ends), maps.Clone(t.errors)
	r.Notes = slices.Concat([]string{}, t.notes, findings)
	r.Clean = r.Lost == 0 && r.Doubled == 0 && r.Reordered == 0 && r.Contradicts == 0 && r.Bad == 0 &&
		r.Unacked == 0 && r.Refused == 0 && r.Behind == 0 && r.Acked > 0
	return r
}

// print writes the report as text.
func (r *verifyReport) print(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("verify", "%s, %.0f s, %d users in %d rooms", r.URL, r.Seconds, r.Users, r.Rooms)
	line("messages", "%d sent, %d acked, %d unacked, %d refused; %d received", r.Sent, r.Acked, r.Unacked, r.Refused, r.Received)
	line("wrong", "%d lost, %d doubled, %d reordered, %d contradictions, %d against the protocol; %d users behind",
		r.Lost, r.Doubled, r.Reordered, r.Contradicts, r.Bad, r.Behind)
	line("recovery", "%d gaps (recovered: false), %d messages came from history instead", r.Gaps, r.Backfilled)
	line("connections", "%d reconnects; ended: %s", r.Reconnects, counts(r.Ends))
	line("errors", "%s", counts(r.Errors))
	line("delivery", "%v", r.Delivery)
	line("ack", "%v", r.Ack)
	line("silence", "%s without a delivery to %s, %.1f s after the start; %s to nobody at all, %.1f s after the start",
		showMs(r.Silence.Ms), r.Silence.User, r.Silence.At, showMs(r.Outage.Ms), r.Outage.At)
	for _, n := range r.Notes {
		line("note", "%s", n)
	}
	if r.Interrupted {
		line("interrupted", "before the end of -duration")
	}
	if r.Clean {
		line("result", "clean")
	} else {
		line("result", "FAILED")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// counts shows what is counted by name.
func counts(m map[string]int) string {
	if len(m) == 0 {
		return "none"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s: %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}
