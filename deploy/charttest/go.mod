// The tests of the Helm chart. A module of its own, because Helm has many dependencies.
module github.com/sessiond/sessiond/deploy/charttest

go 1.26.0

require (
	helm.sh/helm/v4 v4.3.2
	k8s.io/pod-security-admission v0.37.2
	k8s.io/api v0.37.2
	sigs.k8s.io/yaml v1.6.0
)
