package httpsuite

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// environ maps the names of environment variables to their values.
type environ map[string]string

// environment returns environment variables for settings such as LIMITS=off. It adds the prefix
// SESSIOND_ to their names.
func environment(settings []string) environ {
	e := environ{}
	e.set(settings)
	return e
}

func (e environ) set(settings []string) {
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		e["SESSIOND_"+name] = value
	}
}

func (e environ) lookup(name string) (string, bool) { v, ok := e[name]; return v, ok }

func (e environ) list() []string {
	list := []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range e {
		list = append(list, name+"="+value)
	}
	return list
}

// serveEnvironment returns all settings that 'sessiond serve' needs on real Postgres and Redis
// servers, except those for mail.
func serveEnvironment(t *testing.T) environ {
	t.Helper()
	env := environment([]string{
		"DATABASE_URL=" + sqlstoretest.PostgresURL(t), "REDIS_URL=" + redisstoretest.RealURL(t),
		"REDIS_PREFIX=" + "t" + issuer.NewID() + ":", "ISSUER=https://id.example", "PUBLIC_URL=https://id.example",
		"SIGNING_KEYS_FILE=" + filepath.Join(t.TempDir(), "keys.json"), "ADDR=127.0.0.1:0", "METRICS_ADDR=127.0.0.1:0",
		"LIMITS=off", // no rate limits, because most tests sign in many times from one address
	})
	newKeys(t, env["SESSIOND_SIGNING_KEYS_FILE"], session.AlgEdDSA)
	return env
}

// newKeys creates a key file with one signing key.
func newKeys(t *testing.T, path, alg string) {
	t.Helper()
	if err := app.Run(t.Context(), []string{"keys", "new", "--out", path, "--alg", alg}, environ{}.lookup, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
}
