package report

import (
	"fmt"
	"html"
	"io"
	"regexp"
	"strings"
)

// Sizes in the chart, in pixels.
const (
	chartWidth  = 860
	columns     = 2
	panelWidth  = chartWidth / columns
	margin      = 16
	panelTop    = 44 // title and unit
	barHeight   = 13
	barStep     = 19
	labelWidth  = 128
	valueWidth  = 52
	panelBottom = 22
)

// style makes the chart readable on light and dark pages. It follows the
// reader's colour scheme, even in an image.
const style = `<style>
text{font:12px system-ui,sans-serif;fill:#1f2328}
.t{font-weight:600;font-size:13px}.u{fill:#59636e;font-size:11px}.v{font-variant-numeric:tabular-nums}.o{font-weight:600}
.bg{fill:#fff}.p{fill:#9aa4b0}.f{fill:none;stroke:#9aa4b0;stroke-dasharray:3 2}.b{fill:#0969da}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.u{fill:#9198a1}.bg{fill:#0d1117}.p{fill:#656c76}.f{stroke:#656c76}.b{fill:#4493f8}}
</style>
`

// Chart writes the headline figures as an SVG image, with bars for the medians.
// It reports whether there was anything to show.
func (r *Report) Chart(w io.Writer) (shown bool, err error) {
	var panels []panel
	for _, h := range headline {
		sc := r.Scenario(h.scenario)
		if sc == nil {
			continue
		}
		p := panel{title: h.title, unit: h.unit}
		for _, s := range r.Servers {
			if sum := sc.Summary(s.Name, h.metric); sum.N > 0 {
				p.bars = append(p.bars, bar{server: s, value: sum.Median})
				p.most = max(p.most, sum.Median)
			}
		}
		if len(p.bars) > 0 {
			panels = append(panels, p)
		}
	}
	if len(panels) == 0 {
		return false, nil
	}
	panelHeight := panelTop + len(r.Servers)*barStep + panelBottom
	height := (len(panels)+columns-1)/columns*panelHeight + margin
	b := &strings.Builder{}
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">`+"\n", chartWidth, height)
	fmt.Fprintf(b, "<title>Cost of chat servers: shorter is better</title>\n%s", style)
	fmt.Fprintf(b, `<rect class="bg" width="%d" height="%d" rx="6"/>`+"\n", chartWidth, height)
	for i, p := range panels {
		p.draw(b, i%columns*panelWidth+margin, i/columns*panelHeight+margin)
	}
	b.WriteString("</svg>\n")
	_, err = io.WriteString(w, b.String())
	return true, err
}

type panel struct {
	title, unit string
	bars        []bar
	most        float64
}

type bar struct {
	server Server
	value  float64
}

func (p *panel) draw(w *strings.Builder, x, y int) {
	fmt.Fprintf(w, `<text class="t" x="%d" y="%d">%s</text>`+"\n", x, y+12, html.EscapeString(p.title))
	fmt.Fprintf(w, `<text class="u" x="%d" y="%d">%s, less is better</text>`+"\n", x, y+27, html.EscapeString(p.unit))
	const room = panelWidth - 2*margin - labelWidth - valueWidth
	for i, b := range p.bars {
		top := y + panelTop - margin/2 + i*barStep
		class, text := "p", ""
		switch {
		case b.server.Ours:
			class, text = "b", " o"
		case b.server.Floor:
			class = "f"
		}
		length := max(b.value, 0) / p.most * room
		if p.most <= 0 {
			length = 0
		}
		fmt.Fprintf(w, `<text class="l%s" x="%d" y="%d" text-anchor="end">%s</text>`, text, x+labelWidth-6, top+barHeight-2, html.EscapeString(label(b.server)))
		fmt.Fprintf(w, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`, class, x+labelWidth, top, max(length, 1), barHeight)
		fmt.Fprintf(w, `<text class="v%s" x="%.1f" y="%d">%s</text>`+"\n", text, float64(x+labelWidth)+length+5, top+barHeight-2, Number(b.value))
	}
}

var markup = regexp.MustCompile(`[*_]+`)

// label returns the name of a server for its bar.
func label(s Server) string {
	if s.Floor {
		return "floor: " + s.Name
	}
	return markup.ReplaceAllString(s.Name, "")
}
