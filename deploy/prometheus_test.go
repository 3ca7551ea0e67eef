package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chathub-go/chathub/adapters/natsbroker"
	chatprom "github.com/chathub-go/chathub/adapters/prometheus"
	"github.com/chathub-go/chathub/adapters/prometheus/natsprom"
	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
)

var (
	metricName = regexp.MustCompile(`\bchathub_[a-z_]+`)
	fqName     = regexp.MustCompile(`fqName: "([^"]+)"`)
)

// exported returns the names of all metrics of the collectors.
func exported() map[string]bool {
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		(*chatprom.Collector)(nil).Describe(ch)
		natsprom.NewCollector(&natsbroker.Broker{}).Describe(ch)
	}()
	names := make(map[string]bool)
	for d := range ch {
		names[fqName.FindStringSubmatch(d.String())[1]] = true
	}
	return names
}

// checkMetrics checks that all metrics of an expression exist, and notes them.
func checkMetrics(t *testing.T, what, expr string, used map[string]bool) {
	t.Helper()
	all := exported()
	for _, name := range metricName.FindAllString(expr, -1) {
		base := strings.TrimSuffix(name, "_bucket")
		if !all[base] {
			t.Errorf("%s: no collector has %s", what, name)
		}
		used[base] = true
	}
}

// TestAlerts checks the alert rules, and with promtool that each fires when it
// should.
func TestAlerts(t *testing.T) {
	run(t, "promtool", "check", "rules", "prometheus/alerts.yml")
	run(t, "promtool", "test", "rules", "prometheus/alerts_test.yml")
	rules := read(t, "prometheus/alerts.yml")
	checkMetrics(t, "alerts.yml", rules, make(map[string]bool))
	cases, guide := read(t, "prometheus/alerts_test.yml"), read(t, "../docs/operations.md")
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		if !strings.Contains(cases, `alertname="`+m[1]+`"`) {
			t.Errorf("%s is not tested", m[1])
		}
		if !strings.Contains(guide, "\n### "+m[1]+"\n") || !strings.Contains(rules, "operations.md#"+strings.ToLower(m[1])+`"`) {
			t.Errorf("docs/operations.md does not say what to do about %s", m[1])
		}
	}
}

// TestDashboard checks that the expressions of the dashboard are valid, and
// that it shows every metric.
func TestDashboard(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal([]byte(read(t, "prometheus/grafana.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	variables := strings.NewReplacer("$__rate_interval", "1m", "$job", "chathub", "$instance", ".*")
	n := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			checkMetrics(t, p.Title, target.Expr, used)
			fmt.Fprintf(&rules, "  - {record: 'panel:%d', expr: '%s'}\n", n, variables.Replace(target.Expr))
			n++
		}
	}
	if n == 0 {
		t.Fatal("the dashboard shows nothing")
	}
	run(t, "promtool", "check", "rules", write(t, t.TempDir(), "dashboard.yml", rules.String()))
	for name := range exported() {
		// These only say where messages are.
		if !used[name] && name != "chathub_nats_stream_first_seq" && name != "chathub_nats_stream_last_seq" && name != "chathub_messages_received_total" {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// TestMetricsDocumented checks that the README of the collectors has every
// metric.
func TestMetricsDocumented(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "adapters", "prometheus", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range exported() {
		short := "`" + strings.TrimPrefix(name, "chathub_nats_stream") + "`"
		if text := string(b); !strings.Contains(text, "`"+name+"`") && !strings.Contains(text, short) {
			t.Errorf("the README does not have %s", name)
		}
	}
}
