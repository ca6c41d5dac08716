package app

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Every setting that is missing, contradictory or unsafe is refused at start by
// a line that names it and holds no secret.
func TestServeRefusesToStart(t *testing.T) {
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
		name    string
		setting []string // NAME=value; an empty value takes it away
		want    string   // in the error
	}{
		{"no database", []string{"DATABASE_URL="}, "SESSIOND_DATABASE_URL is required"},
		{"no Redis", []string{"REDIS_URL="}, "SESSIOND_REDIS_URL is required"},
		{"no keys", []string{"SIGNING_KEYS_FILE="}, "SESSIOND_SIGNING_KEYS_FILE is required"},
		{"no issuer", []string{"ISSUER="}, "SESSIOND_ISSUER is required"},
		{"no public URL", []string{"PUBLIC_URL="}, "SESSIOND_PUBLIC_URL is required"},
		{"keys that are not there", []string{"SIGNING_KEYS_FILE=" + dir + "/none"}, "SESSIOND_SIGNING_KEYS_FILE"},
		{"a secret and its file", []string{"REDIS_URL_FILE=" + secret}, "SESSIOND_REDIS_URL and SESSIOND_REDIS_URL_FILE are both set"},
		{"a file that is not there", []string{"REDIS_URL=", "REDIS_URL_FILE=" + dir + "/none"}, "SESSIOND_REDIS_URL_FILE"},
		{"plain text to a public database", []string{"DATABASE_URL=postgres://u:s3cret@192.0.2.1/x?sslmode=disable"}, "SESSIOND_DATABASE_URL: the connection to 192.0.2.1"},
		{"plain text if the server wants", []string{"DATABASE_URL=postgres://u:s3cret@192.0.2.1/x?sslmode=prefer"}, "SESSIOND_DATABASE_URL: the connection to 192.0.2.1"},
		{"a host that hides in the parameters", []string{"DATABASE_URL=postgres://u:s3cret@127.0.0.1/x?sslmode=disable&host=192.0.2.1"}, "SESSIOND_DATABASE_URL: the connection to 192.0.2.1"},
		{"plain text to a public Redis", []string{"REDIS_URL=redis://:s3cret@192.0.2.1:6379"}, "SESSIOND_REDIS_URL: the connection to 192.0.2.1"},
		{"one public node of a Cluster", []string{"REDIS_URL=redis+cluster://:s3cret@127.0.0.1:1,192.0.2.1:2"}, "SESSIOND_REDIS_URL: the connection to 192.0.2.1"},
		{"a bare slash in a password", []string{"REDIS_URL=redis://:abc,s3cret/ghi@127.0.0.1:6379/0"}, "SESSIOND_REDIS_URL: the URL is malformed"},
		{"a bare slash, encrypted", []string{"REDIS_URL=rediss://:abc,s3cret/ghi@127.0.0.1:6379/0"}, "SESSIOND_REDIS_URL: the URL is malformed"},
		{"a bare slash, allowed not to be", []string{"DATABASE_URL=postgres://u:abc,s3cret/ghi@127.0.0.1/x", "ALLOW_PLAINTEXT=true"}, "SESSIOND_DATABASE_URL: the URL is malformed"},
		{"an address beside a private host", []string{"DATABASE_URL=postgres://127.0.0.1/x?sslmode=disable&hostaddr=192.0.2.1"}, "SESSIOND_DATABASE_URL: the connection to 192.0.2.1"},
		{"a cheap hash", []string{"BCRYPT_COST=9"}, "SESSIOND_BCRYPT_COST"},
		{"a hash that is a denial of service", []string{"BCRYPT_COST=15"}, "SESSIOND_BCRYPT_COST"},
		{"no number", []string{"BCRYPT_COST=s3cret"}, "SESSIOND_BCRYPT_COST: not a valid value"},
		{"short passwords", []string{"PASSWORD_MIN_LENGTH=7"}, "SESSIOND_PASSWORD_MIN_LENGTH"},
		{"plain text to a public breach service", []string{"BREACHED_URL=http://192.0.2.1/range/"}, "SESSIOND_BREACHED_URL: the connection to 192.0.2.1"},
		{"a breach service behind parameters", []string{"BREACHED_URL=http://192.0.2.1/?host=127.0.0.1"}, "SESSIOND_BREACHED_URL: has more than a path"},
		{"a breach service that is no URL", []string{"BREACHED_URL=pwnedpasswords"}, "SESSIOND_BREACHED_URL"},
		{"a breach policy of one's own", []string{"BREACHED_POLICY=hope"}, "SESSIOND_BREACHED_POLICY"},
		{"long reset links", []string{"RESET_TTL=11m"}, "SESSIOND_RESET_TTL"},
		{"idle longer than absolute", []string{"SESSION_IDLE_TTL=3000h"}, "SESSIOND_SESSION_IDLE_TTL"},
		{"an issuer with a query", []string{"ISSUER=https://id.example?tenant=a"}, "SESSIOND_ISSUER: has a query or a fragment"},
		{"an issuer with a fragment", []string{"ISSUER=https://id.example/#a"}, "SESSIOND_ISSUER: has a query or a fragment"},
		{"a public URL with a query", []string{"PUBLIC_URL=https://id.example/?a"}, "SESSIOND_PUBLIC_URL: has a query or a fragment"},
		{"a public URL with a fragment", []string{"PUBLIC_URL=https://id.example#"}, "SESSIOND_PUBLIC_URL: has a query or a fragment"},
		{"any origin", []string{"CORS_ORIGINS=*"}, "SESSIOND_CORS_ORIGINS"},
		{"any sub-domain", []string{"CORS_ORIGINS=https://*.example.com"}, "SESSIOND_CORS_ORIGINS"},
		{"no CIDR", []string{"TRUSTED_PROXIES=everybody"}, "SESSIOND_TRUSTED_PROXIES"},
		{"mail from nobody", []string{"SMTP_URL=smtps://u:s3cret@192.0.2.1"}, "SESSIOND_MAIL_FROM is required"},
		{"half of the limits", []string{"LIMITS=half"}, "SESSIOND_LIMITS: is neither on nor off"},
		{"a log level of one's own", []string{"LOG_LEVEL=loud"}, "SESSIOND_LOG_LEVEL"},
		{"a database that does not answer", nil, "SESSIOND_DATABASE_URL"},
	} {
		env := environment(append(append([]string(nil), good...), c.setting...)...)
		var out strings.Builder
		err := Run(t.Context(), []string{"serve"}, env, &out, io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
			continue
		}
		if strings.Contains(err.Error()+out.String(), "s3cret") {
			t.Errorf("%s: the secret is in the output: %v", c.name, err)
		}
	}
}

// An empty variable is as good as none, as compose files and scripts make them,
// but for the one setting that can be nothing.
func TestEmptyVariables(t *testing.T) {
	var defaults, s Settings
	for _, c := range []struct {
		into *Settings
		env  lookupEnv
	}{
		{&defaults, environment()},
		{&s, func(string) (string, bool) { return "", true }},
	} {
		f := newFlags("serve", io.Discard)
		c.into.common(f)
		c.into.production(f)
		if err := f.parse(nil, c.env); err != nil {
			t.Fatal(err)
		}
	}
	if defaults.MetricsAddr != ":9090" || s.MetricsAddr != "" {
		t.Errorf("metrics at %q, and at %q when set to nothing", defaults.MetricsAddr, s.MetricsAddr)
	}
	s.MetricsAddr = defaults.MetricsAddr
	if !reflect.DeepEqual(s, defaults) {
		t.Errorf("got %+v, want %+v", s, defaults)
	}
}

func TestDevListensOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:80"} {
		err := Run(t.Context(), []string{"dev", "--addr", addr, "--data", t.TempDir()}, environment(), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: got %v", addr, err)
		}
	}
}

func TestKeysNewNeverOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	keysNew := func() error {
		return Run(t.Context(), []string{"keys", "new", "--out", path}, environment(), io.Discard, io.Discard)
	}
	if err := keysNew(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file can be read by others: %v %v", info.Mode(), err)
	}
	if err := keysNew(); err == nil {
		t.Error("made a second key over the first")
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the first key is gone: %v", err)
	}
}
