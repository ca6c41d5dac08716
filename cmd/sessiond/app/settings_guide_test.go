package app

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated tables of settings.md instead of comparing them")

var settingFlag = regexp.MustCompile("`--[a-z-]+")

// settingsTable returns the rows of a group of settings in Markdown.
func settingsTable(g group) string {
	var table strings.Builder
	table.WriteString("| setting | default | verbs | meaning |\n| --- | --- | --- | --- |\n")
	for _, st := range g.settings {
		name := "`" + strings.TrimPrefix(envName(st.name), envPrefix) + "`"
		if st.secret {
			name += " *"
		}
		def := cmp.Or(st.shown, "none")
		switch {
		case st.required:
			def = "required"
		case st.shown == "" && st.def != "":
			def = "`" + st.def + "`"
		}
		if st.devDef != "" {
			def += ", in dev `" + st.devDef + "`"
		}
		meaning := settingFlag.ReplaceAllStringFunc(st.meaning, func(text string) string {
			return "`" + strings.TrimPrefix(envName(strings.TrimPrefix(text, "`--")), envPrefix)
		})
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", name, def, strings.Join(st.verbs, ", "), meaning)
	}
	return table.String()
}

// verbsTable returns the rows of all verbs in Markdown.
func verbsTable() string {
	var table strings.Builder
	table.WriteString("| command | does |\n| --- | --- |\n")
	for _, c := range newProgram(environment()).Commands() {
		fmt.Fprintf(&table, "| `%s` | %s |\n", c.CommandPath(), c.Short)
	}
	return table.String()
}

// TestSettingsGuide_TablesAreThoseOfTheProgram compares the tables between the markers of settings.md with
// the declarations in settings.go.
func TestSettingsGuide_TablesAreThoseOfTheProgram_ASVS_V2_1_3_V6_1_1(t *testing.T) {
	const name = "../../../deploy/docs/settings.md"
	guide, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]string{"Commands": verbsTable()}
	for _, g := range new(Settings).groups() {
		tables[g.title] = settingsTable(g)
	}
	written := regexp.MustCompile(`(?s)<!-- table: [^>]+ -->\n\n.*?<!-- end -->`).ReplaceAllFunc(guide, func(section []byte) []byte {
		before, _, _ := bytes.Cut(section, []byte(" -->\n"))
		title := strings.TrimPrefix(string(before), "<!-- table: ")
		table, known := tables[title]
		if !known {
			t.Errorf("settings.md has a table %q, which the program lacks", title)
			return section
		}
		delete(tables, title)
		return fmt.Appendf(nil, "%s -->\n\n%s\n<!-- end -->", before, table)
	})
	for title := range tables {
		t.Errorf("settings.md lacks the table %q, or has it twice", title)
	}
	switch {
	case bytes.Equal(written, guide):
	case *update:
		if err := os.WriteFile(name, written, 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("the tables in settings.md are outdated; run this test with -update")
	}
}
