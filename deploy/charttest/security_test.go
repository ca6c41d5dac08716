package charttest

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// podSpecs returns all pod specs inside an object, whatever its kind.
func podSpecs(t *testing.T, at any) (all []map[string]any) {
	t.Helper()
	switch at := at.(type) {
	case object:
		return podSpecs(t, map[string]any(at))
	case map[string]any:
		if _, ok := at["containers"].([]any); ok {
			return []map[string]any{at}
		}
		for _, value := range at {
			all = append(all, podSpecs(t, value)...)
		}
	case []any:
		for _, value := range at {
			all = append(all, podSpecs(t, value)...)
		}
	}
	return all
}

// refusal asks the evaluator of Kubernetes' own admission plugin why the level "restricted" refuses a
// pod. It returns "" if the pod is admitted.
func refusal(t *testing.T, spec map[string]any) string {
	t.Helper()
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.PodSpec
	if err := json.Unmarshal(data, &pod); err != nil {
		t.Fatal(err)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &metav1.ObjectMeta{}, &pod))
	if result.Allowed {
		return ""
	}
	return result.ForbiddenDetail()
}

func TestPods_AreAdmittedAtLevelRestricted(t *testing.T) {
	t.Parallel()
	pods := 0
	for _, set := range valueSets {
		for _, o := range render(t, set) {
			for _, spec := range podSpecs(t, o) {
				pods++
				if reason := refusal(t, spec); reason != "" {
					t.Errorf("%s: %s %s is refused: %s", set, o.kind(), o.name(), reason)
				}
				for _, c := range spec["containers"].([]any) {
					// Restricted does not ask for this, but the image needs no writable files.
					if !get[bool](c.(map[string]any), "securityContext", "readOnlyRootFilesystem") {
						t.Errorf("%s: %s %s has a writable root", set, o.kind(), o.name())
					}
				}
				if token, rotates := spec["automountServiceAccountToken"] != false, o.kind() == "CronJob"; token != rotates {
					t.Errorf("%s: %s %s has a token of the Kubernetes API: %v, want %v", set, o.kind(), o.name(), token, rotates)
				}
			}
		}
	}
	if pods != 15 {
		t.Errorf("the evaluator saw %d pods", pods)
	}
}

// The test above must not pass because the evaluator accepts anything.
func TestPods_AreRefusedWithoutRestrictions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path  []string
		field string
		value any
	}{
		"as root":                 {[]string{"securityContext"}, "runAsUser", 0},
		"perhaps as root":         {[]string{"securityContext"}, "runAsNonRoot", false},
		"without seccomp":         {[]string{"securityContext"}, "seccompProfile", nil},
		"with a capability":       {[]string{"containers", "0", "securityContext"}, "capabilities", map[string]any{"add": []any{"NET_ADMIN"}}},
		"with escalation":         {[]string{"containers", "0", "securityContext"}, "allowPrivilegeEscalation", true},
		"in the node's network":   {nil, "hostNetwork", true},
		"with a directory of it":  {nil, "volumes", []any{map[string]any{"name": "host", "hostPath": map[string]any{"path": "/"}}}},
		"with a port of the node": {[]string{"containers", "0"}, "ports", []any{map[string]any{"containerPort": 8080, "hostPort": 8080}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, kind := range []string{"Deployment", "Job", "CronJob"} {
				o := find(t, render(t, "production"), kind)
				spec := podSpecs(t, o)[0]
				set(t, object{"kind": kind, "spec": spec}, append([]string{"spec"}, c.path...), c.field, c.value)
				if refusal(t, spec) == "" {
					t.Errorf("the %s is admitted", kind)
				}
			}
		})
	}
}
