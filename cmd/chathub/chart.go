package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/chathub-go/chathub/internal/histogram"
)

// bar is how many durations are below a bound, and not below the bar before.
type bar struct {
	Below float64 `json:"belowMs"` // 0: no bound
	Count uint64  `json:"count"`
}

// bounds are the upper ends of the bars of a chart.
var bounds = []time.Duration{
	250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// bars returns the bars of a chart, from the first that is not empty to the
// last.
func bars(h *histogram.Histogram) []bar {
	all := make([]bar, 0, len(bounds)+1)
	first, last := -1, -1
	var before uint64
	for i := range len(bounds) + 1 {
		b := bar{}
		upTo := h.Count()
		if i < len(bounds) {
			b.Below = milliseconds(bounds[i])
			upTo = h.Below(bounds[i])
		}
		if b.Count = upTo - before; b.Count > 0 {
			if last = i; first < 0 {
				first = i
			}
		}
		before = upTo
		all = append(all, b)
	}
	if first < 0 {
		return []bar{}
	}
	return all[first : last+1]
}

const chartWidth = 50

// drawBars draws a chart.
func drawBars(b *strings.Builder, bars []bar) {
	var most, total uint64
	for _, r := range bars {
		most = max(most, r.Count)
		total += r.Count
	}
	for _, r := range bars {
		label := "more"
		if r.Below > 0 {
			label = "< " + showMs(r.Below)
		}
		length := int(r.Count * chartWidth / most)
		line := strings.Repeat("█", length)
		if length == 0 && r.Count > 0 {
			line = "▏"
		}
		fmt.Fprintf(b, "%12s %6.2f %% %s\n", label, 100*float64(r.Count)/float64(total), line)
	}
}

// sparkline draws values as one line, at most chartWidth columns wide. Each
// column is the largest of its values.
func sparkline(values []float64) string {
	if len(values) == 0 {
		return ""
	}
	columns := make([]float64, min(len(values), chartWidth))
	most := 0.0
	for i, v := range values {
		c := i * len(columns) / len(values)
		columns[c] = max(columns[c], v)
		most = max(most, v)
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, v := range columns {
		i := 0
		if most > 0 {
			i = int(v / most * float64(len(levels)-1))
		}
		b.WriteRune(levels[i])
	}
	return b.String()
}

// print writes the report as text.
func (r *loadReport) print(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("load", "%s, %.0f s, %d of %d clients connected, in %d rooms", r.URL, r.Seconds, r.Connected, r.Clients, r.Rooms)
	line("messages", "%d sent, %d acked; %d received, %d gaps", r.Sent, r.Acked, r.Received, r.Gaps)
	line("errors", "%s", counts(r.Errors))
	line("delivery", "%v", r.Delivery)
	line("ack", "%v", r.Ack)
	var received, slowest []float64
	for _, s := range r.PerSecond {
		received = append(received, float64(s.Received))
		slowest = append(slowest, s.P99)
	}
	if len(received) > 0 {
		line("received", "%s  a second, up to %.0f", sparkline(received), most(received))
		line("p99", "%s  a second, up to %s", sparkline(slowest), showMs(most(slowest)))
	}
	drawBars(&b, r.Chart)
	if !r.Clean {
		line("result", "not everything that was sent is acknowledged, or not all clients were connected")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func most(values []float64) (m float64) {
	for _, v := range values {
		m = max(m, v)
	}
	return m
}
