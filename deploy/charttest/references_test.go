package charttest

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// pod returns the labels and the spec of the replicas' pods.
func replicas(t *testing.T, all []object) (labels, spec, container map[string]any) {
	t.Helper()
	d := find(t, all, "Deployment")
	spec = get[map[string]any](d, "spec", "template", "spec")
	return get[map[string]any](d, "spec", "template", "metadata", "labels"), spec, spec["containers"].([]any)[0].(map[string]any)
}

// selects reports whether labels have every label of a selector.
func selects(selector, labels map[string]any) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}

// ports returns the numbers of the ports of a container or Service by their names.
func ports(list any, field string) map[string]float64 {
	all := map[string]float64{}
	for _, p := range list.([]any) {
		p := p.(map[string]any)
		all[fmt.Sprint(p["name"])], _ = p[field].(float64)
	}
	return all
}

// environment returns the variables of a container that have a literal value.
func environment(container map[string]any) map[string]string {
	all := map[string]string{}
	list, _ := container["env"].([]any)
	for _, v := range list {
		v := v.(map[string]any)
		if text, ok := v["value"].(string); ok {
			all[v["name"].(string)] = text
		}
	}
	return all
}

// Kubernetes accepts a Service that selects nothing, or a route to a Service that does not exist.
func TestObjects_NameWhatExists(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets {
		all := render(t, set)
		labels, _, container := replicas(t, all)
		open := ports(container["ports"], "containerPort")
		services := map[string]object{}
		for _, o := range all {
			if o.kind() == "Service" {
				services[o.name()] = o
			}
		}
		// backend checks a reference of a route.
		backend := func(o object, name, port any) {
			s, ok := services[fmt.Sprint(name)]
			if !ok {
				t.Errorf("%s: the %s names the Service %v", set, o.kind(), name)
				return
			}
			offered := ports(get[[]any](s, "spec", "ports"), "port")
			if _, named := offered[fmt.Sprint(port)]; !named && !slices.Contains(slices.Collect(maps.Values(offered)), port.(float64)) {
				t.Errorf("%s: the %s names the port %v of %v", set, o.kind(), port, name)
			}
		}
		for _, o := range all {
			switch o.kind() {
			case "Service":
				if !selects(get[map[string]any](o, "spec", "selector"), labels) {
					t.Errorf("%s: the Service %s selects no replica", set, o.name())
				}
				for _, p := range get[[]any](o, "spec", "ports") {
					if target := fmt.Sprint(p.(map[string]any)["targetPort"]); open[target] == 0 {
						t.Errorf("%s: the Service %s leads to the port %s", set, o.name(), target)
					}
				}
			case "Deployment", "PodDisruptionBudget":
				if !selects(get[map[string]any](o, "spec", "selector", "matchLabels"), labels) {
					t.Errorf("%s: the %s selects no replica", set, o.kind())
				}
			case "HorizontalPodAutoscaler":
				if name := get[string](o, "spec", "scaleTargetRef", "name"); name != find(t, all, "Deployment").name() {
					t.Errorf("%s: the autoscaler scales %s", set, name)
				}
			case "ServiceMonitor":
				matches := 0
				for _, s := range services {
					if selects(get[map[string]any](o, "spec", "selector", "matchLabels"), get[map[string]any](s, "metadata", "labels")) {
						matches++
					}
				}
				if matches != 1 {
					t.Errorf("%s: the ServiceMonitor selects %d Services", set, matches)
				}
			case "NetworkPolicy":
				var allowed []float64
				for _, rule := range get[[]any](o, "spec", "ingress") {
					for _, p := range rule.(map[string]any)["ports"].([]any) {
						allowed = append(allowed, p.(map[string]any)["port"].(float64))
					}
				}
				want := slices.Sorted(maps.Values(open))
				if set != "production" { // the others admit nobody to the port for operators
					want = slices.DeleteFunc(want, func(p float64) bool { return p == open["admin"] })
				}
				if slices.Sort(allowed); !slices.Equal(allowed, want) {
					t.Errorf("%s: the NetworkPolicy admits to %v, want %v", set, allowed, want)
				}
			case "HTTPRoute", "GRPCRoute":
				for _, rule := range get[[]any](o, "spec", "rules") {
					for _, ref := range rule.(map[string]any)["backendRefs"].([]any) {
						backend(o, ref.(map[string]any)["name"], ref.(map[string]any)["port"])
					}
				}
			case "Ingress":
				for _, rule := range get[[]any](o, "spec", "rules") {
					for _, p := range get[[]any](rule.(map[string]any), "http", "paths") {
						s := get[map[string]any](p.(map[string]any), "backend", "service")
						backend(o, s["name"], get[string](s, "port", "name"))
					}
				}
			case "RoleBinding":
				if role := get[string](o, "roleRef", "name"); role != find(t, all, "Role").name() {
					t.Errorf("%s: the RoleBinding names the Role %s", set, role)
				}
			}
		}
	}
}

// A container would wait for ever for an entry that the Secret's volume does not show, and sessiond would end.
func TestContainers_MountEveryFileThatTheySet(t *testing.T) {
	t.Parallel()
	files := 0
	for _, set := range valueSets {
		for _, o := range render(t, set) {
			for _, spec := range podSpecs(t, o) {
				container := spec["containers"].([]any)[0].(map[string]any)
				mounted := map[string]bool{}
				mounts, _ := container["volumeMounts"].([]any)
				for _, m := range mounts {
					m := m.(map[string]any)
					for _, v := range spec["volumes"].([]any) {
						v := v.(map[string]any)
						items := get[[]any](v, "secret", "items")
						for _, item := range items {
							if v["name"] == m["name"] {
								mounted[path.Join(m["mountPath"].(string), item.(map[string]any)["path"].(string))] = true
							}
						}
					}
				}
				for name, value := range environment(container) {
					if strings.HasSuffix(name, "_FILE") && name != "SESSIOND_CLIENTS_FILE" { // that one is of the values
						files++
						if !mounted[value] {
							t.Errorf("%s: %s of the %s is %s, which is not mounted", set, name, o.kind(), value)
						}
						delete(mounted, value)
					}
				}
				for unused := range mounted {
					t.Errorf("%s: the %s mounts %s, which nothing reads", set, o.kind(), unused)
				}
			}
		}
	}
	if files < 30 {
		t.Errorf("found %d files", files)
	}
}

// Kubernetes kills a replica that drains for longer than its grace period.
func TestReplicas_DrainWithinGracePeriod(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]struct {
		grace float64
		delay string
	}{
		"minimal":    {10 + 15 + 5, "10s"},
		"production": {5 + 20 + 15 + 5, "20s"},
		"single":     {15 + 5, "0s"},
	} {
		_, spec, container := replicas(t, render(t, set))
		if got := spec["terminationGracePeriodSeconds"]; got != want.grace {
			t.Errorf("%s: the grace period is %v, want %v", set, got, want.grace)
		}
		if got := environment(container)["SESSIOND_SHUTDOWN_DELAY"]; got != want.delay {
			t.Errorf("%s: SHUTDOWN_DELAY is %s, want %s", set, got, want.delay)
		}
	}
	// The 15 s are a constant of the program.
	if service := string(readFile(t, "../../cmd/sessiond/app/service.go")); !strings.Contains(service, "shutdownTimeout = 15 * time.Second\n") {
		t.Error("the program may take another time than 15 s for running requests: change the template, too")
	}
}

func TestReplicas_GetSettingsAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	_, _, container := replicas(t, render(t, "production"))
	got := environment(container)
	for name, want := range map[string]string{
		"SESSIOND_MAX_SESSIONS":       "1000000", // and not 1e+06
		"SESSIOND_DATABASE_MAX_CONNS": "40",
		"SESSIOND_HIDE_ACCOUNTS":      "true",
		"SESSIOND_CLASSIC_ROUTES":     "off",
		"SESSIOND_MAIL_FROM":          "Sign-in <id@example.com>",
		"SESSIOND_ISSUER":             "https://issuer.example.com",
		"SESSIOND_METRICS_ADDR":       ":9090",
		"SESSIOND_EXT_AUTHZ_ADDR":     ":8082",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	_, _, container = replicas(t, render(t, "minimal"))
	if got := environment(container)["SESSIOND_ISSUER"]; got != "https://id.example.com" {
		t.Errorf("without ISSUER it is %q, want PUBLIC_URL", got)
	}
}
