package gateways_test

import (
	"encoding/json"
	"os"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	// The types that the files name with @type.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
)

// TestEnvoyFiles_AreValid parses the files for Envoy with Envoy's own types, and checks each message as
// Envoy does when it starts.
func TestEnvoyFiles_AreValid(t *testing.T) {
	for _, name := range []string{"envoy.yaml", "envoy-grpc.yaml"} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var tree any
			if err := yaml.Unmarshal(data, &tree); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			bootstrap := new(bootstrapv3.Bootstrap)
			if err := protojson.Unmarshal(text, bootstrap); err != nil {
				t.Fatal(err)
			}
			var extensions int
			err = protorange.Options{Stable: true}.Range(bootstrap.ProtoReflect(), func(path protopath.Values) error {
				last := path.Index(-1)
				switch last.Step.Kind() {
				case protopath.AnyExpandStep:
					extensions++
				case protopath.RootStep:
				default:
					return nil // ValidateAll of the message around it validates this one
				}
				message := last.Value.Message().Interface()
				if err := message.(interface{ ValidateAll() error }).ValidateAll(); err != nil {
					t.Errorf("%s: %v", proto.MessageName(message), err)
				}
				return nil
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if extensions < 4 {
				t.Errorf("the file has %d extensions, want at least the filters", extensions)
			}
		})
	}
}
