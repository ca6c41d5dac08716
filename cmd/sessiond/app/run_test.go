package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

// eachVerb calls f for every verb, and every verb of a verb, except those that cobra brings along.
func eachVerb(c *cobra.Command, f func(c *cobra.Command)) {
	for _, verb := range c.Commands() {
		f(verb)
		eachVerb(verb, f)
	}
}

// run runs the program and returns what it wrote.
func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut strings.Builder
	err = Run(t.Context(), args, environment(), &out, &errOut)
	return out.String(), errOut.String(), err
}

func TestHelp_ShowsExamplesOfEveryVerb(t *testing.T) {
	eachVerb(newProgram(environment()), func(c *cobra.Command) {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		out, errOut, err := run(t, args...)
		if err != nil || errOut != "" {
			t.Errorf("%v: error %v, standard error %q", args, err, errOut)
		}
		for _, want := range []string{"Usage:\n  sessiond", "\n\nExamples:\n  ", c.Short} {
			if c.Long != "" && want == c.Short {
				continue
			}
			if !strings.Contains(out, want) {
				t.Errorf("%v: want %q in\n%s", args, want, out)
			}
		}
	})
}

func TestHelp_ListsVerbsInGroups(t *testing.T) {
	want, _, err := run(t, "help")
	if err != nil {
		t.Fatal(err)
	}
	rest := want
	for _, text := range []string{"Run the service:", "  dev ", "  serve ", "Prepare and check:", "  migrate ", "  keys ", "  doctor ", "This program:", "  version ", "  completion "} {
		_, after, found := strings.Cut(rest, text)
		if !found {
			t.Fatalf("want %q, after the texts before it, in\n%s", text, want)
		}
		rest = after
	}
	if strings.Contains(want, workerVerb) {
		t.Error("the help lists the verb of the hashing process")
	}
	for _, args := range [][]string{nil, {"-h"}, {"--help"}} {
		if got, errOut, err := run(t, args...); got != want || errOut != "" || err != nil {
			t.Errorf("%q: error %v, standard error %q, and not the help:\n%s", args, err, errOut, got)
		}
	}
}

func TestHelp_ShowsSettingsOfServeInGroups(t *testing.T) {
	help, _, err := run(t, "serve", "--help")
	if err != nil {
		t.Fatal(err)
	}
	rest := help
	for _, g := range new(Settings).groups() {
		for i, st := range g.settings {
			text := "      --" + st.name
			if i == 0 {
				text = "\n\n" + g.title + ":\n" + text
			}
			if _, after, found := strings.Cut(rest, text); found != st.taken(serveVerb) {
				t.Errorf("serve takes --%s: %t. Is the flag in the help of the group %s, in its order: %t", st.name, st.taken(serveVerb), g.title, found)
			} else if found {
				rest = after
			}
		}
	}
	if strings.Contains(help, "`") || strings.Contains(help, "](") {
		t.Error("the help has Markdown")
	}
}

func TestRun_RefusesMistakesWithoutQuotingValues(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"srve", `unknown verb "srve", did you mean serve?`},
		{"srve --addr :80", `unknown verb "srve", did you mean serve?`},
		{"keys lst --file keys.json", `unknown verb "lst", did you mean list?`},
		{"clients remove", `unknown verb "remove", did you mean revoke?`},
		{"keys frob", `unknown verb "frob"; sessiond keys --help lists the verbs`},
		{"frobnicate", `unknown verb "frobnicate"; sessiond --help lists the verbs`},
		{"redis://:s3cret@127.0.0.1", "unknown verb; sessiond --help"},
		{"--redis-url=redis://:s3cret@127.0.0.1", `unknown verb "--redis-url"`},
		{"man s3cret", "unknown verb;"},
		{"serve s3cret", "unexpected argument: sessiond serve takes only flags"},
		{"keys list s3cret", "unexpected argument"},
		{"serve --redis-ulr=s3cret", "unknown flag --redis-ulr, did you mean --redis-url"},
		{"serve --frobnicate s3cret", "unknown flag --frobnicate; sessiond serve --help lists the flags"},
		{"keys new -out s3cret", "unknown flag -out, did you mean --out?"},
		{"serve -redis-url=s3cret", "unknown flag -redis-url, did you mean --redis-url?"},
		{"serve -qs3cret", "unknown flag -q; "},
		{"serve --=s3cret", "a flag is malformed"},
		{"serve --bcrypt-cost s3cret", "--bcrypt-cost: not a valid value"},
		{"serve --limits s3cret", "--limits: want on or off"},
		{"serve --trusted-proxies s3cret", "--trusted-proxies: not a valid value"},
		{"serve --hide-accounts=s3cret", "--hide-accounts: not a valid value"},
		{"serve --limit-login-address s3cret", "--limit-login-address: not a valid value"},
		{"serve --redis-url", "flag needs an argument: --redis-url"},
		{"import --format xml", "--format: want csv or jsonl"},
		{"migrate --redis-url s3cret", "unknown flag --redis-url"},
	} {
		out, errOut, err := run(t, strings.Fields(c.args)...)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want %s", c.args, err, c.want)
		}
		if out != "" || errOut != "" {
			t.Errorf("%s: wrote %q and %q besides the error", c.args, out, errOut)
		}
	}
}

// The declarations say which settings are required, and serve refuses to start without exactly these.
func TestServe_RequiresTheSettingsThatAreDeclaredRequired(t *testing.T) {
	var want []string
	for _, g := range new(Settings).groups() {
		for _, st := range g.settings {
			if st.required {
				want = append(want, envName(st.name)+" is required")
			}
		}
	}
	_, _, err := run(t, "serve")
	if err == nil {
		t.Fatal("serve returned no error")
	}
	got := strings.Split(err.Error(), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFlags_TakePrecedenceOverVariablesAndTheLastOneCounts(t *testing.T) {
	var s Settings
	c := &cobra.Command{Use: serveVerb}
	s.addFlags(c, environment("ADDR=:1", "LOG_LEVEL=debug"))
	if err := c.ParseFlags([]string{"--addr", ":2", "--addr", ":3", "--hide-accounts"}); err != nil {
		t.Fatal(err)
	}
	if err := c.PreRunE(c, nil); err != nil {
		t.Fatal(err)
	}
	if s.Addr != ":3" || s.LogLevel != "debug" || !s.HideAccounts {
		t.Errorf("got addr %s, level %s, hidden accounts %t; want :3, debug, true", s.Addr, s.LogLevel, s.HideAccounts)
	}
}

func TestCompletion_OffersValuesOfFlags(t *testing.T) {
	for args, want := range map[string]string{
		"serve --limits":         "on\noff\n",
		"dev --classic-routes":   "strict\non\noff\n",
		"keys new --alg":         "EdDSA\nES256\nHS256\n",
		"serve --log-level":      "debug\ninfo\nwarn\nerror\n",
		"import --format":        "csv\njsonl\n",
		"doctor --registration":  "open\nclosed\n",
		"serve --max-sessions-p": "--max-sessions-policy\t",
		"keys":                   "new\tCreate a key file with one signing key\n",
		"":                       "dev\tTry it",
	} {
		typed := append(append([]string{"__complete"}, strings.Fields(args)...), "")
		if strings.HasSuffix(args, "-p") {
			typed = typed[:len(typed)-1]
		}
		out, _, err := run(t, typed...)
		if err != nil || !strings.HasPrefix(out, want) {
			t.Errorf("%s: error %v, completions %q, want %q first", args, err, out, want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, _, err := run(t, "completion", shell); err != nil || !strings.Contains(out, "sessiond") {
			t.Errorf("completion %s: error %v", shell, err)
		}
	}
}

func TestMan_HasPageOfEveryVerb(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := run(t, "man", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	eachVerb(newProgram(environment()), func(c *cobra.Command) {
		path := strings.Fields(c.CommandPath())
		page, err := os.ReadFile(filepath.Join(dir, strings.Join(path, "-")+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		if out, _, err := run(t, append([]string{"man"}, path[1:]...)...); err != nil || out != string(page) {
			t.Errorf("man %v: error %v, or the page is not that of --dir", path[1:], err)
		}
	})
	if page, _, err := run(t, "man"); err != nil || !strings.Contains(page, ".TH \"SESSIOND\" \"1\"") {
		t.Errorf("man: error %v, page %q", err, page)
	}
	if page, _, err := run(t, "man", "serve"); err != nil || !strings.Contains(page, "redis-url") {
		t.Errorf("man serve: error %v, or a page without --redis-url", err)
	}
}

func TestVersion_IsPrintedLoggedAndCounted(t *testing.T) {
	b := build{version: "v1.2.3", revision: "abc", goVersion: "go1.99"}
	registry := prometheus.NewRegistry()
	b.register(registry)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	metric := families[0].String()
	for _, want := range []string{"sessiond_build_info", "v1.2.3", "abc", "go1.99"} {
		if !strings.Contains(metric, want) {
			t.Errorf("the metric %s lacks %s", metric, want)
		}
	}
	b = thisBuild()
	if out, _, err := run(t, "version"); err != nil || out != "sessiond "+b.version+"\nrevision "+b.revision+"\n"+b.goVersion+"\n" {
		t.Errorf("version: error %v, output %q", err, out)
	}
	keys := filepath.Join(t.TempDir(), "keys.json")
	if _, _, err := run(t, "keys", "new", "--out", keys); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	var c closers
	s := Settings{LogLevel: "info", BcryptCost: 10, SigningKeysFile: keys}
	if _, err := s.openFiles(t.Context(), false, &log, &c); err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(log.String(), "\n"); !strings.Contains(first, `"msg":"starting","version":"`+b.version+`"`) || !strings.Contains(first, b.goVersion) {
		t.Errorf("the first line of the log is %s", first)
	}
}
