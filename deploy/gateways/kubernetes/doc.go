// Package kubernetes contains manifests for gateways on Kubernetes that let sessiond check every request. Its
// only code is the tests. They check the manifests as the API server does, with the custom resource
// definitions that the gateways' own modules contain. ../README.md explains how to use the files.
package kubernetes
