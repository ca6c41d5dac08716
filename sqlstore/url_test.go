package sqlstore_test

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// TestHosts_ReturnsNoPartOfPassword checks the hosts of a Postgres URL, because other code prints
// them and looks them up in DNS. No part of the password may be among the hosts, even if the URL is
// mistyped.
func TestHosts_ReturnsNoPartOfPassword(t *testing.T) {
	for _, c := range []struct {
		url  string
		want string // the hosts, separated by commas, or "malformed" for an error
	}{
		{"postgres://u:s3cret@db:5432/x?sslmode=disable", "db"},
		{"postgresql://[::1]:5432/x", "::1"},
		{"postgres:///x", "localhost"},
		{"postgres:///x?host=/var/run/postgresql", ""},
		{"postgres://u:s3cret@a/x?host=b,c", "b,c"},
		{"postgres://u:s3cret@a/x?host=b&hostaddr=192.0.2.1", "b,192.0.2.1"},
		{"postgres:///x?host=a,b&hostaddr=192.0.2.1,", "a,192.0.2.1,b"},
		// If the URL has two hosts, lib/pq dials the host that sorts last.
		{"postgres://u@192.0.2.1/x?host=127.0.0.1", "192.0.2.1"},

		{"postgres://u:abc,s3cret/ghi@127.0.0.1/x", "malformed"},
		{"postgres://u:s3cret/ghi@127.0.0.1/x?sslmode=disable", "malformed"},
		{"postgres://u:123/ghi@127.0.0.1/x", "malformed"},
		{"postgres://u:1234567890", "malformed"}, // 1234567890 is a password, not a port
		{"postgres://u:s3cret?ghi@127.0.0.1/x", "malformed"},
		{"postgres://s3%63ret/x", "malformed"},
	} {
		hosts, _, err := sqlstore.Hosts(c.url)
		switch {
		case c.want == "malformed":
			if err == nil || hosts != nil || !strings.Contains(err.Error(), "percent-encoded") || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "123") {
				t.Errorf("%s: got %q, %v, want a malformed URL", c.url, hosts, err)
			}
		case err != nil || !slices.Equal(hosts, strings.FieldsFunc(c.want, func(r rune) bool { return r == ',' })):
			t.Errorf("%s: got %q, %v, want %s", c.url, hosts, err, c.want)
		}
	}
}

func TestHosts_RefusesURLThatIsNotForPostgres(t *testing.T) {
	for _, url := range []string{"", "sqlite:/tmp/x.db", "host=db sslmode=disable", "postgresx://db"} {
		if hosts, _, err := sqlstore.Hosts(url); err == nil {
			t.Errorf("%q: got %q, want an error", url, hosts)
		}
	}
}

// TestHosts_ReportsWhetherConnectionsAreEncrypted_ASVS_V12_3_1 checks every sslmode. The modes allow and prefer
// do not count as encrypted, because lib/pq then falls back to plain text.
func TestHosts_ReportsWhetherConnectionsAreEncrypted_ASVS_V12_3_1(t *testing.T) {
	for parameters, want := range map[string]bool{
		"":                    true, // without sslmode, Open uses verify-full
		"sslmode=":            true, // with an empty sslmode, lib/pq uses require
		"sslmode=require":     true,
		"sslmode=verify-ca":   true,
		"sslmode=verify-full": true,
		"sslmode=disable":     false,
		"sslmode=allow":       false,
		"sslmode=prefer":      false,
		// The first host is a Unix socket, so lib/pq does not encrypt its connections to either
		// host.
		"host=/var/run/postgresql,192.0.2.1":          false,
		"host=/var/run/postgresql&hostaddr=192.0.2.1": true,
	} {
		if hosts, encrypted, err := sqlstore.Hosts("postgres:///x?" + parameters); err != nil || encrypted != want {
			t.Errorf("%q: got %q, encrypted %v, %v, want %v", parameters, hosts, encrypted, err, want)
		}
	}
}

// TestHosts_ReadsEnvironmentVariables checks the environment variables with which lib/pq dials
// other hosts than those in the URL, or uses another sslmode.
func TestHosts_ReadsEnvironmentVariables(t *testing.T) {
	services := filepath.Join(t.TempDir(), "services")
	if err := os.WriteFile(services, []byte("[elsewhere]\nhost=192.0.2.1\nsslmode=disable\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, url string
		env       map[string]string
		want      []string
		encrypted bool
	}{
		{"PGHOST is the host if the URL has none", "postgres:///x?sslmode=disable", map[string]string{"PGHOST": "192.0.2.1"}, []string{"192.0.2.1"}, false},
		{"PGHOST adds hosts to those of the URL", "postgres://a/x?sslmode=disable", map[string]string{"PGHOST": "b,192.0.2.1"}, []string{"a", "192.0.2.1"}, false},
		{"PGHOSTADDR adds an address to the URL's host", "postgres://localhost/x?sslmode=disable", map[string]string{"PGHOSTADDR": "192.0.2.1"}, []string{"localhost", "192.0.2.1"}, false},
		{"PGSERVICE replaces the URL's host and sslmode", "postgres://localhost/x?sslmode=require", map[string]string{"PGSERVICE": "elsewhere", "PGSERVICEFILE": services}, []string{"192.0.2.1"}, false},
		{"PGSSLMODE is ignored if the URL has no sslmode", "postgres://a/x", map[string]string{"PGSSLMODE": "disable"}, []string{"a"}, true},
		{"PGSSLMODE is used if the URL has an empty sslmode", "postgres://a/x?sslmode=", map[string]string{"PGSSLMODE": "disable"}, []string{"a"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			hosts, encrypted, err := sqlstore.Hosts(c.url)
			if err != nil || !slices.Equal(hosts, c.want) || encrypted != c.encrypted {
				t.Errorf("got %q, encrypted %v, %v, want %q, %v", hosts, encrypted, err, c.want, c.encrypted)
			}
		})
	}
}

// TestOpen_AcceptsParametersOfProviders opens URLs with parameters that hosting providers put in them.
func TestOpen_AcceptsParametersOfProviders(t *testing.T) {
	t.Parallel()
	rawURL := sqlstoretest.PostgresURL(t)
	for _, c := range []struct {
		parameters string
		ignored    string // the names of the parameters that have no effect, separated by commas
		setting    string // a setting of the server
		want       string
	}{
		{"channel_binding=require", "channel_binding", "", ""},
		{"gssencmode=disable&gsslib=gssapi", "gssencmode,gsslib", "", ""},
		{"keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3", "keepalives,keepalives_count,keepalives_idle,keepalives_interval", "", ""},
		{"connection_limit=1&pool_timeout=10", "connection_limit,pool_timeout", "", ""},
		{"ssl=true&sslcompression=0", "ssl,sslcompression", "", ""},
		{"pgbouncer=false&statement_timeout=1500", "", "statement_timeout", "1500ms"},
		{"pgbouncer=true&application_name=app", "", "application_name", "app"},
		{"target_session_attrs=read-write", "", "", ""},
		{"target_session_attrs=any&connect_timeout=10", "", "", ""},
		{"options=-c%20work_mem%3D5MB", "", "work_mem", "5MB"},
		{"search_path=pg_catalog", "", "search_path", "pg_catalog"},
	} {
		parameterized := rawURL + "&" + c.parameters
		if got := strings.Join(sqlstore.IgnoredParameters(parameterized), ","); got != c.ignored {
			t.Errorf("%s: %q are ignored, want %q", c.parameters, got, c.ignored)
		}
		db, err := sqlstore.Open(t.Context(), parameterized, sqlstore.Options{})
		if err != nil {
			t.Errorf("%s: %v", c.parameters, err)
			continue
		}
		if c.setting != "" {
			if got, err := db.Show(t.Context(), c.setting); err != nil || got != c.want {
				t.Errorf("%s: %s is %q (%v), want %q", c.parameters, c.setting, got, err, c.want)
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpen_RefusesParameters(t *testing.T) {
	for parameters, want := range map[string]string{
		"sslcrl=revoked.pem":                  "sslcrl is not supported",
		"require_auth=scram-sha-256":          "require_auth is not supported",
		"target_session_attrs=standby":        "want primary or read-write",
		"target_session_attrs=prefer-standby": "want primary or read-write",
		"target_session_attrs=read-only":      "want primary or read-write",
		"pgbouncer=perhaps":                   "want true or false",
		"sslmode=no-verify":                   "sslmode",
	} {
		if _, err := sqlstore.Open(t.Context(), "postgres://127.0.0.1:1/x?"+parameters, sqlstore.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", parameters, err, want)
		}
	}
}

// TestMisconfigured_TellsErrorsThatRemain checks which errors of Open end the program, because nothing
// but another configuration helps.
func TestMisconfigured_TellsErrorsThatRemain(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(sqlstoretest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(u *url.URL)
		want   bool
	}{
		"a wrong password":             {func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "wrong") }, true},
		"an unknown user":              {func(u *url.URL) { u.User = url.UserPassword("nobody-of-this-name", "wrong") }, true},
		"an unknown database":          {func(u *url.URL) { u.Path = "/no_such_database" }, true},
		"an unknown setting":           {func(u *url.URL) { u.RawQuery += "&no_such_setting=1" }, true},
		"a setting that cannot be set": {func(u *url.URL) { u.RawQuery += "&max_connections=7" }, true},
		"a wrong value of a setting":   {func(u *url.URL) { u.RawQuery += "&work_mem=much" }, true},
		"a server without TLS":         {func(u *url.URL) { u.RawQuery = "sslmode=require" }, true},
		"a port where nobody listens":  {func(u *url.URL) { u.Host = "127.0.0.1:1" }, false},
	} {
		changed := *u
		c.change(&changed)
		_, err := sqlstore.Open(t.Context(), changed.String(), sqlstore.Options{})
		if got := sqlstore.Misconfigured(err); err == nil || got != c.want {
			t.Errorf("%s: Misconfigured(%v) = %t, want %t", name, err, got, c.want)
		}
	}
}
