package main_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session/issuer"
)

// documents returns the texts of all Markdown files of the repository. The keys are their paths.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		if err != nil || filepath.Ext(name) != ".md" {
			return err
		}
		text, err := os.ReadFile(name)
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no documents found")
	}
	return files
}

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	code    = regexp.MustCompile("`([^`]+)`")
)

// anchors returns the URL fragments that GitHub gives to the headings of a document.
func anchors(text string) []string {
	var all []string
	for _, h := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
		all = append(all, strings.ReplaceAll(plain, " ", "-"))
	}
	return all
}

func TestDocuments_LinksLeadToExistingFilesAndHeadings(t *testing.T) {
	all := documents(t)
	for name, text := range all {
		for _, l := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			file, fragment, _ := strings.Cut(l[1], "#")
			if strings.Contains(file, ":") {
				continue // the link leads to another site, and is not checked
			}
			target := name
			if file != "" {
				target = filepath.Join(filepath.Dir(name), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads to no file", name, l[1])
			} else if fragment != "" && !slices.Contains(anchors(all[target]), fragment) {
				t.Errorf("%s: the link %s leads to no heading", name, l[1])
			}
		}
	}
}

// rows returns the cells of every row, including header rows, of the tables in a Markdown text.
func rows(text string) (all [][]string) {
	for line := range strings.Lines(text) {
		if cells := strings.Split(strings.TrimSpace(line), " | "); strings.HasPrefix(line, "| ") && len(cells) > 1 {
			cells[0] = strings.TrimPrefix(cells[0], "| ")
			all = append(all, cells)
		}
	}
	return all
}

func TestSettingsGuide_ListsEverySettingOfServe(t *testing.T) {
	var help bytes.Buffer
	environment := func(string) (string, bool) { return "", false }
	if err := app.Run(t.Context(), []string{"serve", "-h"}, environment, io.Discard, &help); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	var settings []string
	for _, f := range regexp.MustCompile(`(?m)^  -(\S+)`).FindAllStringSubmatch(help.String(), -1) {
		settings = append(settings, strings.ToUpper(strings.ReplaceAll(f[1], "-", "_")))
	}

	guide := documents(t)[filepath.Join(root, "deploy/docs/settings.md")]
	listed := make(map[string]bool)
	guide, _, _ = strings.Cut(guide, "\n## Commands")
	for _, cells := range rows(guide) {
		name := code.FindStringSubmatch(cells[0])
		if name == nil {
			continue // this row is the header of a table
		}
		if listed[name[1]] = true; !slices.Contains(settings, name[1]) {
			t.Errorf("settings.md lists %s, which serve does not take", name[1])
		}
		if file := strings.HasSuffix(cells[0], " *"); file != slices.Contains(settings, name[1]+"_FILE") {
			t.Errorf("settings.md: %s has a star: %t. A star means that serve takes %[1]s_FILE, too", name[1], file)
		}
	}
	for _, name := range settings {
		if !listed[name] && !listed[strings.TrimSuffix(name, "_FILE")] {
			t.Errorf("settings.md does not list %s", name)
		}
	}
}

// TestRunbook_HasLineForEachFault compares the runbook with the faults that the fault suite injects,
// and the changes that operations.md explains with those that a replica logs.
func TestRunbook_HasLineForEachFault(t *testing.T) {
	all := documents(t)
	section := func(name, title string) [][]string {
		_, text, _ := strings.Cut(all[filepath.Join(root, "deploy/docs", name)], "\n## "+title+"\n")
		text, _, _ = strings.Cut(text, "\n## ")
		return rows(text)
	}
	var explained []string
	for _, cells := range section("operations.md", "Runbook") {
		explained = append(explained, strings.Split(cells[0], ", ")...)
	}
	faults := section("revocation-proof.md", "Rows")
	if len(faults) < 2 {
		t.Fatal("revocation-proof.md has no faults")
	}
	for _, cells := range faults {
		if n := cells[0]; n != "row" && n != "---" && !slices.Contains(explained, n) {
			t.Errorf("the runbook has no line for fault %s, %s", n, cells[1])
		}
	}
	var changes []string
	for _, cells := range section("operations.md", "Health, logs and metrics") {
		for _, name := range code.FindAllStringSubmatch(cells[0], -1) {
			changes = append(changes, name[1])
		}
	}
	for _, change := range issuer.Changes {
		if !slices.Contains(changes, change) {
			t.Errorf("operations.md does not explain the change %s", change)
		}
	}
}

var update = flag.Bool("update", false, "write the generated tables instead of comparing them")

// limitsTable returns the rows of the table of rate limits in settings.md.
func limitsTable(t *testing.T) string {
	t.Helper()
	var table strings.Builder
	rules := limit.Defaults()
	for _, r := range rules.All() {
		numbers, err := r.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		backoff := ""
		if r.Backoff > 0 {
			backoff = "; *backoff*"
		}
		fmt.Fprintf(&table, "| `LIMIT_%s` | `%s` | %s%s |\n", strings.ToUpper(strings.ReplaceAll(r.Name, "-", "_")), numbers, r.Counts, backoff)
	}
	return table.String()
}

func TestSettingsGuide_LimitsTableHasEveryLimit_ASVS_V2_1_3_V6_1_1(t *testing.T) {
	name := filepath.Join(root, "deploy/docs/settings.md")
	guide := documents(t)[name]
	before, after, _ := strings.Cut(guide, "| setting | default | counts |\n| --- | --- | --- |\n")
	table, after, found := strings.Cut(after, "\n## ")
	if !found {
		t.Fatal("settings.md has no table of limits")
	}
	want := limitsTable(t)
	switch {
	case table == want:
	case *update:
		guide = before + "| setting | default | counts |\n| --- | --- | --- |\n" + want + "\n## " + after
		if err := os.WriteFile(name, []byte(guide), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the table of limits in settings.md is outdated; run this test with -update. Want:\n%s", want)
	}
}

func TestReadme_MapListsOnlyExistingPackagesAndFiles(t *testing.T) {
	_, section, _ := strings.Cut(documents(t)[filepath.Join(root, "README.md")], "\n## Map\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if len(rows(section)) < 2 {
		t.Fatal("README.md has no map")
	}
	for _, cells := range rows(section) {
		var packages []string
		for _, p := range code.FindAllStringSubmatch(cells[0], -1) {
			packages = append(packages, p[1])
			if info, err := os.Stat(filepath.Join(root, p[1])); err != nil || !info.IsDir() {
				t.Errorf("the map in README.md names a package %s, which does not exist", p[1])
			}
		}
		for _, f := range code.FindAllStringSubmatch(strings.Join(cells[1:], " "), -1) {
			named := func(dir string) bool {
				_, err := os.Stat(filepath.Join(root, dir, f[1]))
				return err == nil
			}
			if filepath.Ext(f[1]) != "" && !slices.ContainsFunc(packages, named) {
				t.Errorf("the map in README.md names a file %s of %s, which does not exist", f[1], strings.Join(packages, ", "))
			}
		}
	}
}
