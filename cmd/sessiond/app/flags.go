package app

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
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

// flags is a flag set that also reads the environment.
type flags struct {
	*flag.FlagSet
	secrets []secretFlag
}

// secretFlag is a setting whose value may also be read from a file.
type secretFlag struct {
	name        string
	value, file *string
}

func newFlags(verb string, stderr io.Writer) *flags {
	fs := flag.NewFlagSet("sessiond "+verb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	return &flags{FlagSet: fs}
}

func (f *flags) secret(dst *string, name, help string) {
	f.StringVar(dst, name, "", help)
	f.secrets = append(f.secrets, secretFlag{name, dst, f.String(name+"-file", "", "file that contains the value of --"+name)})
}

// parse reads the arguments, and an environment variable for each flag that they do not set. Its
// errors name the setting and never quote a value, which may be a secret.
func (f *flags) parse(args []string, env lookupEnv) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	var problems []error
	f.VisitAll(func(fl *flag.Flag) {
		name := envName(fl.Name)
		value, ok := env(name)
		if !ok || given[fl.Name] || value == "" && fl.Name != metricsAddr {
			return
		}
		if err := f.Set(fl.Name, value); err != nil {
			problems = append(problems, fmt.Errorf("%s: not a valid value", name))
		}
	})
	for _, secret := range f.secrets {
		name := envName(secret.name)
		switch {
		case *secret.file == "":
		case *secret.value != "":
			problems = append(problems, fmt.Errorf("%s and %s_FILE are both set", name, name))
		default:
			content, err := os.ReadFile(*secret.file)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s_FILE: %w", name, err))
			}
			*secret.value = strings.TrimRight(string(content), "\r\n")
		}
	}
	return errors.Join(problems...)
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
