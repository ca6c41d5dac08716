package observability_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// prometheus is a real Prometheus with our configuration.
type prometheus struct{ base string }

// startPrometheus starts Prometheus with prometheus.yml and rules.yml. It scrapes the target more often than
// in production, and names it replica-1, because the target's address is not sessiond's choice.
func startPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	program, dir := find(t, "prometheus"), t.TempDir()
	config, err := os.ReadFile("prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(config)
	for _, change := range [][2]string{
		{"scrape_interval: 15s", "scrape_interval: 200ms"},
		{"evaluation_interval: 15s", "evaluation_interval: 200ms"},
		{`["127.0.0.1:9090"]`, `["` + target + `"]` + "\n        labels: { instance: replica-1 }"},
	} {
		if !strings.Contains(text, change[0]) {
			t.Fatalf("prometheus.yml lacks %s", change[0])
		}
		text = strings.ReplaceAll(text, change[0], change[1])
	}
	rules, err := os.ReadFile("rules.yml")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "rules.yml"), rules, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddrs(t, 1)[0]
	start(t, exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=warn"))
	p := &prometheus{"http://" + addr}
	await(t, "Prometheus to be ready", func() bool {
		resp, err := http.Get(p.base + "/-/ready")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	// Otherwise it would not see the first increase of the counters.
	await(t, "Prometheus to scrape the service", func() bool { return p.hasNumber(t, `up{job="sessiond"} == 1`) })
	return p
}

// ask calls the HTTP API of Prometheus and decodes the member data of the response.
func (p *prometheus) ask(t *testing.T, path string, query url.Values, data any) {
	t.Helper()
	resp, err := http.Get(p.base + "/api/v1/" + path + "?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer := struct{ Data any }{data}
	if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("Prometheus answers %s to %s %v: %s", resp.Status, path, query, body)
	}
}

// line is a series of the answer to a query.
type line struct {
	Metric map[string]string
	Value  [2]any   // time and value
	Values [][2]any // of a query for a time range
}

// hasNumber reports whether a query returns a value that is not NaN.
func (p *prometheus) hasNumber(t *testing.T, expr string) bool {
	t.Helper()
	var data struct{ Result []line }
	p.ask(t, "query", url.Values{"query": {expr}}, &data)
	for _, l := range data.Result {
		if _, value := point(l.Value); !math.IsNaN(value) {
			return true
		}
	}
	return false
}

// over returns the answer to a query for a time range.
func (p *prometheus) over(t *testing.T, expr string, from, to time.Time, step time.Duration) []line {
	t.Helper()
	var data struct{ Result []line }
	p.ask(t, "query_range", url.Values{
		"query": {expr}, "start": {fmt.Sprint(from.Unix())}, "end": {fmt.Sprint(to.Unix())}, "step": {fmt.Sprint(step.Seconds())},
	}, &data)
	return data.Result
}

// point returns the time in Unix seconds and the value of a sample.
func point(sample [2]any) (at, value float64) {
	at, _ = sample[0].(float64)
	text, _ := sample[1].(string)
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return at, math.NaN()
	}
	return at, value
}

// rule is a rule as Prometheus has loaded it.
type rule struct {
	Name, Type, Health, LastError, State string
	Annotations                          map[string]string
}

func (p *prometheus) rules(t *testing.T) (rules []rule) {
	t.Helper()
	var data struct{ Groups []struct{ Rules []rule } }
	p.ask(t, "rules", nil, &data)
	for _, g := range data.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}
