package app

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envPrefix is the prefix of every environment variable that is a setting.
const envPrefix = "SESSIOND_"

// envName returns the environment variable that belongs to a flag.
func envName(flagName string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// settingError puts the name of the environment variable of a flag in front of an error.
func settingError(flagName string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", envName(flagName), err)
}

// metricsAddr is the only flag whose environment variable may be set to an empty value. Any other
// empty variable counts as unset, because compose files and scripts often set empty variables.
const metricsAddr = "metrics-addr"

// A setting is a flag, the environment variable of the same name, and a row in settings.md.
type setting struct {
	name     string // of the flag
	value    *value
	def      string // the default
	devDef   string // the default in dev, if it is another one
	shown    string // how settings.md writes the default; "" means as it is
	verbs    []string
	required bool   // serve does not start without a value
	secret   bool   // the value may also be read from the file --NAME-file
	meaning  string // in Markdown, with other settings as `--flags`
}

// taken reports whether a verb takes the setting. The doctor takes what serve takes.
func (st setting) taken(verb string) bool {
	return slices.Contains(st.verbs, verb) || verb == doctorVerb && slices.Contains(st.verbs, serveVerb)
}

// help returns the meaning without Markdown.
func (st setting) help(verb string) string {
	text := strings.NewReplacer("`", "", "*", "").Replace(markdownLink.ReplaceAllString(st.meaning, "$1"))
	if st.required && verb != devVerb {
		text += "; required"
	}
	return text
}

var markdownLink = regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`)

// group is a list of settings that the help and settings.md show under one title.
type group struct {
	title    string
	settings []setting
}

// groupAnnotation is the annotation of a flag that holds the title of its group.
const groupAnnotation = "group"

// addFlags adds the settings that the verb c takes. They are read before c runs.
func (s *Settings) addFlags(c *cobra.Command, env lookupEnv) { s.addFlagsOf(c.Name(), c, env) }

// addFlagsOf adds the settings of a verb to one of its verbs.
func (s *Settings) addFlagsOf(verb string, c *cobra.Command, env lookupEnv) {
	flags := c.Flags()
	flags.SortFlags = false
	s.secretPaths = map[string]*string{}
	var settings []setting
	add := func(title, name string, v *value, help, shown string) {
		f := flags.VarPF(v, name, "", help)
		f.DefValue = cmp.Or(f.DefValue, shown)
		f.Annotations = map[string][]string{groupAnnotation: {title}}
		if v.kind == boolKind {
			f.NoOptDefVal = "true"
		}
		if values := strings.Split(v.kind, "|"); len(values) > 1 {
			complete(c, name, values...)
		}
	}
	for _, g := range s.groups() {
		for _, st := range g.settings {
			if !st.taken(verb) {
				continue
			}
			def := st.def
			if verb == devVerb {
				def = cmp.Or(st.devDef, def)
			}
			if def != "" {
				if err := st.value.Set(def); err != nil {
					panic(fmt.Sprintf("the default of --%s: %v", st.name, err))
				}
			}
			add(g.title, st.name, st.value, st.help(verb), strings.ReplaceAll(st.shown, "`", ""))
			if st.secret {
				name, path := st.name+"-file", new(string)
				add(g.title, name, text(path, "FILE"), "file that contains the value of --"+st.name, "")
				s.secretPaths[name] = path
			}
			settings = append(settings, st)
		}
	}
	c.PreRunE = func(*cobra.Command, []string) error { return readEnvironment(flags, settings, env) }
}

// complete makes the shell complete the values of a flag.
func complete(c *cobra.Command, flagName string, values ...string) {
	if err := c.RegisterFlagCompletionFunc(flagName, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag does not exist, or is completed twice
	}
}

// readEnvironment reads the environment variable of each setting whose flag is not given, and the
// files of secrets. Its errors name the setting and never quote a value, which may be a secret.
func readEnvironment(flags *pflag.FlagSet, settings []setting, env lookupEnv) error {
	var problems []error
	read := func(name string) string {
		f := flags.Lookup(name)
		text, ok := env(envName(name))
		if ok && !f.Changed && (text != "" || name == metricsAddr) {
			problems = append(problems, settingError(name, invalidValue(f.Value.Set(text))))
		}
		return f.Value.String()
	}
	for _, st := range settings {
		value := read(st.name)
		if !st.secret {
			continue
		}
		switch file := read(st.name + "-file"); {
		case file == "":
		case value != "":
			problems = append(problems, fmt.Errorf("%[1]s and %[1]s_FILE are both set", envName(st.name)))
		default:
			content, err := os.ReadFile(file) //nolint:gosec // G304: the operator names the file
			problems = append(problems, settingError(st.name+"-file", err), st.value.Set(strings.TrimRight(string(content), "\r\n")))
		}
	}
	return errors.Join(problems...)
}

// errWant says which values a setting takes. Its text does not contain the value that was given.
type errWant string

func (want errWant) Error() string { return "want " + string(want) }

// invalidValue returns an error that does not quote the value, as many errors of parsers do.
func invalidValue(err error) error {
	var want errWant
	if err == nil || errors.As(err, &want) {
		return err
	}
	return errors.New("not a valid value")
}

// value is the value of a setting. It implements [pflag.Value].
type value struct {
	kind string // stands for the value in the help. Words with | between them are all values.
	text string
	set  func(text string) error
}

// boolKind is the kind of a flag that may have no value.
const boolKind = "bool"

func (v *value) String() string { return v.text }
func (v *value) Type() string   { return v.kind }

func (v *value) Set(text string) error {
	err := v.set(text)
	if err == nil {
		v.text = text
	}
	return err
}

// parsed returns a value that is kept in dst.
func parsed[T any](dst *T, kind string, parse func(string) (T, error)) *value {
	return &value{kind: kind, set: func(text string) error {
		v, err := parse(text)
		if err == nil {
			*dst = v
		}
		return err
	}}
}

func text(dst *string, kind string) *value {
	return parsed(dst, kind, func(text string) (string, error) { return text, nil })
}

func number(dst *int) *value {
	return parsed(dst, "NUMBER", func(text string) (int, error) {
		n, err := strconv.ParseInt(text, 0, strconv.IntSize)
		return int(n), err
	})
}

func list(dst *[]string, kind string) *value {
	return parsed(dst, kind, func(text string) ([]string, error) { return splitList(text), nil })
}

// oneOf returns a value that must be one of the given ones.
func oneOf(dst *string, values ...string) *value {
	return parsed(dst, strings.Join(values, "|"), func(text string) (string, error) {
		if !slices.Contains(values, text) {
			last := len(values) - 1
			return "", errWant(strings.Join(values[:last], ", ") + " or " + values[last])
		}
		return text, nil
	})
}

// splitList returns the items of a comma-separated list.
func splitList(text string) (items []string) {
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// parsePrefixes parses a comma-separated list of CIDRs and single addresses.
func parsePrefixes(text string) (prefixes []netip.Prefix, err error) {
	for _, item := range splitList(text) {
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			ip, err := netip.ParseAddr(item)
			if err != nil {
				return nil, fmt.Errorf("%q: want a CIDR or an IP address", item)
			}
			prefix = netip.PrefixFrom(ip, ip.BitLen())
		}
		if ip := prefix.Addr(); ip.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(ip.Unmap(), prefix.Bits()-96) // addresses of clients are unmapped, too
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}
