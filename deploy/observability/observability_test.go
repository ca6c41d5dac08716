package observability_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const runbooks = "../docs/runbooks"

// dashboard is the part of dashboard.json that the tests need.
type dashboard struct {
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, LegendFormat string }
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	data, err := os.ReadFile("dashboard.json")
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The promtool tests say, for each alert, that it fires on its fault, and is silent otherwise.
func TestRules_PassPromtool(t *testing.T) {
	t.Parallel()
	promtool := find(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}, {"check", "config", "--syntax-only", "prometheus.yml"},
	} {
		run(t, exec.Command(promtool, args...))
	}
}

var alertName = regexp.MustCompile(`(?m)^\s+- alert: (\S+)$`)

func TestAlerts_AreTestedAndHaveARunbook(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, m := range alertName.FindAllSubmatch(rules, -1) {
		name := string(m[1])
		if n := strings.Count(string(tests), "alertname: "+name+", eval_time"); n != 2 {
			t.Errorf("%s: %d tests say that it is silent; want one while everything is well, and one before it fires", name, n)
		}
		if n := strings.Count(string(tests), "alertname: "+name+"\n"); n != 1 {
			t.Errorf("%s: %d tests say that it fires, want 1", name, n)
		}
		file := name + ".md"
		pages = append(pages, file)
		if !strings.Contains(string(rules), "/deploy/docs/runbooks/"+file+"\n") {
			t.Errorf("%s has no link to its runbook", name)
		}
		page, err := os.ReadFile(filepath.Join(runbooks, file))
		if err != nil {
			t.Errorf("%s has no runbook: %v", name, err)
			continue
		}
		for _, heading := range []string{"# " + name + "\n", "\n## What it means\n", "\n## What to do\n"} {
			if !strings.Contains(string(page), heading) {
				t.Errorf("%s lacks the heading %q", file, strings.TrimSpace(heading))
			}
		}
	}
	if len(pages) < 10 {
		t.Fatalf("rules.yml has %d alerts", len(pages))
	}
	entries, err := os.ReadDir(runbooks)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "README.md" && !slices.Contains(pages, e.Name()) {
			t.Errorf("the runbook %s has no alert", e.Name())
		}
	}
}

// A real Prometheus scrapes a real service with load. Each panel must show data, each rule must be
// evaluated, and no series may name a person.
func TestPrometheus_ShowsDataInEachPanelAndNamesNobody(t *testing.T) {
	t.Parallel()
	find(t, "prometheus")
	s := startService(t, redisURL(t))
	p := startPrometheus(t, s.metricsAddr)
	stop := s.begin(t, func(ctx context.Context) { s.use(ctx, time.Second) })
	queries := map[string]string{}
	for _, panel := range readDashboard(t).Panels {
		for i, target := range panel.Targets {
			queries[fmt.Sprintf("query %d of the panel %q", i+1, panel.Title)] = target.Expr
		}
	}
	if len(queries) < 20 {
		t.Fatalf("the dashboard has %d queries", len(queries))
	}
	for _, r := range p.rules(t) {
		if r.Type == "recording" {
			queries["the rule "+r.Name] = r.Name
		}
	}
	queries["the last thing that the load does"] = `sessiond_refreshes_total{outcome="theft"} > 0`
	for what, expr := range queries {
		await(t, what+" to return a number", func() bool { return p.hasNumber(t, expr) })
	}
	stop()

	for _, r := range p.rules(t) {
		if r.Health != "ok" || r.State == "firing" {
			t.Errorf("%s: health %s, state %s: %s", r.Name, r.Health, r.State, r.LastError)
		}
		if url := r.Annotations["runbook_url"]; r.Type == "alerting" {
			if _, err := os.Stat(filepath.Join(runbooks, path.Base(url))); err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
		}
	}
	var series []map[string]string
	p.ask(t, "series", url.Values{"match[]": {`{__name__=~".+"}`}}, &series)
	if len(series) < 100 {
		t.Errorf("Prometheus has %d series", len(series))
	}
	for _, labels := range series {
		for name, value := range labels {
			if person := s.named(value); person != "" || strings.Contains(value, "@") {
				t.Errorf("%s: the label %s is %q, which contains %q", labels["__name__"], name, value, person)
			}
		}
	}
	if s.named(clientAddr) == "" || len(s.persons) < 10 {
		t.Errorf("the load named only %q", s.persons)
	}
}
