package main_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// calls calls f with each call in the service's source, and with the name of the called function, such
// as fmt.Errorf or db.ExecContext.
func calls(files map[string][]*ast.File, f func(dir, name string, call *ast.CallExpr)) {
	for dir, files := range files {
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					f(dir, types.ExprString(call.Fun), call)
				}
				return true
			})
		}
	}
}

// imports returns the import paths of the service's source, and the directories that import each.
func imports(files map[string][]*ast.File) map[string][]string {
	all := make(map[string][]string)
	for _, dir := range slices.Sorted(maps.Keys(files)) {
		for _, file := range files[dir] {
			for _, i := range file.Imports {
				path, _ := strconv.Unquote(i.Path.Value)
				if !slices.Contains(all[path], dir) {
					all[path] = append(all[path], dir)
				}
			}
		}
	}
	return all
}

// globals returns the names of the constants and variables of a package. The service assigns none of
// these variables after the start.
func globals(files []*ast.File) map[string]bool {
	names := make(map[string]bool)
	for _, file := range files {
		for _, decl := range file.Decls {
			if decl, ok := decl.(*ast.GenDecl); ok {
				for _, spec := range decl.Specs {
					if spec, ok := spec.(*ast.ValueSpec); ok {
						for _, name := range spec.Names {
							names[name.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

// builders are functions that return a part of a text from names in the source, or a text that has no
// special characters.
var builders = []string{"regexp.QuoteMeta", "strconv.Itoa", "assignments", "rowsOf", "pq.QuoteLiteral"}

// ofSource reports whether a text consists only of texts of the source.
func ofSource(e ast.Expr, global map[string]bool) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.ParenExpr:
		return ofSource(e.X, global)
	case *ast.Ident:
		return global[e.Name]
	case *ast.BinaryExpr:
		return ofSource(e.X, global) && ofSource(e.Y, global)
	case *ast.CallExpr:
		name := types.ExprString(e.Fun)
		return slices.Contains(builders, name) || name == "strings.Join" && strings.HasPrefix(types.ExprString(e.Args[0]), "columns[")
	}
	return false
}

// interpreters are functions that read a text as a program, a pattern or a format, with the position of
// that text.
var interpreters = map[string]int{
	"regexp.MustCompile": 0, "regexp.Compile": 0, "redis.NewScript": 0, "newStatement": 0,
	"fmt.Sprintf": 0, "fmt.Errorf": 0, "fmt.Printf": 0, "fmt.Fprintf": 1, "fmt.Appendf": 1,
}

// safeTexts are the other texts that interpreters get, with the reason.
var safeTexts = map[string]string{
	"envPrefix + setting + \": \" + format": "setting is the name of a setting, and format as above",
	"format":                                "the parameter of a function that go vet checks like fmt.Printf",
	"text":                                  "sqlx.In made it from a text of the source, with one ? for each value",
	"fmt.Sprintf(touchSessions, values)":    "values is a list of (?, ?, ?)",
	"conditions + ` AND generation = (SELECT token_gen FROM users WHERE users.id = user_id)` + end": "conditions are texts of the source, which depend on what a filter has",
}

func TestSource_GivesInterpretersOnlyTextsOfTheSource_ASVS_V1_1_2_V1_2_4_V1_2_9_V1_3_2_V1_3_7_V1_3_10(t *testing.T) {
	files := goFiles(t)
	found := make(map[string]int)
	known := make(map[string]map[string]bool)
	for dir, files := range files {
		known[dir] = globals(files)
	}
	calls(files, func(dir, name string, call *ast.CallExpr) {
		global := known[dir]
		global["column"], global["condition"] = dir == "sqlstore", dir == "sqlstore"
		global["table"] = true               // the calls of functions with a parameter of this name are checked below
		global["values"] = dir == "sqlstore" // a list such as (?, ?), (?, ?)
		if at, ok := interpreters[name]; ok && at < len(call.Args) {
			found[name]++
			if text := types.ExprString(call.Args[at]); !ofSource(call.Args[at], global) && safeTexts[text] == "" {
				t.Errorf("%s: %s gets %s, which may not be a text of the source", dir, name, text)
			}
		}
		// A text of SQL is a statement of newStatement, or of the source.
		if method := name[strings.LastIndexByte(name, '.')+1:]; regexp.MustCompile(`^(Exec|Query|QueryRow|Get|Select|Prepare|Preparex)(Context)?$`).MatchString(method) && dir == "sqlstore" {
			for _, arg := range call.Args {
				if sum, ok := arg.(*ast.BinaryExpr); ok && sum.Op == token.ADD && !ofSource(arg, global) && types.ExprString(arg) != `"SELECT '" + want + "'"` { // want is a random number
					t.Errorf("sqlstore: %s gets %s, which may not be a text of the source", name, types.ExprString(arg))
				}
			}
		}
		if slices.Contains([]string{"endOfBatch", "eraseClientsOf", "cutIn", "findBy"}, name) {
			for _, arg := range call.Args {
				if !ofSource(arg, known[dir]) {
					t.Errorf("%s: %s gets the name of a table or column that is not in the source", dir, name)
				}
			}
		}
		// Templates are files of the program. Only template packages write HTML.
		if strings.Contains(name, "emplate.") && strings.HasSuffix(name, "Parse") || strings.HasSuffix(name, "template.HTML") {
			t.Errorf("%s: %s reads a template that is not a file of the program, or skips its escaping", dir, name)
		}
	})
	for _, name := range []string{"regexp.MustCompile", "redis.NewScript", "newStatement", "fmt.Errorf"} {
		if found[name] < 3 {
			t.Errorf("found %d calls of %s, so this test sees too little", found[name], name)
		}
	}
	if using := imports(files)["html/template"]; !slices.Equal(using, []string{"identity/mail"}) {
		t.Errorf("html/template is used by %v, want identity/mail", using)
	}
}

// The one program that the service starts is itself, to hash passwords. Requests do not change its
// arguments.
func TestSource_StartsNoOtherProgram_ASVS_V1_2_5(t *testing.T) {
	files := goFiles(t)
	all := imports(files)
	if using := all["os/exec"]; !slices.Equal(using, []string{"identity/hashing"}) {
		t.Errorf("os/exec is used by %v, want identity/hashing", using)
	}
	calls(files, func(dir, name string, call *ast.CallExpr) {
		switch {
		case name == "syscall.Exec" || name == "syscall.ForkExec" || name == "os.StartProcess":
			t.Errorf("%s calls %s", dir, name)
		case strings.HasPrefix(name, "exec.Command"):
			if got := types.ExprString(call.Args[1]); got != "command[0]" {
				t.Errorf("%s starts %s", dir, got)
			}
		case name == "hashing.StartWorker":
			if lit, ok := call.Args[0].(*ast.CompositeLit); !ok || len(lit.Elts) != 2 || types.ExprString(lit.Elts[0]) != "self" || types.ExprString(lit.Elts[1]) != "workerVerb" {
				t.Errorf("%s starts another worker than this program", dir)
			}
		}
	})
}

func TestSource_IsMemorySafe_ASVS_V1_4_1(t *testing.T) {
	files := goFiles(t)
	all := imports(files)
	for _, path := range []string{"unsafe", "C"} {
		if all[path] != nil {
			t.Errorf("%s is imported by %v", path, all[path])
		}
	}
	for name, want := range map[string]string{"deploy/test.sh": " -race ", "deploy/release.sh": "export CGO_ENABLED=0\n"} {
		if text := readFile(t, name); !strings.Contains(text, want) {
			t.Errorf("%s lacks %q", name, want)
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The tests of each package that starts goroutines fail if one is left. Linters look for responses, rows
// and statements that are not closed.
func TestSource_IsCheckedForLeaks_ASVS_V1_4_3(t *testing.T) {
	for dir, files := range goFiles(t) {
		starts := false
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				_, isGo := n.(*ast.GoStmt)
				starts = starts || isGo
				return true
			})
		}
		tests, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		checked := slices.ContainsFunc(tests, func(name string) bool {
			text, err := os.ReadFile(name)
			return err == nil && strings.Contains(string(text), "goleak.VerifyTestMain(")
		})
		if starts && !checked {
			t.Errorf("%s starts goroutines, but its tests do not look for those that are left", dir)
		}
	}
	linters := readFile(t, ".golangci.yml")
	for _, linter := range []string{"bodyclose", "rowserrcheck", "sqlclosecheck", "noctx"} {
		if !regexp.MustCompile(`(?m)^    - ` + linter + ` `).MatchString(linters) {
			t.Errorf("the linter %s is off", linter)
		}
	}
}

func TestSource_UsesListedLibrariesAndSecureRandomness_ASVS_V6_5_3_V11_2_1_V11_4_1_V11_4_3_V11_5_1(t *testing.T) {
	all := imports(goFiles(t))
	allowed := map[string][]string{"crypto/sha1": {"identity/breach", "identity/hashing"}} // of breached and of imported passwords
	for _, path := range []string{
		"crypto/md5", "crypto/sha1", "crypto/des", "crypto/rc4", "crypto/dsa", "crypto/rsa", "math/rand", "math/rand/v2",
		"golang.org/x/crypto/md4", "golang.org/x/crypto/ripemd160", "golang.org/x/crypto/tea", "golang.org/x/crypto/cast5",
	} {
		if !slices.Equal(all[path], allowed[path]) {
			t.Errorf("%s is imported by %v, want %v", path, all[path], allowed[path])
		}
	}
	for _, dir := range []string{"session/issuer", "identity", "session", "sqlstore"} {
		if !slices.Contains(all["crypto/rand"], dir) {
			t.Errorf("%s makes secrets, but does not import crypto/rand", dir)
		}
	}
	libraries := readFile(t, "deploy/docs/decisions/0003-dependencies.md")
	for _, path := range slices.Sorted(maps.Keys(all)) {
		first, _, _ := strings.Cut(path, "/")
		if !strings.Contains(first, ".") || strings.HasPrefix(path, module) {
			continue // the standard library, and our own packages
		}
		parts := strings.Split(strings.TrimPrefix(path, "github.com/"), "/")
		name := strings.Join(parts[:2], "/")
		if first == "golang.org" {
			name = strings.Join(parts[:3], "/")
		}
		if !strings.Contains(libraries, "| "+name) {
			t.Errorf("%v import %s, which is not in the list of libraries", all[path], name)
		}
	}
}

// callers returns the packages that open connections to other services.
func callers(files map[string][]*ast.File) []string {
	opens := regexp.MustCompile(`^(net\.Dial\w*|tls\.Dial\w*|http\.(Client|DefaultClient|Get|Post|PostForm|Head)|redis\.New\w*Client|mail\.NewClient|smtp\.Dial)$`)
	found := make(map[string]bool)
	for dir, files := range files {
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && opens.MatchString(types.ExprString(s)) {
					found[dir] = true
				}
				return true
			})
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func TestSecurityDocument_ListsEveryServiceThatIsCalled_ASVS_V13_1_1_V13_2_4_V13_2_5_V14_2_3(t *testing.T) {
	listed := make(map[string]bool)
	for _, cells := range bodyRows(t, "Communications", 4) {
		for _, dir := range codes(cells[4]) {
			listed[dir] = true
		}
		for _, setting := range codes(cells[1]) {
			if !strings.Contains(readFile(t, "deploy/docs/settings.md"), "| `"+setting+"`") {
				t.Errorf("security.md names the setting %s, which settings.md lacks", setting)
			}
		}
	}
	if found := callers(goFiles(t)); !slices.Equal(found, slices.Sorted(maps.Keys(listed))) {
		t.Errorf("the packages %v open connections, and security.md lists %v", found, slices.Sorted(maps.Keys(listed)))
	}
	// The service reads files that settings name, at the start, and files of its own program.
	calls(goFiles(t), func(dir, name string, call *ast.CallExpr) {
		reads := slices.Contains([]string{"os.Open", "os.ReadFile", "os.OpenFile", "os.ReadDir", "http.FileServer", "http.ServeFile", "http.Dir"}, name)
		if served := dir == "api" || dir == "session/issuer" || dir == "identity"; reads && served {
			t.Errorf("%s calls %s, but requests need no file", dir, name)
		}
	})
}

// The service for breached passwords may redirect within its host. Requests to sessiond follow no
// redirect at all.
func TestSource_FollowsNoRedirectToAnotherHost_ASVS_V15_3_2(t *testing.T) {
	for dir, rule := range map[string]string{"identity/breach": "sameHost", "session": "http.ErrUseLastResponse", "cmd/sessiond/app": "http.ErrUseLastResponse"} {
		clients, rules := 0, 0
		for _, file := range goFiles(t)[dir] {
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CompositeLit:
					if n.Type != nil && types.ExprString(n.Type) == "http.Client" {
						clients++
					}
				case *ast.SelectorExpr:
					if slices.Contains([]string{"http.DefaultClient", "http.Get", "http.Post", "http.PostForm", "http.Head"}, types.ExprString(n)) {
						t.Errorf("%s uses %s, which follows redirects", dir, types.ExprString(n))
					}
					if types.ExprString(n) == rule {
						rules++
					}
				case *ast.Ident:
					if n.Name == rule {
						rules++
					}
				}
				return true
			})
		}
		if clients != 1 || rules < 1 {
			t.Errorf("%s has %d HTTP clients, and %s %d times", dir, clients, rule, rules)
		}
	}
}

// A certificate is never accepted without being verified.
func TestSource_VerifiesCertificates_ASVS_V12_3_2(t *testing.T) {
	configs := 0
	for dir, files := range goFiles(t) {
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Ident:
					if n.Name == "InsecureSkipVerify" || n.Name == "VerifyPeerCertificate" {
						t.Errorf("%s sets %s", dir, n.Name)
					}
				case *ast.CompositeLit:
					if n.Type != nil && types.ExprString(n.Type) == "tls.Config" {
						configs++
						if text := fmt.Sprint(types.ExprString(n), fieldsOf(n)); !strings.Contains(text, "MinVersion:tls.VersionTLS12") {
							t.Errorf("%s has a tls.Config of an older version than 1.2: %s", dir, text)
						}
					}
				}
				return true
			})
		}
	}
	if configs < 2 {
		t.Errorf("found %d tls.Config, want those for Redis and mail", configs)
	}
}

func fieldsOf(lit *ast.CompositeLit) (all []string) {
	for _, e := range lit.Elts {
		if e, ok := e.(*ast.KeyValueExpr); ok {
			all = append(all, types.ExprString(e.Key)+":"+types.ExprString(e.Value))
		}
	}
	return all
}

// The log goes to the standard output that the program gives to it, and nowhere else.
func TestSource_LogsToStandardOutputOnly_ASVS_V16_2_3_V16_4_3(t *testing.T) {
	files := goFiles(t)
	for _, path := range []string{"log", "log/syslog"} {
		if using := imports(files)[path]; using != nil {
			t.Errorf("%s is imported by %v", path, using)
		}
	}
	handlers := 0
	calls(files, func(dir, name string, call *ast.CallExpr) {
		if name != "slog.NewJSONHandler" && name != "slog.NewTextHandler" {
			return
		}
		handlers++
		if got := types.ExprString(call.Args[0]); dir != "cmd/sessiond/app" || got != "w" {
			t.Errorf("%s logs to %s", dir, got)
		}
	})
	if main := readFile(t, "cmd/sessiond/main.go"); handlers != 2 || !strings.Contains(main, "os.Stdout, os.Stderr") {
		t.Errorf("found %d handlers of logs, want one for JSON and one for text, to standard output", handlers)
	}
	if section := securitySection(t, "Log events"); !strings.Contains(section, "JSON lines on standard output") || !strings.Contains(section, "The operator's collector stores\nthem") {
		t.Error("security.md does not say where the log goes, and who stores it")
	}
}

// secretPatterns match keys and passwords that somebody may have put into a file.
var secretPatterns = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[baprs]-[0-9A-Za-z-]{10,}|"d" *: *"[A-Za-z0-9_-]{43}"`)

func TestRepository_HasNoSecrets_ASVS_V13_3_1(t *testing.T) {
	read := 0
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if err == nil && (entry.Name() == ".git" || entry.Name() == ".sessiond") {
				return fs.SkipDir
			}
			return err
		}
		if strings.HasSuffix(name, "_test.go") || entry.Name() == "sessiond" {
			return nil // tests make keys of their own
		}
		text, err := os.ReadFile(name)
		if read++; secretPatterns.Match(text) {
			t.Errorf("%s has a secret: %s", name, secretPatterns.Find(text))
		}
		return err
	})
	if err != nil || read < 200 {
		t.Errorf("read %d files, %v", read, err)
	}
	for _, text := range []string{"-----BEGIN " + "EC PRIVATE KEY-----", `"d": "` + strings.Repeat("A", 43) + `"`} {
		if !secretPatterns.MatchString(text) {
			t.Errorf("the patterns do not match %q", text)
		}
	}
	// A secret may come from a file, such as one that a vault mounts.
	guide := readFile(t, "deploy/docs/settings.md")
	for _, setting := range []string{"DATABASE_URL", "REDIS_URL", "SMTP_URL"} {
		if !strings.Contains(guide, "| `"+setting+"` * |") {
			t.Errorf("%s cannot be read from a file", setting)
		}
	}
	for _, name := range []string{"deploy/postgres/roles.sql", "deploy/postgres/grants.sql"} {
		if strings.Contains(strings.ToUpper(readFile(t, name)), " PASSWORD '") {
			t.Errorf("%s sets a password", name)
		}
	}
}

// The scan needs the database of vulnerabilities, so it is not part of the tests.
func TestLint_LooksForKnownVulnerabilities_ASVS_V15_2_1(t *testing.T) {
	lint := readFile(t, "deploy/lint.sh")
	for _, want := range []string{
		"govulncheck=golang.org/x/vuln/cmd/govulncheck@v", `"$dir/govulncheck" ./... || status=$?`, "[ $status != 3 ]",
		"for module in . cmd/sessionbench deploy/charttest deploy/compose deploy/gateways/kubernetes; do", `check "govulncheck $name" scan`, `die "failed: `,
	} {
		if !strings.Contains(lint, want) {
			t.Errorf("lint.sh lacks %q", want)
		}
	}
	if ci := readFile(t, ".ci/run"); !strings.Contains(ci, "./deploy/lint.sh || lint=failed") {
		t.Error("CI does not run lint.sh, or ignores it")
	}
	if module := readFile(t, "go.mod"); strings.Contains(module, "replace ") || readFile(t, "go.sum") == "" {
		t.Error("a component does not come from the module proxy with a checksum")
	}
}

// The pages of the service keep nothing in the browser. Responses are not cached, which a test of package
// httpsuite proves.
func TestPages_StoreNothingInBrowser_ASVS_V14_3_1(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "api/*.html"))
	if err != nil || len(pages) < 3 {
		t.Fatalf("found the pages %v, %v", pages, err)
	}
	stores := regexp.MustCompile(`(?i)localStorage|sessionStorage|indexedDB|document\.cookie|caches\.|serviceWorker`)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if found := stores.Find(text); found != nil {
			t.Errorf("%s uses %s", page, found)
		}
	}
	// The one cookie is the device token, which authenticates nothing.
	calls(goFiles(t), func(dir, name string, call *ast.CallExpr) {
		sets := name == "http.SetCookie" || len(call.Args) > 1 && types.ExprString(call.Args[0]) == `"Set-Cookie"`
		if sets && (dir != "api" || name != "q.replyHeader.Set" || !strings.Contains(readFile(t, "api/device_token.go"), "q.replyHeader.Set(\"Set-Cookie\"")) {
			t.Errorf("%s sets another cookie", dir)
		}
	})
}

func TestDatabase_HasNoAccountAfterMigration_ASVS_V6_3_2(t *testing.T) {
	for _, table := range []string{"users", "sessions", "mail_tokens", "secrets"} {
		var n int
		if err := migrated(t).GetContext(t.Context(), &n, "SELECT count(*) FROM "+table); err != nil || n != 0 {
			t.Errorf("a new database has %d rows in %s, %v", n, table, err)
		}
	}
}
