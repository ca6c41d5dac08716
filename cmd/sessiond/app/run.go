package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sessiond/sessiond/identity/hashing"
)

// Names of the verbs that take settings.
const (
	devVerb     = "dev"
	serveVerb   = "serve"
	migrateVerb = "migrate"
	importVerb  = "import"
	doctorVerb  = "doctor"
	adminVerb   = "admin" // and the verbs of clients
)

// lookupEnv looks up an environment variable, as [os.LookupEnv] does.
type lookupEnv func(string) (string, bool)

// get returns the value of a variable, or "" if it is not set.
func (env lookupEnv) get(name string) string {
	value, _ := env(name)
	return value
}

// Run runs the verb that args start with, and returns when it has finished or ctx is done.
func Run(ctx context.Context, args []string, env lookupEnv, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == workerVerb {
		return hashing.RunWorker() // without the other verbs, because this process should stay small
	}
	program := newProgram(env)
	program.SetArgs(append([]string{}, args...)) // cobra replaces nil by the arguments of the process
	program.SetOut(stdout)
	program.SetErr(stderr)
	return program.ExecuteContext(ctx)
}

// Groups of verbs in the help.
const (
	runGroup     = "run"
	prepareGroup = "prepare"
	operateGroup = "operate"
	programGroup = "program"
)

func init() {
	cobra.EnableCommandSorting = false
	cobra.AddTemplateFunc("groupedFlags", groupedFlags)
}

// newProgram returns the program with all its verbs. Only the verb of the hashing process is missing.
func newProgram(env lookupEnv) *cobra.Command {
	program := &cobra.Command{
		Use:   "sessiond",
		Short: "Sign users in, track their sessions, and revoke them at once",
		Long: `sessiond signs users in, tracks their sessions, and revokes them at once.

Every setting is a flag or an environment variable: --redis-url or SESSIOND_REDIS_URL.`,
		Example: `  sessiond serve --help
  SESSIOND_DATABASE_URL=postgres://127.0.0.1/sessiond sessiond migrate`,
		SilenceErrors: true, // main prints the error
		SilenceUsage:  true,
	}
	program.AddGroup(
		&cobra.Group{ID: runGroup, Title: "Run the service:"},
		&cobra.Group{ID: prepareGroup, Title: "Prepare and check:"},
		&cobra.Group{ID: operateGroup, Title: "Operate:"},
		&cobra.Group{ID: programGroup, Title: "This program:"},
	)
	program.SetHelpCommandGroupID(programGroup)
	program.SetCompletionCommandGroupID(programGroup)
	addDev(program, env)
	program.AddCommand(
		serveCommand(env),
		migrateCommand(env), keysCommand(env), importCommand(env), doctorCommand(env),
		adminCommand(env), clientsCommand(env),
		versionCommand(), manCommand(),
	)
	program.SetUsageTemplate(strings.NewReplacer(
		"\n\nFlags:\n{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}", "{{groupedFlags .LocalFlags}}",
		"[command]", "VERB", "about a command", "about a verb",
	).Replace(program.UsageTemplate()))
	program.SetFlagErrorFunc(flagError)
	onlyVerbs(program)
	return program
}

// groupedFlags returns the help of flags, with the title of its group before each group of settings.
func groupedFlags(flags *pflag.FlagSet) string {
	var titles []string
	groups := map[string]*pflag.FlagSet{}
	flags.VisitAll(func(f *pflag.Flag) {
		title := "Flags"
		if group := f.Annotations[groupAnnotation]; group != nil {
			title = group[0]
		}
		if groups[title] == nil {
			titles = append(titles, title)
			groups[title] = pflag.NewFlagSet("", pflag.ContinueOnError)
			groups[title].SortFlags = false
		}
		groups[title].AddFlag(f)
	})
	var help strings.Builder
	for _, title := range titles {
		fmt.Fprintf(&help, "\n\n%s:\n%s", title, strings.TrimRight(groups[title].FlagUsagesWrapped(120), "\n"))
	}
	return help.String()
}

// onlyVerbs makes a command print its help, or refuse an argument that is none of its verbs.
func onlyVerbs(c *cobra.Command) {
	c.SuggestionsMinimumDistance = 2
	c.DisableFlagsInUseLine = true
	c.DisableFlagParsing = true // otherwise the error of "sessiond srve --addr :80" would be about --addr
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 || args[0] == "-h" || args[0] == "--help" {
			return c.Help()
		}
		typed, _, _ := strings.Cut(args[0], "=")
		if !verbLike.MatchString(typed) {
			return fmt.Errorf("unknown verb%s", hint(c, "verbs", nil))
		}
		return fmt.Errorf("unknown verb %q%s", typed, hint(c, "verbs", c.SuggestionsFor(typed)))
	}
}

// verbLike matches what may be a mistyped verb. Errors do not quote other texts, such as URLs with passwords.
var verbLike = regexp.MustCompile(`^[A-Za-z-]{1,20}$`)

// hint returns the end of an error about an unknown verb or flag of c.
func hint(c *cobra.Command, kind string, similar []string) string {
	if len(similar) == 0 {
		return fmt.Sprintf("; %s --help lists the %s", c.CommandPath(), kind)
	}
	return ", did you mean " + strings.Join(similar, " or ") + "?"
}

// noArguments refuses arguments without quoting them, because one may be the value of a secret.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument: %s takes only flags", c.CommandPath())
	}
	return nil
}

// flagError returns an error about a flag that does not quote its value.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &invalid):
		return fmt.Errorf("--%s: %w", invalid.GetFlag().Name, invalidValue(invalid.Unwrap()))
	case errors.As(err, &syntax):
		return errors.New("a flag is malformed; want --name or --name=value")
	case !errors.As(err, &unknown):
		return err
	}
	name := unknown.GetSpecifiedName()
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		long, _, _ := strings.Cut(short, "=")
		if c.Flags().Lookup(long) != nil {
			return fmt.Errorf("unknown flag -%s%s", long, hint(c, "flags", []string{"--" + long}))
		}
		return fmt.Errorf("unknown flag -%s%s", name, hint(c, "flags", nil))
	}
	// Cobra finds what a mistyped verb may mean, but not a flag.
	var names cobra.Command
	names.SuggestionsMinimumDistance = 2
	c.Flags().VisitAll(func(f *pflag.Flag) {
		names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	var similar []string
	for _, s := range names.SuggestionsFor(name) {
		similar = append(similar, "--"+s)
	}
	return fmt.Errorf("unknown flag --%s%s", name, hint(c, "flags", similar))
}
