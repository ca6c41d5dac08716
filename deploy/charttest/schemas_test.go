package charttest

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// kubernetesVersions are the oldest version that the chart supports, and the newest that there is.
var kubernetesVersions = []string{"v1.30.14", "v1.37.2"}

// modules are Go modules of which the tests only read files: the OpenAPI document of each version of
// Kubernetes, and custom resources. go.mod cannot name two versions of a module, so the checksums are here.
var modules = map[string]string{
	"k8s.io/kubernetes@v1.30.14":                                 "h1:MrlKXh9uhLIJpyxOeXhcndzRVSvwiV9iJ8NgH8nqPsg=",
	"k8s.io/kubernetes@v1.37.2":                                  "h1:A2VDEiObzkYqFTKhSsn0ZEb0RlLEXpHWj93gi2HqEwE=",
	"sigs.k8s.io/gateway-api@v1.6.3":                             "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
	"github.com/prometheus-operator/prometheus-operator@v0.85.0": "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
}

// customResources are the files of the custom resources that the chart uses.
var customResources = map[string][]string{
	"sigs.k8s.io/gateway-api@v1.6.3": {
		"config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
		"config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml",
	},
	"github.com/prometheus-operator/prometheus-operator@v0.85.0": {
		"example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
		"example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
	},
}

// moduleDir returns the directory of a module in the module cache, and downloads it if it is not there.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module).Output()
	var m struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &m); jsonErr != nil || err != nil || m.Error != "" {
		t.Fatalf("go mod download %s: %v, %v, %s", module, err, jsonErr, m.Error)
	}
	if m.Sum != modules[module] {
		t.Fatalf("%s has the checksum %s, want %q", module, m.Sum, modules[module])
	}
	return m.Dir
}

// A validator validates objects against the schemas of one version of Kubernetes and of the custom
// resources. It refuses unknown fields.
type validator map[string]*jsonschema.Schema // by apiVersion and kind, such as apps/v1 Deployment

func (v validator) validate(o object) error {
	schema := v[fmt.Sprint(o["apiVersion"], " ", o["kind"])]
	if schema == nil {
		return fmt.Errorf("unknown object %v %v", o["apiVersion"], o["kind"])
	}
	return schema.Validate(map[string]any(o))
}

// validators compiles the schemas of a version once for all tests.
var validators = func() map[string]func(t *testing.T) validator {
	all := map[string]func(*testing.T) validator{}
	for _, version := range kubernetesVersions {
		var once sync.Once
		var v validator
		all[version] = func(t *testing.T) validator {
			t.Helper()
			once.Do(func() { v = newValidator(t, version) })
			if v == nil {
				t.Fatal("another test reports why there are no schemas")
			}
			return v
		}
	}
	return all
}()

func newValidator(t *testing.T, version string) validator {
	t.Helper()
	v := validator{}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	add := func(url, pointer string, document any, kinds ...string) {
		if url != "" {
			if err := compiler.AddResource(url, document); err != nil {
				t.Fatal(err)
			}
		}
		for _, kind := range kinds {
			schema, err := compiler.Compile(pointer)
			if err != nil {
				t.Fatal(err)
			}
			v[kind] = schema
		}
	}

	var swagger map[string]any
	data := readFile(t, filepath.Join(moduleDir(t, "k8s.io/kubernetes@"+version), "api/openapi-spec/swagger.json"))
	if err := json.Unmarshal(data, &swagger); err != nil {
		t.Fatal(err)
	}
	definitions := swagger["definitions"].(map[string]any)
	for _, d := range definitions {
		refuseUnknown(d)
	}
	add("swagger.json", "", map[string]any{"definitions": definitions})
	for name, d := range definitions {
		kinds, _ := d.(map[string]any)["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 { // objects such as DeleteOptions belong to many groups
			continue
		}
		k := kinds[0].(map[string]any)
		add("", "swagger.json#/definitions/"+name, nil, strings.TrimPrefix(fmt.Sprintf("%s/%s %s", k["group"], k["version"], k["kind"]), "/"))
	}

	for module, files := range customResources {
		for _, file := range files {
			crds := parse(t, string(readFile(t, filepath.Join(moduleDir(t, module), file))))
			for _, crd := range crds {
				for _, served := range get[[]any](crd, "spec", "versions") {
					served := served.(map[string]any)
					schema := get[map[string]any](served, "schema", "openAPIV3Schema")
					refuseUnknown(schema)
					apiVersion := fmt.Sprintf("%s/%s", get[string](crd, "spec", "group"), served["name"])
					url := apiVersion + "/" + file
					add(url, url, schema, apiVersion+" "+get[string](crd, "spec", "names", "kind"))
				}
			}
		}
	}
	return v
}

// refuseUnknown changes a schema of Kubernetes so that it refuses fields that it does not name. It also
// translates the types that JSON Schema does not know.
func refuseUnknown(schema any) {
	s, ok := schema.(map[string]any)
	if !ok {
		return
	}
	if s["format"] == "int-or-string" || s["x-kubernetes-int-or-string"] == true {
		s["type"] = []any{"integer", "string"}
	}
	if properties, ok := s["properties"].(map[string]any); ok {
		if _, open := s["additionalProperties"]; !open && s["x-kubernetes-preserve-unknown-fields"] != true {
			s["additionalProperties"] = false
		}
		for name, p := range properties {
			if name == "metadata" {
				if p, ok := p.(map[string]any); ok && p["type"] == "object" && p["properties"] == nil {
					continue // a custom resource leaves its metadata to the API server
				}
			}
			refuseUnknown(p)
		}
	}
	refuseUnknown(s["items"])
	refuseUnknown(s["additionalProperties"])
}

func TestObjects_FitSchemasOfKubernetes(t *testing.T) {
	t.Parallel()
	for _, version := range kubernetesVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			v := validators[version](t)
			for _, set := range valueSets {
				for _, o := range render(t, set) {
					if err := v.validate(o); err != nil {
						t.Errorf("%s: %s %s: %v", set, o.kind(), o.name(), err)
					}
				}
			}
		})
	}
}

// The test above must not pass because the schemas accept anything.
func TestSchemas_RefuseBrokenObjects(t *testing.T) {
	t.Parallel()
	container := []string{"spec", "template", "spec", "containers", "0"}
	for name, c := range map[string]struct {
		kind  string
		path  []string
		field string
		value any
	}{
		"an unknown field of a container":        {"Deployment", container, "livenessprobe", map[string]any{}},
		"an unknown field of a strategy":         {"Deployment", []string{"spec", "strategy"}, "maxUnavailable", 0},
		"a number of the wrong type":             {"Deployment", []string{"spec"}, "minReadySeconds", "three"},
		"a list instead of an object":            {"Deployment", []string{"spec", "selector"}, "matchLabels", []any{}},
		"a variable with a number":               {"Deployment", append(container[:len(container):len(container)], "env", "0"), "value", 3},
		"an unknown field of a job":              {"Job", []string{"spec"}, "ttlSeconds", 3},
		"an unknown field of a policy":           {"NetworkPolicy", []string{"spec"}, "ingres", []any{}},
		"an unknown field of a ServiceMonitor":   {"ServiceMonitor", []string{"spec", "endpoints", "0"}, "relabeling", []any{}},
		"a wrong interval of a ServiceMonitor":   {"ServiceMonitor", []string{"spec", "endpoints", "0"}, "interval", "soon"},
		"an alert whose expression is a list":    {"PrometheusRule", []string{"spec", "groups", "0", "rules", "0"}, "expr", []any{}},
		"a version of the API that is not there": {"HorizontalPodAutoscaler", nil, "apiVersion", "autoscaling/v2beta2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, version := range kubernetesVersions {
				o := find(t, render(t, "production"), c.kind)
				set(t, o, c.path, c.field, c.value)
				if err := validators[version](t).validate(o); err == nil {
					t.Errorf("%s accepts it", version)
				}
			}
		})
	}
}

// find returns the first object of a kind.
func find(t *testing.T, all []object, kind string) object {
	t.Helper()
	for _, o := range all {
		if o.kind() == kind {
			return o
		}
	}
	t.Fatalf("there is no %s", kind)
	return nil
}

// set changes a field of the object or list element at a path.
func set(t *testing.T, o object, path []string, field string, value any) {
	t.Helper()
	var at any = map[string]any(o)
	for _, key := range path {
		switch parent := at.(type) {
		case map[string]any:
			at = parent[key]
		case []any:
			at = parent[key[0]-'0']
		}
	}
	m, ok := at.(map[string]any)
	if !ok {
		t.Fatalf("%s has no %v", o.kind(), path)
	}
	m[field] = value
}
