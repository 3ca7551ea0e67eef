package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/chathub-go/chathub/bench/internal/stats"
)

// Limits is what the figures do not show; it stands under every report.
const Limits = `## What this does not show

- **A network.** Everything runs over loopback: a write also pays for the reading side of TCP, there is no
  latency, no loss, and no network card. What a delivery costs in user space, and how many system calls it takes, carry over; the sum does not.
- **Many cores.** Server and generator share the machine's cores. Figures are CPU time, not throughput,
  because of that; how a server grows with cores is not measured.
- **Equal work.** Servers do what their own documentation shows, which is not the same. The column of bytes per delivery, and the notes on the
  servers, say where one does more: names, positions in a log, acks, authentication. The floors do nothing but system calls.
- **The joined messages' price.** Where messages are saturated, a server that joins them writes less often. How often it can depends on the
  number of messages under way, which the benchmark bounds, so that no server has to drop.
- **Your traffic.** Messages are 128 bytes, clients are well and read at once (but for the scenario of slow ones), nobody types.
`

// Markdown writes the tables.
func (r *Report) Markdown(w io.Writer) error {
	b := &strings.Builder{}
	b.WriteString("# Results\n\n")
	for _, f := range r.Facts {
		fmt.Fprintf(b, "- %s: %s\n", f.Name, f.Value)
	}
	b.WriteString("\nMedians of all rounds; in parentheses the least and the greatest.\n")
	r.headline(b)
	for i := range r.Scenarios {
		r.scenario(b, &r.Scenarios[i])
	}
	b.WriteString("\n## The servers\n\n")
	for _, s := range r.Servers {
		fmt.Fprintf(b, "- %s", s.Title)
		if s.About != "" {
			fmt.Fprintf(b, ": %s", s.About)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n" + Limits)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) headline(b *strings.Builder) {
	head := []string{"server"}
	for _, h := range headline {
		if r.Scenario(h.scenario) != nil {
			head = append(head, h.title+" ("+h.unit+")")
		}
	}
	if len(head) == 1 {
		return
	}
	b.WriteString("\n## In short\n\n")
	t := newTable(b, head)
	for _, s := range r.Servers {
		row := []string{s.Title}
		for _, h := range headline {
			if sc := r.Scenario(h.scenario); sc != nil {
				row = append(row, median(sc.Summary(s.Name, h.metric)))
			}
		}
		t.row(row)
	}
}

func (r *Report) scenario(b *strings.Builder, s *Scenario) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n", s.Title, s.About)
	head := []string{"server"}
	metrics := slices.DeleteFunc(slices.Clone(s.Metrics), func(m Metric) bool { return !s.has(m.Name) })
	for _, m := range metrics {
		head = append(head, m.Title+" ("+m.Unit+")")
	}
	if len(metrics) > 0 {
		t := newTable(b, head)
		for _, server := range r.Servers {
			if len(s.Values[server.Name]) == 0 {
				continue
			}
			row := []string{server.Title}
			for _, m := range metrics {
				row = append(row, spread(s.Summary(server.Name, m.Name)))
			}
			t.row(row)
		}
	}
	for _, server := range r.Servers {
		if why, ok := s.Missing[server.Name]; ok {
			fmt.Fprintf(b, "\n%s: %s.\n", server.Title, why)
		}
	}
}

func (s *Scenario) has(metric string) bool {
	for _, values := range s.Values {
		if len(values[metric]) > 0 {
			return true
		}
	}
	return false
}

type table struct{ b *strings.Builder }

func newTable(b *strings.Builder, head []string) table {
	t := table{b}
	t.row(head)
	t.row(slices.Repeat([]string{"---"}, len(head)))
	return t
}

func (t table) row(cells []string) { fmt.Fprintf(t.b, "| %s |\n", strings.Join(cells, " | ")) }

func median(s stats.Summary) string {
	if s.N == 0 {
		return "–"
	}
	return Number(s.Median)
}

func spread(s stats.Summary) string {
	if s.N < 2 {
		return median(s)
	}
	return fmt.Sprintf("%s (%s–%s)", Number(s.Median), Number(s.Min), Number(s.Max))
}

// Number returns v with about three significant digits, and thousands apart.
func Number(v float64) string {
	switch {
	case v < 0:
		return "-" + Number(-v)
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
