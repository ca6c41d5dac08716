package kubernetes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	// The modules whose definitions the test reads.
	_ "github.com/envoyproxy/gateway"
	_ "github.com/projectcontour/contour/apis/projectcontour/v1"
	_ "github.com/traefik/traefik/v3/webui"
	"google.golang.org/protobuf/encoding/protojson"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	yamlstream "k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	_ "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// definitions are the files with the custom resource definitions of each module.
var definitions = map[string][]string{
	"github.com/envoyproxy/gateway":     {"charts/gateway-helm/charts/crds/crds/generated/*.yaml"},
	"github.com/projectcontour/contour": {"examples/contour/01-crds.yaml"},
	"github.com/traefik/traefik/v3":     {"docs/content/reference/dynamic-configuration/traefik.io_*.yaml"},
	"istio.io/api":                      {"kubernetes/customresourcedefinitions.gen.yaml"},
	"sigs.k8s.io/gateway-api":           {"config/crd/experimental/gateway.networking.k8s.io_*.yaml"},
}

// TestManifests_AreValid checks each object as the API server does when it is created: no unknown fields,
// the types and limits of the schema, and the rules in CEL.
func TestManifests_AreValid(t *testing.T) {
	kinds := map[string]*kind{}
	for module, patterns := range definitions {
		for _, pattern := range patterns {
			loadDefinitions(t, kinds, filepath.Join(moduleDir(t, module), pattern))
		}
	}
	for name, want := range map[string]int{
		"contour.yaml": 2, "envoy-gateway.yaml": 3, "gateway-api.yaml": 2, "istio.yaml": 1, "traefik.yaml": 3,
	} {
		t.Run(name, func(t *testing.T) {
			objects := readDocuments(t, name)
			if len(objects) != want {
				t.Errorf("%d objects, want %d", len(objects), want)
			}
			for _, object := range objects {
				id := fmt.Sprint(object["apiVersion"], " ", object["kind"])
				k, ok := kinds[id]
				if !ok {
					t.Errorf("%s is no kind of these gateways", id)
					continue
				}
				for _, problem := range k.problems(t, object) {
					t.Errorf("%s: %s", id, problem)
				}
			}
		})
	}
}

// TestIstioMesh_IsValid parses the settings of the mesh as Istio does, but without unknown fields.
func TestIstioMesh_IsValid(t *testing.T) {
	data, err := os.ReadFile("istio-mesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		t.Fatal(err)
	}
	mesh := new(meshv1alpha1.MeshConfig)
	if err := protojson.Unmarshal(text, mesh); err != nil {
		t.Fatal(err)
	}
	policy := readDocuments(t, "istio.yaml")[0]["spec"].(map[string]any)["provider"].(map[string]any)["name"]
	provider := mesh.GetExtensionProviders()[0]
	grpc := provider.GetEnvoyExtAuthzGrpc()
	if provider.GetName() != policy || grpc.GetService() == "" || grpc.GetPort() == 0 || grpc.GetFailOpen() || grpc.GetStatusOnError() != "503" {
		t.Errorf("got the provider %v, want the one of istio.yaml, %v, which answers 503 if sessiond does not", provider, policy)
	}
}

// TestTraefik_MiddlewaresAreTheTestedOnes compares the middlewares with those of ../traefik.yml, which the
// tests of the gateways run with a real Traefik.
func TestTraefik_MiddlewaresAreTheTestedOnes(t *testing.T) {
	file := readDocuments(t, "../traefik.yml")[0]["http"].(map[string]any)["middlewares"].(map[string]any)
	manifests := map[string]any{}
	for _, object := range readDocuments(t, "traefik.yaml") {
		name := object["metadata"].(map[string]any)["name"].(string)
		manifests[strings.TrimPrefix(name, "sessiond-")] = object["spec"]
	}
	for name, tested := range file {
		if name == "verify" { // only its address differs
			tested.(map[string]any)["forwardAuth"].(map[string]any)["address"] = "http://sessiond-check.identity.svc.cluster.local:8081/v1/verify"
		}
		if !reflect.DeepEqual(manifests[name], tested) {
			t.Errorf("middleware %s: got %v, want %v", name, manifests[name], tested)
		}
	}
}

// kind is a version of a kind of object.
type kind struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

// problems returns what is wrong with an object.
func (k *kind) problems(t *testing.T, object map[string]any) (problems []string) {
	t.Helper()
	unknown := pruning.PruneWithOptions(object, k.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, path := range unknown {
		problems = append(problems, "unknown field "+path)
	}
	defaulting.Default(object, k.structural)
	faults := validation.ValidateCustomResource(nil, object, k.validator)
	faults = append(faults, listtype.ValidateListSetsAndMaps(nil, k.structural, object)...)
	if k.rules != nil {
		found, _ := k.rules.Validate(t.Context(), nil, k.structural, object, nil, celconfig.RuntimeCELCostBudget)
		faults = append(faults, found...)
	}
	for _, fault := range faults {
		problems = append(problems, fault.Error())
	}
	return problems
}

// loadDefinitions adds the kinds that the files define.
func loadDefinitions(t *testing.T, kinds map[string]*kind, pattern string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	for _, path := range paths {
		for _, document := range readDocuments(t, path) {
			if document["kind"] != "CustomResourceDefinition" {
				continue
			}
			data, err := json.Marshal(document)
			if err != nil {
				t.Fatal(err)
			}
			var definition apiextensionsv1.CustomResourceDefinition
			if err := json.Unmarshal(data, &definition); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			for _, version := range definition.Spec.Versions {
				if version.Served {
					kinds[definition.Spec.Group+"/"+version.Name+" "+definition.Spec.Names.Kind] = newKind(t, version.Schema)
				}
			}
		}
	}
}

func newKind(t *testing.T, v1 *apiextensionsv1.CustomResourceValidation) *kind {
	t.Helper()
	internal := new(apiextensions.CustomResourceValidation)
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v1, internal, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(internal.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	validator, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return &kind{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

// readDocuments returns the documents of a YAML file.
func readDocuments(t *testing.T, path string) (documents []map[string]any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reader := yamlstream.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		part, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return documents
		}
		if err != nil {
			t.Fatal(err)
		}
		var document map[string]any
		if err := yaml.UnmarshalStrict(part, &document); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if document != nil {
			documents = append(documents, integers(document).(map[string]any))
		}
	}
}

// integers returns a value of JSON in which whole numbers have the type int64, as the API server has them.
func integers(v any) any {
	switch v := v.(type) {
	case float64:
		if n := int64(v); float64(n) == v {
			return n
		}
	case map[string]any:
		for key, value := range v {
			v[key] = integers(value)
		}
	case []any:
		for i, value := range v {
			v[i] = integers(value)
		}
	}
	return v
}

// moduleDir returns the directory of a module of go.mod.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		t.Fatalf("go list -m %s: %v", module, err)
	}
	return dir
}
