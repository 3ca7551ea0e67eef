package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/chathub-go/chathub/bench/internal/stats"
)

// Limits says what the figures do not show. It ends every report.
const Limits = `## What this does not show

- **A network.** Everything runs over loopback. A write also pays for the reading side of TCP, and there is no
  latency, no loss and no network card. What a delivery costs in user space, and its number of system calls,
  carry over; the sum does not.
- **Many cores.** Server and generator share the machine's cores, so figures are CPU time and not throughput.
  How a server grows with cores is not measured.
- **Equal work.** Servers do what their own documentation shows, which is not the same. The column of bytes
  per delivery and the notes on the servers say which of them do more: names, positions in a log, acks,
  authentication. The floors do nothing but system calls.
- **The price of joining.** When messages are saturated, a server that joins them writes less often. How often
  depends on the number of messages under way, which the benchmark bounds so that no server has to drop any.
- **Your traffic.** Messages have 128 bytes, all clients read at once (except in the scenario of slow ones),
  and nobody types.
`

// Markdown writes the tables.
func (r *Report) Markdown(w io.Writer) error {
	b := &strings.Builder{}
	b.WriteString("# Results\n\n")
	for _, f := range r.Facts {
		fmt.Fprintf(b, "- %s: %s\n", f.Name, f.Value)
	}
	b.WriteString("\nMedians of all rounds, with the minimum and the maximum in parentheses.\n")
	r.headline(b)
	for i := range r.Scenarios {
		r.scenario(b, &r.Scenarios[i])
	}
	b.WriteString("\n## The servers\n\n")
	for _, s := range r.Servers {
		item := s.Title
		if s.About != "" {
			item += ": " + s.About
		}
		b.WriteString(wrap("- ", item))
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
	fmt.Fprintf(b, "\n## %s\n\n%s\n", s.Title, wrap("", s.About))
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
			b.WriteString("\n" + wrap("", server.Title+": "+why+"."))
		}
	}
}

// wrap returns a paragraph in lines of at most 110 columns. The first begins
// with mark, and the others with as many spaces.
func wrap(mark, text string) string {
	const most = 110
	indent := strings.Repeat(" ", len(mark))
	var b strings.Builder
	line, first := mark, true
	for _, word := range strings.Fields(text) {
		if !first && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > most {
			b.WriteString(line + "\n")
			line, first = indent, true
		}
		if !first {
			line += " "
		}
		line += word
		first = false
	}
	b.WriteString(line + "\n")
	return b.String()
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

// Number formats v with about three significant digits, and separates
// thousands.
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
