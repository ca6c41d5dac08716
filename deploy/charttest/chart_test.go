package charttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	release "helm.sh/helm/v4/pkg/release/v1"
	"sigs.k8s.io/yaml"
)

const (
	chartDir    = "../chart"
	schemaFile  = chartDir + "/values.schema.json"
	settingsDoc = "../docs/settings.md"
)

var update = flag.Bool("update", false, "write the golden files, the chart's copies of deploy/observability, and the settings in values.schema.json")

// valueSets are the names of the files in testdata/values.
var valueSets = []string{"minimal", "production", "gateway-api", "ingress", "single"}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readValues(t *testing.T, set string) (values map[string]any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(readFile(t, "testdata/values/"+set+".yaml"), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// install renders the chart as "helm install --dry-run=client" does. It returns an error if the values do
// not fit the schema or a template fails.
func install(t *testing.T, values map[string]any) (*release.Release, error) {
	t.Helper()
	version, err := common.ParseKubeVersion(kubernetesVersions[0])
	if err != nil {
		t.Fatal(err)
	}
	a := action.NewInstall(action.NewConfiguration())
	a.DryRunStrategy = action.DryRunClient
	a.ReleaseName, a.Namespace = "release", "identity"
	a.KubeVersion = version
	r, err := a.RunWithContext(context.Background(), loadChart(t), values)
	if err != nil {
		return nil, err
	}
	return r.(*release.Release), nil
}

// object is a rendered Kubernetes object.
type object map[string]any

func (o object) kind() string { return o["kind"].(string) }
func (o object) name() string { return get[string](o, "metadata", "name") }

// get returns the value at a path, or the zero value if it is missing or has another type.
func get[T any](o map[string]any, path ...string) (value T) {
	var at any = map[string]any(o)
	for _, key := range path {
		m, _ := at.(map[string]any)
		at = m[key]
	}
	value, _ = at.(T)
	return value
}

var separator = regexp.MustCompile(`(?m)^---\s*$`)

// parse returns the objects of a YAML text.
func parse(t *testing.T, text string) (all []object) {
	t.Helper()
	for _, doc := range separator.Split(text, -1) {
		var o object
		if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		if o != nil {
			all = append(all, o)
		}
	}
	return all
}

// text returns the manifest of a release with its hooks.
func text(r *release.Release) string {
	all := r.Manifest
	for _, hook := range r.Hooks {
		all += "---\n# Hook: " + hook.Path + "\n" + hook.Manifest + "\n"
	}
	return all
}

// render returns all objects of the release with a set of values.
func render(t *testing.T, set string) []object {
	t.Helper()
	r, err := install(t, readValues(t, set))
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, text(r))
}

func TestChart_RendersGoldenFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(files) != len(valueSets) {
		t.Fatalf("testdata/values has the files %v, error %v", files, err)
	}
	for _, set := range valueSets {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			r, err := install(t, readValues(t, set))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(text(r), "\r", "")
			// Other tests compare these two files with their originals.
			for _, name := range []string{"files/rules.yml", "files/dashboard.json"} {
				got = strings.ReplaceAll(got, indented(string(readFile(t, filepath.Join(chartDir, name)))), "    the content of "+name)
			}
			got += "---\n# NOTES\n" + r.Info.Notes + "\n"
			golden := "testdata/golden/" + set + ".yaml"
			if *update {
				if err := errors.Join(os.MkdirAll("testdata/golden", 0o755), os.WriteFile(golden, []byte(got), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(readFile(t, golden)); got != want {
				t.Errorf("%s differs; look at the change with: go test . -run Golden -update && git diff", golden)
			}
		})
	}
}

// indented returns a text as the template indents it.
func indented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		indent := "    "
		if strings.HasPrefix(text, "#") {
			indent = "  " // the rules
		}
		lines[i] = indent + line
	}
	return strings.Join(lines, "\n")
}

func TestChart_PassesLint(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets {
		linter := lint.RunAll(chartDir, readValues(t, set), "identity")
		for _, m := range linter.Messages {
			// Helm recommends an icon, which sessiond does not have.
			if !strings.Contains(m.Err.Error(), "icon is recommended") {
				t.Errorf("%s: %v", set, m)
			}
		}
	}
}

func TestChart_RefusesWrongValues(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ values, want string }{
		"no Secret":                   {`existingSecret: ""`, "existingSecret"},
		"no public URL":               {`settings: {PUBLIC_URL: null}`, "PUBLIC_URL"},
		"an unknown value":            {`replicas: 3`, "replicas"},
		"a value of the wrong type":   {`replicaCount: three`, "replicaCount"},
		"an unknown setting":          {`settings: {PUBLIC_URI: "https://id.example.com"}`, "PUBLIC_URI"},
		"a setting of the chart":      {`settings: {SHUTDOWN_DELAY: 10s}`, "SHUTDOWN_DELAY"},
		"a secret among the settings": {`settings: {DATABASE_URL: "postgres://x"}`, "DATABASE_URL"},
		"rotation in a shared Secret": {`signingKeys: {rotation: {enabled: true}}`, "a Secret of its own"},
		"mail without a sender":       {`secretKeys: {smtpUrl: smtp-url}`, "MAIL_FROM"},
		"a route without a Gateway":   {`gatewayAPI: {httpRoute: {enabled: true}}`, "parentRefs"},
		"a gRPC route without gRPC":   {`gatewayAPI: {grpcRoute: {enabled: true, parentRefs: [{name: x}]}}`, "extAuthz.enabled"},
		"an Ingress without a host":   {`ingress: {enabled: true}`, "hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var more map[string]any
			if err := yaml.Unmarshal([]byte(c.values), &more); err != nil {
				t.Fatal(err)
			}
			if _, err := install(t, loader.MergeMaps(readValues(t, "minimal"), more)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one that contains %q", err, c.want)
			}
		})
	}
}

// Helm packages only files inside the chart's directory, so the chart has copies of two files.
func TestChart_CopiesOfObservabilityAreIdentical(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"rules.yml", "dashboard.json"} {
		want := readFile(t, "../observability/"+name)
		copied := chartDir + "/files/" + name
		if *update {
			if err := os.WriteFile(copied, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := readFile(t, copied); !bytes.Equal(got, want) {
			t.Errorf("%s is not deploy/observability/%[1]s; run: go test . -run Observability -update", name)
		}
	}
	for _, o := range render(t, "production") {
		switch o.kind() {
		case "PrometheusRule":
			var want map[string]any
			if err := yaml.Unmarshal(readFile(t, "../observability/rules.yml"), &want); err != nil {
				t.Fatal(err)
			}
			if got := get[map[string]any](o, "spec"); !sameJSON(t, got, want) {
				t.Error("the PrometheusRule does not have the rules of rules.yml")
			}
		case "ConfigMap":
			if got := get[string](o, "data", "sessiond.json"); strings.TrimSpace(got) != strings.TrimSpace(string(readFile(t, "../observability/dashboard.json"))) {
				t.Error("the ConfigMap does not have the dashboard of dashboard.json")
			}
		}
	}
}

func sameJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

// chartSets are the settings that the templates set by themselves, so users cannot.
var chartSets = []string{
	"ADDR", "ADMIN_ADDR", "CHECK_ADDR", "EXT_AUTHZ_ADDR", "METRICS_ADDR", "SHUTDOWN_DELAY",
	"DATABASE_URL", "REDIS_URL", "SMTP_URL", "SIGNING_KEYS_FILE", "PASSWORD_PEPPER_FILE",
}

var settingRow = regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)`(?: \\*)? \\| (.*?) \\| ([a-z, ]+) \\| (.*) \\|$")

// The settings in the schema are those of "sessiond serve". Another test compares settings.md with the
// program.
func TestSchema_KnowsEverySettingOfServe(t *testing.T) {
	t.Parallel()
	want := map[string]any{}
	for _, row := range settingRow.FindAllStringSubmatch(string(readFile(t, settingsDoc)), -1) {
		name, def, verbs := row[1], row[2], row[3]
		if slices.Contains(strings.Split(verbs, ", "), "serve") && !slices.Contains(chartSets, name) {
			types := []any{"string", "number"}
			if def == "`true`" || def == "`false`" {
				types = append(types, "boolean") // elsewhere, on and off without quotes must be refused
			}
			want[name] = map[string]any{
				"type":        types,
				"description": "default: " + strings.ReplaceAll(def, "`", ""),
			}
		}
	}
	if len(want) < 50 {
		t.Fatalf("settings.md has %d settings of serve", len(want))
	}
	var schema map[string]any
	if err := json.Unmarshal(readFile(t, schemaFile), &schema); err != nil {
		t.Fatal(err)
	}
	settings := get[map[string]any](schema, "properties", "settings")
	if *update {
		settings["properties"] = want
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := errors.Join(e.Encode(schema), os.WriteFile(schemaFile, out.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if got := settings["properties"].(map[string]any); !sameJSON(t, got, want) {
		t.Errorf("the schema has the settings\n%v\nwant\n%v\nrun: go test . -run Schema -update",
			slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}
