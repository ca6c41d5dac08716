package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// securitySection returns a section of security.md, without its heading.
func securitySection(t *testing.T, heading string) string {
	t.Helper()
	_, section, found := strings.Cut(documents(t)[filepath.Join(root, "deploy/docs/security.md")], "\n## "+heading+"\n")
	if !found {
		t.Fatalf("security.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// bodyRows returns the rows of a section's tables that have a text in backticks in the given column.
func bodyRows(t *testing.T, heading string, column int) (all [][]string) {
	t.Helper()
	for _, cells := range rows(securitySection(t, heading)) {
		cells[len(cells)-1] = strings.TrimSuffix(cells[len(cells)-1], " |")
		if len(cells) > column && code.MatchString(cells[column]) {
			all = append(all, cells)
		}
	}
	if len(all) == 0 {
		t.Fatalf("the section %q of security.md has no table", heading)
	}
	return all
}

// codes returns the texts in backticks.
func codes(cell string) (all []string) {
	for _, c := range code.FindAllStringSubmatch(cell, -1) {
		all = append(all, c[1])
	}
	return all
}

// goFiles returns the syntax trees of the Go files that belong to the service, by directory. Tests, test
// helpers, examples, the benchmark and the servers of Kubernetes do not belong to it.
func goFiles(t *testing.T) map[string][]*ast.File {
	t.Helper()
	files, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var parsed = sync.OnceValues(func() (map[string][]*ast.File, error) {
	files := make(map[string][]*ast.File)
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, name)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (isTestHelper(filepath.ToSlash(dir)) || slices.Contains([]string{".git", "cmd/sessionbench", "session/example", "api/docgen", "deploy/asvs", "deploy/cluster"}, filepath.ToSlash(dir))):
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		dir = filepath.ToSlash(filepath.Dir(dir))
		files[dir] = append(files[dir], file)
		return err
	})
	return files, err
})

// constants are the constants of one package, by name.
type constants map[string]ast.Expr

func constantsOf(files []*ast.File) constants {
	all := make(constants)
	for _, file := range files {
		for _, decl := range file.Decls {
			if decl, ok := decl.(*ast.GenDecl); ok && decl.Tok == token.CONST {
				for _, spec := range decl.Specs {
					spec := spec.(*ast.ValueSpec)
					for i, name := range spec.Names {
						if i < len(spec.Values) {
							all[name.Name] = spec.Values[i]
						}
					}
				}
			}
		}
	}
	return all
}

var units = map[string]int64{
	"Millisecond": int64(time.Millisecond), "Second": int64(time.Second), "Minute": int64(time.Minute), "Hour": int64(time.Hour),
}

// value returns the value of a constant expression: a number, or nanoseconds.
func (c constants) value(e ast.Expr) (int64, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.ParseInt(e.Value, 0, 64)
	case *ast.ParenExpr:
		return c.value(e.X)
	case *ast.Ident:
		return c.value(c[e.Name])
	case *ast.SelectorExpr:
		if unit, ok := units[e.Sel.Name]; ok {
			return unit, nil
		}
	case *ast.BinaryExpr:
		x, errX := c.value(e.X)
		y, errY := c.value(e.Y)
		switch e.Op {
		case token.MUL:
			return x * y, errors.Join(errX, errY)
		case token.ADD:
			return x + y, errors.Join(errX, errY)
		case token.SHL:
			return x << y, errors.Join(errX, errY)
		}
	}
	return 0, fmt.Errorf("cannot compute %T", e)
}

var (
	quantity = regexp.MustCompile(`(\d+) ?(ms|s|min|h|days)?\b`)
	aside    = regexp.MustCompile(`\([^)]*\)`)
)

// quantities returns the numbers of a text, outside of parentheses. Durations are in nanoseconds.
func quantities(text string) (all []int64) {
	unit := map[string]time.Duration{"": 1, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour, "days": 24 * time.Hour}
	for _, q := range quantity.FindAllStringSubmatch(aside.ReplaceAllString(text, ""), -1) {
		n, _ := strconv.ParseInt(q[1], 10, 64)
		all = append(all, n*int64(unit[q[2]]))
	}
	return all
}

// defaultOf returns the default of a setting of serve.
func defaultOf(t *testing.T, setting string) (int64, error) {
	t.Helper()
	var help strings.Builder
	environment := func(string) (string, bool) { return "", false }
	if err := app.Run(t.Context(), []string{"serve", "-h"}, environment, &help, io.Discard); err != nil {
		return 0, err
	}
	name := strings.ToLower(strings.ReplaceAll(setting, "_", "-"))
	found := regexp.MustCompile(`(?ms)^ +--` + name + ` .*?\(default\s+([^)]+)\)`).FindStringSubmatch(help.String())
	if found == nil {
		return 0, errors.New("serve does not say its default")
	}
	if d, err := time.ParseDuration(found[1]); err == nil {
		return int64(d), nil
	}
	return strconv.ParseInt(found[1], 10, 64)
}

func TestSecurityDocument_NumbersAreThoseOfTheCode_ASVS_V2_1_1_V2_1_3_V6_5_5_V7_1_1_V7_1_2_V15_1_3(t *testing.T) {
	files := goFiles(t)
	for _, heading := range []string{"Limits", "Expensive functions", "Lifetimes"} {
		for _, cells := range bodyRows(t, heading, 2) {
			var want []int64
			for _, name := range codes(cells[2]) {
				dot := strings.LastIndexByte(name, '.')
				value, err := int64(0), error(nil)
				if dot < 0 {
					value, err = defaultOf(t, name)
				} else {
					c := constantsOf(files[name[:dot]])
					value, err = c.value(c[name[dot+1:]])
				}
				if err != nil {
					t.Errorf("%s: %s: %v", cells[0], name, err)
				}
				want = append(want, value)
			}
			if got := quantities(cells[1]); !slices.Equal(got, want) {
				t.Errorf("security.md says of %s: %s, but %s is %v", cells[0], cells[1], cells[2], want)
			}
		}
	}
}

func TestSecurityDocument_ListsContextWords_ASVS_V6_1_2(t *testing.T) {
	var words []string
	policy := goFiles(t)["identity"]
	for _, file := range policy {
		ast.Inspect(file, func(n ast.Node) bool {
			f, ok := n.(*ast.FuncDecl)
			if !ok {
				return true
			}
			if f.Name.Name == "contextWords" {
				ast.Inspect(f, func(n ast.Node) bool {
					if list, ok := n.(*ast.CompositeLit); ok {
						for _, word := range list.Elts {
							words = append(words, word.(*ast.Ident).Name)
						}
					}
					return true
				})
			}
			return false
		})
	}
	words = append(words, "serviceName")
	var listed []string
	for _, cells := range bodyRows(t, "Context words", 1) {
		listed = append(listed, codes(cells[1])...)
	}
	if !slices.Equal(listed, words) {
		t.Errorf("security.md lists the words %v, and the code has %v", listed, words)
	}
	section := securitySection(t, "Context words")
	least, err := constantsOf(policy).value(constantsOf(policy)["minContextWord"])
	if want := fmt.Sprintf("less than %d characters", least); err != nil || !strings.Contains(section, want) {
		t.Errorf("security.md does not say %q, %v", want, err)
	}
	common, err := os.ReadFile(filepath.Join(root, "identity/common_passwords.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(common), "\n"); !strings.Contains(strings.ReplaceAll(section, ",", ""), fmt.Sprint(n, " common")) {
		t.Errorf("security.md does not say that there are %d common passwords", n)
	}
}

// A pathway is a route that takes a secret.
func TestSecurityDocument_ListsEveryAuthenticationPathway_ASVS_V6_1_3_V6_3_4(t *testing.T) {
	type schema struct{ Properties map[string]any }
	var api struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Schemas map[string]schema }
	}
	text, err := os.ReadFile(filepath.Join(root, "api/openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &api); err != nil {
		t.Fatal(err)
	}
	pathways := codes(securitySection(t, "Authentication pathways"))
	secret := regexp.MustCompile(`(?i)^(?:.*password|.*token|login)$`)
	n := 0
	for path, methods := range api.Paths {
		for method, raw := range methods {
			fields := regexp.MustCompile(`"name": *"(\w+)", *"in": *"query"`).FindAllStringSubmatch(string(raw), -1)
			var names []string
			for _, f := range fields {
				names = append(names, f[1])
			}
			if method != "servers" && method != "parameters" {
				var op struct {
					RequestBody struct {
						Content map[string]struct {
							Schema struct {
								Ref string `json:"$ref"`
							}
						}
					}
				}
				if err := json.Unmarshal(raw, &op); err != nil {
					t.Fatal(err)
				}
				for _, c := range op.RequestBody.Content {
					names = slices.AppendSeq(names, maps.Keys(api.Components.Schemas[c.Schema.Ref[strings.LastIndexByte(c.Schema.Ref, '/')+1:]].Properties))
				}
			}
			if route := strings.ToUpper(method) + " " + path; slices.ContainsFunc(names, secret.MatchString) {
				if n++; !slices.Contains(pathways, route) {
					t.Errorf("%s takes a secret, but is not among the authentication pathways in security.md", route)
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("found %d pathways in openapi.json, want at least 10", n)
	}
}

// openAPI is a part of the OpenAPI document.
type openAPI struct {
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas map[string]struct{ Properties map[string]any }
	}
}

func readOpenAPI(t *testing.T) (doc openAPI) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "api/openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// Tests of package httpsuite send requests to each route without the proof that it wants.
func TestSecurityDocument_SaysWhoMayCallWhat_ASVS_V8_1_1(t *testing.T) {
	want := make(map[string][]string) // who → routes
	for path, methods := range readOpenAPI(t).Paths {
		for method, raw := range methods {
			if method == "servers" || method == "parameters" {
				continue
			}
			var op struct{ Security *[]map[string]any }
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			who := "a user, about the own account" // the document requires an access token unless an operation says otherwise
			switch {
			case op.Security == nil:
			case len(*op.Security) == 0:
				who = "anybody"
			case len(*op.Security) == 2:
				who = "an operator"
			case (*op.Security)[0]["client"] != nil:
				who = "a client of the service"
			}
			want[who] = append(want[who], strings.ToUpper(method)+" "+path)
		}
	}
	listed := 0
	for _, cells := range bodyRows(t, "Authorisation", 2) {
		got := codes(cells[2])
		listed += len(got)
		slices.Sort(got)
		slices.Sort(want[cells[0]])
		if !slices.Equal(got, want[cells[0]]) {
			t.Errorf("security.md says that %s may call\n%v, and openapi.json\n%v", cells[0], got, want[cells[0]])
		}
	}
	if len(want) != 4 || listed < 40 {
		t.Errorf("security.md lists %d routes for %d kinds of callers", listed, len(want))
	}
}

func TestSecurityDocument_SaysWhoReadsAndWritesEachField_ASVS_V8_1_2(t *testing.T) {
	var read, written []string
	for _, cells := range rows(securitySection(t, "Authorisation")) {
		if names := codes(cells[0]); len(cells) == 3 && len(names) > 0 {
			if strings.HasPrefix(cells[1], "yes") {
				read = append(read, names...)
			}
			if strings.HasPrefix(cells[2], "yes") {
				written = append(written, names...)
			}
		}
	}
	schemas := readOpenAPI(t).Components.Schemas
	for name, got := range map[string][]string{"User": read, "UpdateMe": written} {
		slices.Sort(got)
		if want := slices.Sorted(maps.Keys(schemas[name].Properties)); len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("security.md says %v, and the schema %s of openapi.json has %v", got, name, want)
		}
	}
}

// The commands and files that the table of keys names exist.
func TestSecurityDocument_SaysHowEachKeyLives_ASVS_V11_1_1(t *testing.T) {
	section := securitySection(t, "Keys")
	keys := rows(section)[2:]
	if len(keys) < 5 {
		t.Fatalf("security.md lists %d keys", len(keys))
	}
	for _, cells := range keys {
		if len(cells) != 5 || slices.ContainsFunc(cells, func(cell string) bool { return len(cell) < 8 }) {
			t.Errorf("security.md does not say everything about a key: %q", cells)
		}
	}
	for _, name := range []string{"SIGNING_KEYS_FILE", "PASSWORD_PEPPER_FILE", "CLIENTS_FILE"} {
		if !strings.Contains(section, "`"+name+"`") || !strings.Contains(documents(t)[filepath.Join(root, "deploy/docs/settings.md")], "| `"+name+"`") {
			t.Errorf("security.md or settings.md lacks %s", name)
		}
	}
	// Data of the class key is a key, and each key is data of that class or only a hash is stored.
	for _, cells := range rows(securitySection(t, "Data and how long it is kept")) {
		for _, name := range codes(cells[0]) {
			if len(cells) > 3 && cells[2] == "key" && !strings.Contains(section, "`"+name+"`") {
				t.Errorf("security.md says that %s holds a key, and not how that key lives", name)
			}
		}
	}
	environment := func(string) (string, bool) { return "", false }
	var help strings.Builder
	_ = app.Run(t.Context(), []string{"keys", "-h"}, environment, &help, &help)
	for _, verb := range []string{"new", "add", "activate", "revoke"} {
		if !strings.Contains(help.String(), " "+verb) {
			t.Errorf("sessiond keys has no verb %s: %s", verb, help.String())
		}
	}
}

func TestSecurityDocument_ListsEveryCryptographicPackage_ASVS_V11_1_2(t *testing.T) {
	used := make(map[string]bool)
	for _, files := range goFiles(t) {
		for _, file := range files {
			for _, i := range file.Imports {
				path, _ := strconv.Unquote(i.Path.Value)
				if strings.HasPrefix(path, "crypto/") || strings.HasPrefix(path, "golang.org/x/crypto/") {
					used[path] = true
				}
			}
		}
	}
	listed := make(map[string]bool)
	for _, cells := range bodyRows(t, "Cryptography", 3) {
		for _, path := range codes(cells[3]) {
			listed[path] = true
		}
	}
	if !maps.Equal(used, listed) {
		t.Errorf("security.md lists the packages\n%v, and the code uses\n%v", slices.Sorted(maps.Keys(listed)), slices.Sorted(maps.Keys(used)))
	}
}

// logCalls are the methods of slog that write a line, with the position of the message.
var logCalls = map[string]int{
	"Debug": 0, "Info": 0, "Warn": 0, "Error": 0, "DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1, "LogAttrs": 2,
}

func TestSecurityDocument_ListsEveryLogEvent_ASVS_V16_1_1(t *testing.T) {
	logged := make(map[string]string) // message → level
	for _, files := range goFiles(t) {
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				method, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				at, ok := logCalls[method.Sel.Name]
				if !ok || at >= len(call.Args) {
					return true
				}
				message := call.Args[at]
				if sum, ok := message.(*ast.BinaryExpr); ok {
					message = sum.X
				}
				if text, ok := message.(*ast.BasicLit); ok && text.Kind == token.STRING {
					level, _ := strings.CutSuffix(method.Sel.Name, "Context")
					message, _ := strconv.Unquote(text.Value)
					logged[message] = strings.ToUpper(level)
				}
				return true
			})
		}
	}
	listed := make(map[string]bool)
	for _, cells := range bodyRows(t, "Log events", 1) {
		message := codes(cells[1])[0]
		listed[message] = true
		switch level, found := logged[message]; {
		case !found:
			t.Errorf("security.md lists the log event %q, which the code does not have", message)
		case level != "LOGATTRS" && level != cells[0]:
			t.Errorf("security.md: %q has the level %s, want %s", message, cells[0], level)
		}
	}
	for message, level := range logged {
		if !listed[message] {
			t.Errorf("security.md does not list this log event: | %s | `%s` | | |", level, message)
		}
	}
}

// migrated returns a database with all tables of the service.
func migrated(t *testing.T) *sqlx.DB {
	t.Helper()
	url := sqlstoretest.URL(t)
	db, err := sqlstore.Open(t.Context(), url, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Migrate(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	file, err := sqlx.Open("sqlite", strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func TestSecurityDocument_ClassifiesEveryColumn_ASVS_V14_1_1(t *testing.T) {
	var columns []string
	if err := migrated(t).SelectContext(t.Context(), &columns, `SELECT tables.name || '.' || columns.name
		FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns
		WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%' ORDER BY 1`); err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, cells := range bodyRows(t, "Data and how long it is kept", 1) {
		table := codes(cells[0])
		if len(table) != 1 || len(cells) != 5 {
			continue // this row is about another place than the database
		}
		if exported := cells[4] != "no"; cells[2] == "personal" && !exported || cells[2] != "personal" && exported && table[0] != "revoked_tokens" {
			t.Errorf("security.md: %s %s is %s, but in the export: %s", cells[0], cells[1], cells[2], cells[4])
		}
		for _, column := range codes(cells[1]) {
			listed = append(listed, table[0]+"."+column)
		}
	}
	slices.Sort(columns)
	slices.Sort(listed)
	for _, c := range columns {
		if !slices.Contains(listed, c) {
			t.Errorf("security.md does not classify the column %s", c)
		}
	}
	for _, c := range listed {
		if !slices.Contains(columns, c) {
			t.Errorf("security.md classifies the column %s, which does not exist", c)
		}
	}
	if len(slices.Compact(slices.Clone(listed))) != len(listed) {
		t.Error("security.md classifies a column twice")
	}
}

func TestSecurityDocument_SaysHowEachClassIsProtected_ASVS_V14_1_2(t *testing.T) {
	protected := make(map[string]bool)
	used := make(map[string]bool)
	for _, cells := range rows(securitySection(t, "Data and how long it is kept")) {
		switch len(cells) {
		case 3: // class, meaning, protection
			protected[cells[0]] = len(cells[2]) > len("protection |")
		case 4: // place, data, class, kept
			used[cells[2]] = true
		case 5: // table, columns, class, kept, export
			used[cells[2]] = true
		}
	}
	delete(used, "class") // the headings
	delete(used, "---")
	if len(used) < 4 {
		t.Errorf("security.md uses the classes %v, want at least 4", used)
	}
	for class := range used {
		if !protected[class] {
			t.Errorf("security.md does not say how the class %q is protected", class)
		}
	}
}

// Rules about several settings at once are those that serve applies. Rules about several fields of a request
// have tests in package httpsuite.
func TestSecurityDocument_RulesAboutSeveralSettingsHold_ASVS_V2_1_2(t *testing.T) {
	section := securitySection(t, "Data that must fit together")
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("smtps://mail.example"), 0o600); err != nil {
		t.Fatal(err)
	}
	for rule, settings := range map[string]map[string]string{
		"| `SESSION_IDLE_TTL`, `SESSION_MAX_TTL` |": {"SESSION_IDLE_TTL": "3000h"},
		"| `SMTP_URL`, `MAIL_FROM` |":               {"SMTP_URL": "smtps://mail.example"},
		"| a secret and its `…_FILE` |":             {"SMTP_URL": "smtps://mail.example", "SMTP_URL_FILE": file, "MAIL_FROM": "id@example.com"},
	} {
		if !strings.Contains(section, rule) {
			t.Errorf("security.md lacks the rule %s", rule)
		}
		environment := func(name string) (string, bool) {
			all := map[string]string{
				"DATABASE_URL": "postgres://127.0.0.1:1/x?sslmode=disable", "REDIS_URL": "redis://127.0.0.1:1", "SIGNING_KEYS_FILE": filepath.Join(dir, "none"),
				"ISSUER": "https://id.example", "PUBLIC_URL": "https://id.example",
			}
			maps.Copy(all, settings)
			value, ok := all[strings.TrimPrefix(name, "SESSIOND_")]
			return value, ok
		}
		err := app.Run(t.Context(), []string{"serve"}, environment, io.Discard, io.Discard)
		if err == nil || !slices.ContainsFunc(slices.Collect(maps.Keys(settings)), func(name string) bool { return strings.Contains(err.Error(), "SESSIOND_"+name) }) &&
			!strings.Contains(err.Error(), "SESSIOND_MAIL_FROM is required") {
			t.Errorf("%s: serve returns %v", rule, err)
		}
	}
}

func TestSecurityPolicy_NamesRemediationTimes_ASVS_V15_1_1(t *testing.T) {
	policy := documents(t)[filepath.Join(root, ".github/SECURITY.md")]
	for _, severity := range []string{"critical", "high", "medium", "low"} {
		if !regexp.MustCompile(`(?m)^\| ` + severity + `\b.* \| \d+ days \| \d+ days \|`).MatchString(policy) {
			t.Errorf("SECURITY.md names no time for the severity %s", severity)
		}
	}
}

// The test runs only with SESSIOND_TEST_LONG=1, because it downloads the program that writes the bill of
// materials.
func TestRelease_BillOfMaterialsListsEveryModule_ASVS_V15_1_2(t *testing.T) {
	if os.Getenv("SESSIOND_TEST_LONG") != "1" {
		t.Skip("builds a release; runs with SESSIOND_TEST_LONG=1")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), filepath.Join(root, "deploy/release.sh"), "0.0.0", dir, "linux/amd64").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "sessiond-0.0.0-linux-amd64.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		BOMFormat  string
		Components []struct{ Purl string }
	}
	if err := json.Unmarshal(text, &bill); err != nil || bill.BOMFormat != "CycloneDX" {
		t.Fatalf("format %q, %v", bill.BOMFormat, err)
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}{{end}}{{end}}", "./cmd/sessiond")
	list.Dir, list.Env = root, append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	modules, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for module := range strings.FieldsSeq(string(modules)) {
		if !slices.ContainsFunc(bill.Components, func(c struct{ Purl string }) bool { return strings.HasPrefix(c.Purl, "pkg:golang/"+module) }) {
			t.Errorf("the bill of materials lacks %s", module)
		}
	}
}
