package app

import "strings"

// environment returns an environment with these variables. A setting NAME=value sets SESSIOND_NAME.
func environment(settings ...string) lookupEnv {
	values := map[string]string{}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		values[envPrefix+name] = value
	}
	return func(name string) (string, bool) { value, ok := values[name]; return value, ok }
}
