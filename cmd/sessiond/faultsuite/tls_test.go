package faultsuite

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
)

// TestTLS_StoresAreUsedOnlyWithTrustedCertificate gives `sessiond doctor` and `sessiond serve` real servers
// that take TLS connections. Only the authority in the URL is trusted, and only for the server's own address.
// The errors name the setting and quote no password.
func TestTLS_StoresAreUsedOnlyWithTrustedCertificate_ASVS_V12_3_1_V12_3_2(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	right, other, elsewhere := redisstoretest.NewCertificate(t, "127.0.0.1"), redisstoretest.NewCertificate(t, "127.0.0.1"), redisstoretest.NewCertificate(t, "192.0.2.1")
	redisAt := func(c redisstoretest.Certificate) string {
		return redisstoretest.StartTLSServer(t, c, "--requirepass", "hunter2", "--maxmemory-policy", "noeviction")
	}
	redis, redisElsewhere := redisAt(right), redisAt(elsewhere)
	pg := startPostgres(t, dir)
	pg.exec("CREATE DATABASE sessiond")
	keys := filepath.Join(dir, "keys.json")
	output(t, nil, program(t), "keys", "new", "--out", keys)

	database := func(host, mode string, c redisstoretest.Certificate) string {
		url := strings.Replace(pg.url("sessiond", pg.port), "127.0.0.1", host, 1)
		return strings.Replace(url, "sslmode=disable", "sslmode="+mode+"&sslrootcert="+c.File, 1)
	}
	redisURL := func(addr string, c redisstoretest.Certificate) string {
		return "rediss://:hunter2@" + addr + "?ca_file=" + c.File
	}
	goodRedis, goodDatabase := redisURL(redis, right), database("127.0.0.1", "verify-full", right)
	for _, c := range []struct {
		name            string
		presents        redisstoretest.Certificate // the certificate of Postgres
		database, redis string
		setting, want   string // of the error; empty: both stores are used
	}{
		{"trusted certificates", right, goodDatabase, goodRedis, "", ""},
		{"Redis, another authority", right, goodDatabase, redisURL(redis, other), "SESSIOND_REDIS_URL", "certificate signed by unknown authority"},
		{"Redis, another name", right, goodDatabase, redisURL(redisElsewhere, elsewhere), "SESSIOND_REDIS_URL", "certificate is valid for 192.0.2.1, not 127.0.0.1"},
		{"Redis, no certificate in the file", right, goodDatabase, redisURL(redis, redisstoretest.Certificate{File: keys}), "SESSIOND_REDIS_URL", "has no PEM certificate"},
		{"Postgres, another authority", right, database("127.0.0.1", "verify-full", other), goodRedis, "SESSIOND_DATABASE_URL", "certificate signed by unknown authority"},
		{"Postgres, another name", right, database("localhost", "verify-full", right), goodRedis, "SESSIOND_DATABASE_URL", "wanted to match localhost"},
		{"Postgres, another address", elsewhere, database("127.0.0.1", "verify-full", elsewhere), goodRedis, "SESSIOND_DATABASE_URL", "certificate is valid for 192.0.2.1, not 127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pg.present(c.presents)
			env := settings(map[string]string{
				"DATABASE_URL": c.database, "REDIS_URL": c.redis, "SIGNING_KEYS_FILE": keys, "ISSUER": "https://id.example",
				"PUBLIC_URL": "https://id.example", "ADDR": local(freePort(t)), "METRICS_ADDR": "",
			})
			if c.setting == "" {
				output(t, env, program(t), "migrate")
			}
			var doctor bytes.Buffer
			cmd := exec.Command(program(t), "doctor")
			cmd.Env, cmd.Stdout, cmd.Stderr = env, &doctor, &doctor
			err := cmd.Run()
			wantTold(t, "doctor", doctor.String(), pg.password, c.setting, c.want)
			if (err == nil) != (c.setting == "") {
				t.Errorf("doctor ended with %v:\n%s", err, doctor.String())
			}

			serve := spawn(t, dir, "serve-"+newName(), false, env, program(t), "serve")
			waitFor := c.want
			if waitFor == "" {
				waitFor = `"msg":"serving"`
			}
			await(t, "serve says "+waitFor, func() bool { return serve.logged(waitFor) != "" || !serve.running() })
			text, err := os.ReadFile(serve.log)
			if err != nil {
				t.Fatal(err)
			}
			wantTold(t, "serve", string(text), pg.password, c.setting, c.want)
			if c.setting == "" && strings.Contains(string(text), "Redis does not answer") {
				t.Errorf("serve does not reach Redis:\n%s", text)
			}
		})
	}
}

// wantTold wants an error about a setting in what a verb printed, and no password.
func wantTold(t *testing.T, verb, text, password, setting, want string) {
	t.Helper()
	if !strings.Contains(text, setting) || !strings.Contains(text, want) {
		t.Errorf("%s does not say %q of %s:\n%.3000s", verb, want, setting, text)
	}
	if strings.Contains(text, "hunter2") || strings.Contains(text, password) {
		t.Errorf("%s prints a password:\n%.3000s", verb, text)
	}
}
