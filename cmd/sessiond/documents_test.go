package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

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
