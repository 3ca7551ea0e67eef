package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func sample() *Report {
	r := &Report{
		Facts: []Fact{{"Machine", "a fast one"}},
		Servers: []Server{
			{Name: "bare", Title: "_floor_", Floor: true},
			{Name: "ours", Title: "**ours**", Ours: true, About: "with & without"},
			{Name: "other", Title: "other <1.0>"},
		},
		Scenarios: []Scenario{
			{Name: "room", Title: "One room", About: "A room.", Metrics: []Metric{
				{Name: "saturated", Title: "saturated", Unit: "µs"},
				{Name: "paced", Title: "paced", Unit: "µs"},
				{Name: "never", Title: "never measured", Unit: "µs"},
			}},
			{Name: "idle", Title: "Idle", About: "Nothing.", Metrics: []Metric{{Name: "memory", Title: "memory", Unit: "kB"}}},
		},
	}
	room := r.Scenario("room")
	for _, v := range []float64{2, 1, 4} {
		room.Add("bare", map[string]float64{"saturated": v, "paced": 10 * v})
		room.Add("ours", map[string]float64{"saturated": v / 10, "paced": 1000 * v})
	}
	room.Miss("other", "node is not installed")
	return r
}

func TestMarkdown(t *testing.T) {
	var b strings.Builder
	if err := sample().Markdown(&b); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"- Machine: a fast one\n",
		"| server | 1 room of 1,000, saturated (µs CPU per delivery) | 1 room of 1,000, paced (µs CPU per delivery) | idle connection (kB resident) | connect (µs CPU) |\n" +
			"| --- | --- | --- | --- | --- |\n" +
			"| _floor_ | 2.00 | 20.0 | – | – |\n" +
			"| **ours** | 0.20 | 2,000 | – | – |\n" +
			"| other <1.0> | – | – | – | – |\n",
		"## One room\n\nA room.\n\n" +
			"| server | saturated (µs) | paced (µs) |\n" +
			"| --- | --- | --- |\n" +
			"| _floor_ | 2.00 (1.00–4.00) | 20.0 (10.0–40.0) |\n" +
			"| **ours** | 0.20 (0.10–0.40) | 2,000 (1,000–4,000) |\n" +
			"\nother <1.0>: node is not installed.\n",
		"- **ours**: with & without\n- other <1.0>\n",
		Limits,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the report lacks\n%s\nit is\n%s", want, got)
		}
	}
	if strings.Contains(got, "never measured") {
		t.Error("a column without any value is there")
	}
}

func TestWrap(t *testing.T) {
	word := strings.Repeat("ä", 54)
	long := strings.Repeat("x", 120)
	for _, tt := range []struct{ mark, text, want string }{
		{"", "", "\n"},
		{"- ", "a b", "- a b\n"},
		{"", word + " " + word, word + " " + word + "\n"},
		{"- ", word + " " + word, "- " + word + "\n  " + word + "\n"},
		{"- ", long + " a " + long, "- " + long + "\n  a\n  " + long + "\n"},
	} {
		if got := wrap(tt.mark, tt.text); got != tt.want {
			t.Errorf("%q wraps to %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestJSONHasEveryRound(t *testing.T) {
	var b strings.Builder
	want := sample()
	if err := want.JSON(&b); err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("read back: %+v, want %+v", got, want)
	}
}

func TestChart(t *testing.T) {
	var b strings.Builder
	shown, err := sample().Chart(&b)
	if err != nil || !shown {
		t.Fatalf("shown: %v, error: %v", shown, err)
	}
	svg := b.String()
	bars := map[string]int{} // by class
	var texts []string
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, svg)
		}
		switch v := token.(type) {
		case xml.StartElement:
			for _, a := range v.Attr {
				if v.Name.Local == "rect" && a.Name.Local == "class" {
					bars[a.Value]++
				}
			}
		case xml.CharData:
			texts = append(texts, string(v))
		}
	}
	// Two panels, with a floor and ours. The third server has no values.
	if bars["f"] != 2 || bars["b"] != 2 || bars["p"] != 0 {
		t.Errorf("bars by class: %v", bars)
	}
	all := strings.Join(texts, "\n")
	for _, want := range []string{"1 room of 1,000, saturated", "floor: bare", "ours", "2.00", "0.20", "prefers-color-scheme:dark"} {
		if !strings.Contains(all, want) {
			t.Errorf("the chart does not say %q", want)
		}
	}
	// The longest bar of each panel is as long as the other's.
	if n := strings.Count(svg, `width="218.0"`); n != 2 {
		t.Errorf("%d bars have the full length, want one in each panel\n%s", n, svg)
	}
}

func TestChartOfNothing(t *testing.T) {
	var b strings.Builder
	shown, err := (&Report{}).Chart(&b)
	if shown || err != nil || b.Len() > 0 {
		t.Errorf("shown: %v, error: %v, %d bytes", shown, err, b.Len())
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.00", 0.125: "0.12", 9.994: "9.99", 9.996: "10.0", 99.94: "99.9", 99.96: "100",
		999.4: "999", 1000: "1,000", 15000: "15,000", 1234567.8: "1,234,568", -2.5: "-2.50",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) is %s, want %s", v, got, want)
		}
	}
}
