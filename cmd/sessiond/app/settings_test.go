package app

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestServe_RefusesMissingOrUnsafeSettings_ASVS_V1_2_2_V3_4_2_V6_2_1_V6_5_5_V11_4_2_V12_3_1_V13_2_3 checks that serve does not start with a setting that is
// missing, contradictory or unsafe. The error must name the setting and must not contain a secret.
func TestServe_RefusesMissingOrUnsafeSettings_ASVS_V1_2_2_V3_4_2_V6_2_1_V6_5_5_V11_4_2_V12_3_1_V13_2_3(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("redis://:s3cret@127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "keys.json")
	if err := writeKey(keys, "EdDSA"); err != nil {
		t.Fatal(err)
	}
	good := []string{
		"DATABASE_URL=postgres://u:s3cret@127.0.0.1:1/x?sslmode=disable", "REDIS_URL=redis://:s3cret@127.0.0.1:1",
		"SIGNING_KEYS_FILE=" + keys, "ISSUER=https://id.example", "PUBLIC_URL=https://id.example", "ADDR=127.0.0.1:0", "METRICS_ADDR=",
	}
	for _, c := range []struct {
		name     string
		settings string // NAME=value pairs, separated by spaces; an empty value unsets the setting
		want     string // text that the error must contain
	}{
		{"no database URL", "DATABASE_URL=", "SESSIOND_DATABASE_URL is required"},
		{"no Redis URL", "REDIS_URL=", "SESSIOND_REDIS_URL is required"},
		{"no signing keys", "SIGNING_KEYS_FILE=", "SESSIOND_SIGNING_KEYS_FILE is required"},
		{"no issuer", "ISSUER=", "SESSIOND_ISSUER is required"},
		{"no public URL", "PUBLIC_URL=", "SESSIOND_PUBLIC_URL is required"},
		{"a missing signing keys file", "SIGNING_KEYS_FILE=" + dir + "/none", "SESSIOND_SIGNING_KEYS_FILE"},
		{"a secret that is set directly and by a file", "REDIS_URL_FILE=" + secret, "SESSIOND_REDIS_URL and SESSIOND_REDIS_URL_FILE are both set"},
		{"a secret whose file is missing", "REDIS_URL= REDIS_URL_FILE=" + dir + "/none", "SESSIOND_REDIS_URL_FILE"},
		{"plaintext to a public database", "DATABASE_URL=postgres://u:s3cret@192.0.2.1/x?sslmode=disable", "SESSIOND_DATABASE_URL: the connection to 192.0.2.1"},
		{"an sslmode that falls back to plaintext", "DATABASE_URL=postgres://u:s3cret@192.0.2.1/x?sslmode=prefer", "SESSIOND_DATABASE_URL: the connection to 192.0.2.1"},
		{"plaintext to a public host in the URL's parameters", "DATABASE_URL=postgres://u:s3cret@127.0.0.1/x?sslmode=disable&host=192.0.2.1", "SESSIOND_DATABASE_URL: the connection to 192.0.2.1"},
		{"plaintext to a public Redis", "REDIS_URL=redis://:s3cret@192.0.2.1:6379", "SESSIOND_REDIS_URL: the connection to 192.0.2.1"},
		{"plaintext to one public node of a Cluster", "REDIS_URL=redis+cluster://:s3cret@127.0.0.1:1,192.0.2.1:2", "SESSIOND_REDIS_URL: the connection to 192.0.2.1"},
		{"an unescaped slash in a password", "REDIS_URL=redis://:abc,s3cret/ghi@127.0.0.1:6379/0", "SESSIOND_REDIS_URL: the URL is malformed"},
		{"an unescaped slash in a password over TLS", "REDIS_URL=rediss://:abc,s3cret/ghi@127.0.0.1:6379/0", "SESSIOND_REDIS_URL: the URL is malformed"},
		{"an unescaped slash in a password while plaintext is allowed", "DATABASE_URL=postgres://u:abc,s3cret/ghi@127.0.0.1/x ALLOW_PLAINTEXT=true", "SESSIOND_DATABASE_URL: the URL is malformed"},
		{"plaintext to a public hostaddr beside a private host", "DATABASE_URL=postgres://127.0.0.1/x?sslmode=disable&hostaddr=192.0.2.1", "SESSIOND_DATABASE_URL: the connection to 192.0.2.1"},
		{"a bcrypt cost below 10, which is unsafe", "BCRYPT_COST=9", "SESSIOND_BCRYPT_COST"},
		{"a bcrypt cost above 14, which is too slow", "BCRYPT_COST=15", "SESSIOND_BCRYPT_COST"},
		{"a bcrypt cost that is not a number", "BCRYPT_COST=s3cret", "SESSIOND_BCRYPT_COST: not a valid value"},
		{"profiles without the listener of the metrics", "PPROF=true", "SESSIOND_PPROF: want SESSIOND_METRICS_ADDR"},
		{"a minimum password length below 8", "PASSWORD_MIN_LENGTH=7", "SESSIOND_PASSWORD_MIN_LENGTH"},
		{"plaintext to a public breached-password service", "BREACHED_URL=http://192.0.2.1/range/", "SESSIOND_BREACHED_URL: the connection to 192.0.2.1"},
		{"a breached-password service with a query", "BREACHED_URL=http://192.0.2.1/?host=127.0.0.1", "SESSIOND_BREACHED_URL: want a URL without query"},
		{"a breached-password service without a scheme", "BREACHED_URL=pwnedpasswords", "SESSIOND_BREACHED_URL"},
		{"an unknown breached policy", "BREACHED_POLICY=hope", "SESSIOND_BREACHED_POLICY: want allow or refuse"},
		{"an unknown policy for the maximum of sessions", "MAX_SESSIONS_POLICY=hope", "SESSIOND_MAX_SESSIONS_POLICY: want end-oldest or refuse"},
		{"a negative maximum of sessions", "MAX_SESSIONS=-1", "SESSIOND_MAX_SESSIONS: want 0 or more"},
		{"access tokens that live longer than 24 hours", "ACCESS_TOKEN_TTL=25h", "SESSIOND_ACCESS_TOKEN_TTL: want at most 24h"},
		{"access tokens that expire at once", "ACCESS_TOKEN_TTL=0", "SESSIOND_ACCESS_TOKEN_TTL: want at least 1s"},
		{"a refresh grace longer than 5 minutes", "REFRESH_GRACE=6m", "SESSIOND_REFRESH_GRACE: want at most 5m"},
		{"a negative maximum age of a password check", "REAUTH_MAX_AGE=-1s", "SESSIOND_REAUTH_MAX_AGE: want at least 0s"},
		{"reset links that live longer than 10 minutes", "RESET_TTL=11m", "SESSIOND_RESET_TTL"},
		{"a session idle TTL above the maximum TTL", "SESSION_IDLE_TTL=3000h", "SESSIOND_SESSION_IDLE_TTL"},
		{"a history that ends at once", "HISTORY_RETENTION=0", "SESSIOND_HISTORY_RETENTION: want at least 1m0s"},
		{"addresses that are kept for seconds", "ADDRESS_RETENTION=59s", "SESSIOND_ADDRESS_RETENTION: want at least 1m0s"},
		{"an issuer with a query", "ISSUER=https://id.example?tenant=a", "SESSIOND_ISSUER: want a URL without query"},
		{"an issuer with a fragment", "ISSUER=https://id.example/#a", "SESSIOND_ISSUER: want a URL without query and fragment"},
		{"a public URL with a query", "PUBLIC_URL=https://id.example/?a", "SESSIOND_PUBLIC_URL: want a URL without query"},
		{"a public URL with a fragment", "PUBLIC_URL=https://id.example#", "SESSIOND_PUBLIC_URL: want a URL without query and fragment"},
		{"a CORS origin that allows all sites", "CORS_ORIGINS=*", "SESSIOND_CORS_ORIGINS"},
		{"a CORS origin that allows all subdomains", "CORS_ORIGINS=https://*.example.com", "SESSIOND_CORS_ORIGINS"},
		{"a CORS origin with a path", "CORS_ORIGINS=https://app.example.com/", "SESSIOND_CORS_ORIGINS"},
		{"a CORS origin with a query", "CORS_ORIGINS=https://app.example.com?a", "SESSIOND_CORS_ORIGINS"},
		{"a CORS origin with a user", "CORS_ORIGINS=https://u@app.example.com", "SESSIOND_CORS_ORIGINS"},
		{"a CORS origin that is not ASCII, as no browser sends it", "CORS_ORIGINS=https://bücher.example", "SESSIOND_CORS_ORIGINS"},
		{"all CORS headers", "CORS_HEADERS=*", "SESSIOND_CORS_HEADERS"},
		{"a CORS header with an invalid name", "CORS_HEADERS=a:b", "SESSIOND_CORS_HEADERS"},
		{"an unknown header of proxies", "FORWARDED=x-real-ip", "SESSIOND_FORWARDED: want x-forwarded-for or forwarded"},
		{"an unencrypted public URL", "PUBLIC_URL=http://id.example", "SESSIOND_PUBLIC_URL: want https://"},
		{"an unencrypted issuer", "ISSUER=http://id.example", "SESSIOND_ISSUER: want https://"},
		{"an unencrypted page for reset links", "RESET_URL=HTTP://id.example/reset", "SESSIOND_RESET_URL: want https://"},
		{"an unencrypted page for confirmation links", "VERIFY_URL=http://localhost.example/verify", "SESSIOND_VERIFY_URL: want https://"},
		{"all IPv6 addresses as trusted proxies", "TRUSTED_PROXIES=::/0", "SESSIOND_TRUSTED_PROXIES: ::/0"},
		{"reset links that lead nowhere", "CLASSIC_ROUTES=off SMTP_URL=smtps://u:s3cret@192.0.2.1 MAIL_FROM=id@example.com", "SESSIOND_RESET_URL: required with CLASSIC_ROUTES=off"},
		{"trusted proxies that are not a CIDR", "TRUSTED_PROXIES=everybody", "SESSIOND_TRUSTED_PROXIES"},
		{"a mail server without a sender address", "SMTP_URL=smtps://u:s3cret@192.0.2.1", "SESSIOND_MAIL_FROM is required"},
		{"classic routes that are none of the three", "CLASSIC_ROUTES=yes", "SESSIOND_CLASSIC_ROUTES: want strict, on or off"},
		{"limits that are neither on nor off", "LIMITS=half", "SESSIOND_LIMITS: want on or off"},
		{"a rate limit without a period", "LIMIT_LOGIN_ADDRESS=100", "SESSIOND_LIMIT_LOGIN_ADDRESS: not a valid value"},
		{"a rate limit that allows nothing", "LIMIT_RESET_EMAIL=0/1h", "SESSIOND_LIMIT_RESET_EMAIL: not a valid value"},
		{"a wait that is longer than its counter is kept", "LIMIT_LOGIN_ACCOUNT=10/24h", "SESSIOND_LIMIT_LOGIN_ACCOUNT: not a valid value"},
		{"an unknown log level", "LOG_LEVEL=loud", "SESSIOND_LOG_LEVEL"},
		{"a database URL that leads to a standby", "DATABASE_URL=postgres://u:s3cret@127.0.0.1:1/x?sslmode=disable&target_session_attrs=standby", "SESSIOND_DATABASE_URL: target_session_attrs=standby: want primary or read-write"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			env := environment(append(append([]string(nil), good...), strings.Fields(c.settings)...)...)
			err := Run(t.Context(), []string{"serve"}, env, &out, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want %q", err, c.want)
			}
			if strings.Contains(err.Error()+out.String(), "s3cret") {
				t.Errorf("the output contains the secret: %v", err)
			}
		})
	}
}

// Compose files and scripts may set variables to empty values. Only an empty METRICS_ADDR has a
// meaning: it switches /metrics off.
func TestFlags_EmptyVariableCountsAsUnset(t *testing.T) {
	parse := func(env lookupEnv) (s Settings) {
		t.Helper()
		c := &cobra.Command{Use: serveVerb}
		s.addFlags(c, env)
		if err := c.PreRunE(c, nil); err != nil {
			t.Fatal(err)
		}
		return s
	}
	defaults, s := parse(environment()), parse(func(string) (string, bool) { return "", true })
	if defaults.MetricsAddr != "127.0.0.1:9090" || s.MetricsAddr != "" {
		t.Errorf("METRICS_ADDR is %q by default and %q if empty, want 127.0.0.1:9090 and none", defaults.MetricsAddr, s.MetricsAddr)
	}
	s.MetricsAddr = defaults.MetricsAddr
	if !reflect.DeepEqual(s, defaults) {
		t.Errorf("with empty variables: got %+v, want the defaults %+v", s, defaults)
	}
}

func TestBrowserOrigin_IsWrittenAsBrowsersDo(t *testing.T) {
	for text, want := range map[string]string{
		"https://two.example.com:443": "https://two.example.com", "http://two.example.com:80": "http://two.example.com", "HTTPS://App.Example.com": "https://app.example.com",
		"https://a.example:": "https://a.example", "https://[2001:DB8::1]:443": "https://[2001:db8::1]", "https://a.example:8443": "https://a.example:8443", "http://a.example:443": "http://a.example:443",
		"https://:443": "", "https://a.example:x": "", "ftp://a.example": "", "a.example": "", "null": "",
	} {
		if got, ok := browserOrigin(text); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestDev_RefusesToListenOutsideLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:80"} {
		err := Run(t.Context(), []string{"dev", "--addr", addr, "--data", t.TempDir()}, environment(), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: got error %v, want one about loopback", addr, err)
		}
	}
}

func TestSettings_AllowPlaintextURLsOfThisMachineOrOnRequest(t *testing.T) {
	for host, ok := range map[string]bool{
		"localhost": true, "LOCALHOST:8080": true, "id.localhost": true, "127.0.0.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]": true,
		"id.example": false, "10.0.0.1": false, "localhost.example": false,
	} {
		s := Settings{PublicURL: "http://" + host}
		if err := s.checkWebURLs(); (err == nil) != ok {
			t.Errorf("%s: got %v", host, err)
		}
		s.AllowPlaintext = true
		if err := s.checkWebURLs(); err != nil {
			t.Errorf("%s with ALLOW_PLAINTEXT: %v", host, err)
		}
	}
}
