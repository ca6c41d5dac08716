// Package charttest tests the Helm chart in deploy/chart: it renders and lints the chart with Helm's
// own code for five sets of values, and validates every object against the OpenAPI schemas of two
// versions of Kubernetes, the schemas of custom resources, and the Pod Security level "restricted".
package charttest
