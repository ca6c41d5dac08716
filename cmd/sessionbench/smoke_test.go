package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
)

// realServers names a PostgreSQL and a Redis, or skips, loudly.
func realServers(t *testing.T) (databaseURL, redisURL string) {
	t.Helper()
	redisURL = redisstoretest.RealURL(t)
	databaseURL = os.Getenv("SESSIOND_TEST_POSTGRES_URL")
	if databaseURL == "" {
		const message = "NOT TESTED on real Postgres: SESSIOND_TEST_POSTGRES_URL is not set"
		if os.Getenv("SESSIOND_TEST_REQUIRE_REAL") == "1" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	if _, err := machineCPU(); err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	return databaseURL, redisURL
}

// TestSmoke runs all parts but storm once, small, on real servers: every answer must be
// right, every figure there, and nothing left behind in Redis.
func TestSmoke(t *testing.T) {
	databaseURL, redisURL := realServers(t)
	jsonFile := filepath.Join(t.TempDir(), "bench.json")
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{
		"all", "--database-url", databaseURL, "--redis-url", redisURL, "--rounds", "1", "--round", "50ms",
		"--connections", "2", "--algorithms", "EdDSA,ES256", "--sessions", "40", "--memory-sessions", "300",
		"--growth-sessions", "50,100", "--growth-user", "60", "--duration", "200ms", "--json", jsonFile,
	}, func(string) (string, bool) { return "", false }, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, progress.String(), out.String())
	}
	t.Log(progress.String())
	if !strings.Contains(out.String(), "Every answer was checked, and right.") {
		t.Errorf("the report does not say so:\n%s", out.String())
	}

	data, err := os.ReadFile(jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	settings := append(append(r.Comparison.Settings, r.Comparison.InProcess...), r.Growth.Setting)
	if len(settings) != 4+len(directCallers)+1 {
		t.Errorf("%d settings", len(settings))
	}
	for _, s := range settings {
		rounds := 1
		if strings.HasSuffix(s.Name, " 1 goroutine") || strings.HasSuffix(s.Name, " 2 goroutines") {
			rounds = fineRounds
		}
		for _, row := range s.Rows {
			if len(row.Rounds) != rounds || row.Rounds[0].Checks == 0 || row.Median.P50 <= 0 {
				t.Errorf("%s, %s: %+v", s.Name, row.Name, row)
			}
		}
	}
	for _, v := range r.Vanishing {
		if v.Checks == 0 || v.Vanished == 0 {
			t.Errorf("%+v", v)
		}
	}
	if r.Memory.Resident == 0 || r.Memory.PerSession < 100 {
		t.Errorf("%+v", r.Memory)
	}
	if keys := redisstoretest.Keys(t.Context(), t, redisstoretest.Client(t, redisURL), "sessionbench"); len(keys) > 0 {
		t.Errorf("left behind: %v", keys)
	}
}

// TestSmokeOfStorm runs a small storm on real servers.
func TestSmokeOfStorm(t *testing.T) {
	databaseURL, redisURL := realServers(t)
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{
		"storm", "--database-url", databaseURL, "--redis-url", redisURL, "--rounds", "1", "--round", "200ms",
		"--sessions", "40", "--crowd", "20", "--stampede", "50",
	}, func(string) (string, bool) { return "", false }, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, progress.String(), out.String())
	}
	t.Log(progress.String())
	for _, want := range []string{"three replicas, unanswered of 10,000 at once: 0", "Every answer was checked, and right."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, out.String())
		}
	}
}

func TestFlagsThatAreRefused(t *testing.T) {
	for args, why := range map[string]string{
		"compare":                     "--database-url",
		"nothing":                     "unknown verb",
		"compare --rounds 0":          "--rounds",
		"compare --round 0s":          "--round",
		"compare --round 1m":          "--round",
		"compare --connections 1,x":   "connections",
		"compare --connections 0":     "connections",
		"compare --tokens cold":       "--tokens",
		"compare --algorithms RS256":  "--algorithms",
		"compare extra":               "extra",
		"memory --memory-sessions 0":  "--memory-sessions",
		"memory --rounds 1":           "rounds",
		"vanish --duration -1s":       "--duration",
		"growth --growth-sessions ''": "growth-sessions",
		"growth --growth-user 0":      "--growth-user",
	} {
		var out, progress bytes.Buffer
		urls := []string{"--database-url", "postgres://127.0.0.1:1/x", "--redis-url", "redis://127.0.0.1:1"}
		words := strings.Fields(args)
		if len(words) > 1 {
			words = append(append(words[:1:1], urls...), words[1:]...)
		}
		err := run(t.Context(), words, func(string) (string, bool) { return "", false }, &out, &progress)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
