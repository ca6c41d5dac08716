package faultsuite

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// queriesBefore are the tests of the version before that run all of its queries. In the long form its other
// tests run, too, except those of migrations and of database roles, which have other results on newer tables.
const (
	queriesBefore = `^Test(Sessions_PassLedger|Users_PassStore)ContractTests$/^Postgres$`
	notBefore     = `^Test(Migrate|Grants|Partitions)_|MissingTables$`
)

// TestMigrations_VersionBeforeSurvives runs the queries of the version before on the tables of this version,
// because replicas of both run side by side during an upgrade.
func TestMigrations_VersionBeforeSurvives(t *testing.T) {
	t.Parallel()
	source, ok := sourceBefore(t)
	if !ok {
		t.Skipf("NOT TESTED with the version before, %s, because its source cannot be had: %v", versionBefore, before.err)
	}
	pg := startPostgres(t, tempDir(t))
	// The locale is that of sqlstoretest, which then copies this database for each test.
	pg.exec("CREATE DATABASE migrated TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
	migrated := settings(map[string]string{"DATABASE_URL": pg.url("migrated", pg.port)})
	t.Log(output(t, migrated, program(t), "migrate"))

	helper := filepath.Join(source, "sqlstore", "sqlstoretest", "sqlstoretest.go")
	text, err := os.ReadFile(helper)
	if err != nil {
		t.Fatal(err)
	}
	const template = "TEMPLATE template0"
	if strings.Count(string(text), template) != 1 {
		t.Fatalf("sqlstoretest of the version before does not create its databases with %q", template)
	}
	if err := os.WriteFile(helper, []byte(strings.Replace(string(text), template, "TEMPLATE migrated", 1)), 0o600); err != nil {
		t.Fatal(err)
	}

	choose := "-run=" + queriesBefore
	if isLong() {
		choose = "-skip=" + notBefore
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-C", source, "-count=1", "-v", choose, "./sqlstore")
	cmd.Env = append(os.Environ(), "SESSIOND_TEST_POSTGRES_URL="+pg.url("postgres", pg.port), "SESSIOND_TEST_REQUIRE_REAL=1")
	cmd.SysProcAttr = childAttributes()
	out, err := cmd.CombinedOutput()
	passed := strings.Count(string(out), "--- PASS: ")
	if err != nil || passed < 100 {
		t.Fatalf("%d tests of %s pass on the tables of this version: %v\n%s", passed, versionBefore, err, failures(string(out)))
	}
	t.Logf("%d tests of %s pass on the tables of this version", passed, versionBefore)
}

// failures returns the lines of a verbose test run that say what failed.
func failures(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if text := strings.TrimSpace(line); !strings.HasPrefix(text, "=== ") && !strings.HasPrefix(text, "--- PASS") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-60):], "")
}
