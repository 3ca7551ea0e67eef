// Package report turns measurements into tables and a chart.
package report

import (
	"encoding/json"
	"io"

	"github.com/chathub-go/chathub/bench/internal/stats"
)

// Metric is a figure of a scenario. Less is better, unless the Unit is per
// second or percent.
type Metric struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Unit  string `json:"unit"`
}

// Report is the result of a run of the benchmark.
type Report struct {
	// Facts describe the machine and the run. They are printed in this order.
	Facts     []Fact     `json:"facts"`
	Servers   []Server   `json:"servers"`
	Scenarios []Scenario `json:"scenarios"`
}

// Fact is a property of a run.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Server is a row of the tables.
type Server struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	About string `json:"about,omitempty"`
	Floor bool   `json:"floor,omitempty"`
	Ours  bool   `json:"ours,omitempty"`
}

// Scenario is the measurements in one situation.
type Scenario struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	About   string   `json:"about"`
	Metrics []Metric `json:"metrics"`
	// Values holds the values of all rounds, by server and metric.
	Values map[string]map[string][]float64 `json:"values"`
	// Missing says why a server has no values, or not those of every round.
	Missing map[string]string `json:"missing,omitempty"`
}

// Add adds the values of a round.
func (s *Scenario) Add(server string, values map[string]float64) {
	if s.Values == nil {
		s.Values = make(map[string]map[string][]float64)
	}
	if s.Values[server] == nil {
		s.Values[server] = make(map[string][]float64)
	}
	for metric, v := range values {
		s.Values[server][metric] = append(s.Values[server][metric], v)
	}
}

// Miss notes why a server is not measured.
func (s *Scenario) Miss(server, why string) {
	if s.Missing == nil {
		s.Missing = make(map[string]string)
	}
	s.Missing[server] = why
}

// Summary returns the summary of a server's values. N is 0 if there are none.
func (s *Scenario) Summary(server, metric string) stats.Summary {
	return stats.Summarize(s.Values[server][metric])
}

// Scenario returns the scenario of that name, or nil if it was not run.
func (r *Report) Scenario(name string) *Scenario {
	for i := range r.Scenarios {
		if r.Scenarios[i].Name == name {
			return &r.Scenarios[i]
		}
	}
	return nil
}

// JSON writes the report with the values of all rounds.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

// headline is the first table and the chart.
var headline = []struct {
	scenario, metric string
	title, unit      string
}{
	{"room", "saturated", "1 room of 1,000, saturated", "µs CPU per delivery"},
	{"room", "paced", "1 room of 1,000, paced", "µs CPU per delivery"},
	{"rooms", "paced", "200 rooms of 10, paced", "µs CPU per delivery"},
	{"rooms", "saturated", "200 rooms of 10, saturated", "µs CPU per delivery"},
	{"idle", "memory", "idle connection", "kB resident"},
	{"idle", "connect", "connect", "µs CPU"},
}
