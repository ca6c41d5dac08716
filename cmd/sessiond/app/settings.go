package app

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sessiond/sessiond/session"
)

// envPrefix is the prefix of every environment variable that is a setting.
const envPrefix = "SESSIOND_"

// metricsAddr is the only setting with a default that may be set to nothing in
// the environment: of any other, an empty value is the same as none.
const metricsAddr = "metrics-addr"

// What a login beyond MAX_SESSIONS does.
const (
	endOldest   = "end-oldest"
	refuseLogin = "refuse"
)

// What becomes of a new password while BREACHED_URL does not answer.
const (
	allowUnchecked  = "allow"
	refuseUnchecked = "refuse"
)

// Whether there are limits.
const (
	limitsOn  = "on"
	limitsOff = "off"
)

// withoutMail is what a missing SMTP_URL means.
const withoutMail = "no mail is sent; POST /forgotPassword, /v1/password-resets and /v1/users answer 503, " +
	"and with SESSIOND_HIDE_ACCOUNTS POST /registerUser too"

// Settings are everything that can be set. A flag wins over the environment.
type Settings struct {
	// Where it listens and what it is called.
	Addr, MetricsAddr  string
	PublicURL          string
	Issuer, Audience   string
	TrustedProxies     prefixes
	CORSOrigins        words
	ShutdownDelay      time.Duration
	LogLevel           string
	DataDir            string // dev only
	AllowPlaintext     bool
	DatabaseURL        string
	DatabaseMaxConns   int
	RedisURL           string
	RedisPrefix        string
	SigningKeysFile    string
	AccessTokenTTL     time.Duration
	SessionIdleTTL     time.Duration
	SessionMaxTTL      time.Duration
	RefreshGrace       time.Duration
	ReauthMaxAge       time.Duration
	MaxSessions        int
	WhenFull           string
	BcryptCost         int
	PasswordPepperFile string
	PasswordMinLength  int
	BreachedURL        string
	WhenUnchecked      string
	ResetTTL           time.Duration
	ResetURL           string
	VerifyURL          string
	SMTPURL            string
	MailFrom           string
	HideAccounts       bool
	ClientsFile        string
	Limits             string
}

// flags is a flag set that also reads the environment.
type flags struct {
	*flag.FlagSet
	secrets map[string]*string // flag name → where its value goes
	files   map[string]*string // the same names → the file given for it
}

func newFlags(verb string, stderr io.Writer) *flags {
	fs := flag.NewFlagSet("sessiond "+verb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	return &flags{FlagSet: fs, secrets: map[string]*string{}, files: map[string]*string{}}
}

// secret adds a setting that may also be given as the name of a file that holds it.
func (f *flags) secret(into *string, name, help string) {
	f.StringVar(into, name, "", help)
	f.secrets[name], f.files[name] = into, f.String(name+"-file", "", "file that holds --"+name)
}

// parse reads the arguments and, for what they leave out, the environment. An
// error names the setting and never quotes a secret.
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
	for name, into := range f.secrets {
		file := *f.files[name]
		switch {
		case file == "":
		case *into != "":
			problems = append(problems, fmt.Errorf("%s and %s_FILE are both set", envName(name), envName(name)))
		default:
			content, err := os.ReadFile(file) //nolint:gosec // G304: the operator names the file
			if err != nil {
				problems = append(problems, fmt.Errorf("%s_FILE: %w", envName(name), err))
				continue
			}
			*into = strings.TrimRight(string(content), "\r\n")
		}
	}
	return errors.Join(problems...)
}

func envName(flagName string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// common adds what dev and serve share.
func (s *Settings) common(f *flags) {
	f.StringVar(&s.PublicURL, "public-url", "", "where clients reach the service; links in mails begin with it")
	f.StringVar(&s.Issuer, "issuer", "", "iss of the tokens")
	f.StringVar(&s.Audience, "audience", "", "aud of the tokens (default: the issuer)")
	f.Var(&s.TrustedProxies, "trusted-proxies", "CIDRs of the proxies whose X-Forwarded-For is believed (default: none)")
	f.Var(&s.CORSOrigins, "cors-origins", "origins that may call from a browser (default: none)")
	f.StringVar(&s.LogLevel, "log-level", "info", "debug, info, warn or error")
	f.DurationVar(&s.AccessTokenTTL, "access-token-ttl", time.Hour, "how long an access token lasts")
	f.DurationVar(&s.SessionIdleTTL, "session-idle-ttl", 720*time.Hour, "a session that is not refreshed for so long ends")
	f.DurationVar(&s.SessionMaxTTL, "session-max-ttl", 2160*time.Hour, "every session ends so long after its login")
	f.DurationVar(&s.RefreshGrace, "refresh-grace", 30*time.Second, "how long a refresh can be asked for again; 0: never")
	f.DurationVar(&s.ReauthMaxAge, "reauth-max-age", 10*time.Minute, "how recent a proof of identity what matters most on /v1 wants; 0: any age")
	f.IntVar(&s.MaxSessions, "max-sessions", 0, "most active sessions of a user; 0: any number")
	f.StringVar(&s.WhenFull, "max-sessions-policy", endOldest, "refuse or end-oldest: what a login beyond --max-sessions does")
	f.IntVar(&s.BcryptCost, "bcrypt-cost", 10, "cost of password hashes, 10 to 14")
	f.StringVar(&s.PasswordPepperFile, "password-pepper-file", "", "file of peppers, id:base64 a line; the first one hashes")
	f.IntVar(&s.PasswordMinLength, "password-min-length", 8, "least characters of a password, 8 or more")
	f.StringVar(&s.BreachedURL, "breached-url", "", "range check of a service that knows breached passwords, such as https://api.pwnedpasswords.com/range/ (default: none)")
	f.StringVar(&s.WhenUnchecked, "breached-policy", allowUnchecked, "allow or refuse: what becomes of a new password while --breached-url does not answer")
	f.DurationVar(&s.ResetTTL, "reset-ttl", 10*time.Minute, "how long a password reset link is good, at most 10m")
	f.StringVar(&s.ResetURL, "reset-url", "", "page of yours that reset links lead to (default: PUBLIC_URL/reset, which answers JSON)")
	f.StringVar(&s.VerifyURL, "verify-url", "", "page of yours that address confirmation links lead to (default: PUBLIC_URL/verify)")
	f.StringVar(&s.ClientsFile, "clients-file", "", "who may introspect; made by sessiond clients add")
	f.StringVar(&s.Limits, "limits", limitsOn, "on; or off, for tests and benchmarks: passwords can be guessed without end")
	f.BoolVar(&s.HideAccounts, "hide-accounts", false, "the classic routes no longer tell whether an account exists")
}

// stores adds where Postgres is, for every verb that needs it.
func (s *Settings) database(f *flags) {
	f.secret(&s.DatabaseURL, "database-url", "postgres://user:password@host/db?sslmode=verify-full")
	f.IntVar(&s.DatabaseMaxConns, "database-max-conns", 20, "most connections to the database")
	f.BoolVar(&s.AllowPlaintext, "allow-plaintext", false, "allow unencrypted connections to hosts that are neither loopback nor private")
}

// production adds what only serve and doctor take.
func (s *Settings) production(f *flags) {
	s.database(f)
	f.StringVar(&s.Addr, "addr", ":8080", "where to listen")
	f.StringVar(&s.MetricsAddr, metricsAddr, ":9090", "where /metrics is served; empty: nowhere")
	f.secret(&s.RedisURL, "redis-url", "rediss://user:password@host:6379, or redis+sentinel:// or redis+cluster://")
	f.StringVar(&s.RedisPrefix, "redis-prefix", "", "put before every key")
	f.StringVar(&s.SigningKeysFile, "signing-keys-file", "", "made by sessiond keys new")
	f.secret(&s.SMTPURL, "smtp-url", "smtp://user:password@host:587 or smtps://; without it "+withoutMail)
	f.StringVar(&s.MailFrom, "mail-from", "", "sender of the mails")
	f.DurationVar(&s.ShutdownDelay, "shutdown-delay", 0, "on SIGTERM, go on serving for so long while /readyz says no")
}

// check refuses what is contradictory or unsafe, with one line for each setting.
func (s *Settings) check() error {
	var problems []error
	refuse := func(setting, format string, args ...any) {
		problems = append(problems, fmt.Errorf(envPrefix+setting+": "+format, args...))
	}
	for setting, d := range map[string]time.Duration{
		"ACCESS_TOKEN_TTL": s.AccessTokenTTL, "SESSION_IDLE_TTL": s.SessionIdleTTL,
		"SESSION_MAX_TTL": s.SessionMaxTTL, "RESET_TTL": s.ResetTTL,
	} {
		if d < time.Second {
			refuse(setting, "is less than a second")
		}
	}
	if s.AccessTokenTTL > session.MaxAccessTTL {
		refuse("ACCESS_TOKEN_TTL", "is more than a day; sessions are prolonged by refreshing")
	}
	if s.SessionIdleTTL > s.SessionMaxTTL {
		refuse("SESSION_IDLE_TTL", "is more than SESSION_MAX_TTL")
	}
	if s.RefreshGrace < 0 || s.RefreshGrace > 5*time.Minute {
		refuse("REFRESH_GRACE", "is not between 0 and 5m")
	}
	if s.ReauthMaxAge < 0 {
		refuse("REAUTH_MAX_AGE", "is negative")
	}
	if s.MaxSessions < 0 {
		refuse("MAX_SESSIONS", "is negative")
	}
	if s.WhenFull != endOldest && s.WhenFull != refuseLogin {
		refuse("MAX_SESSIONS_POLICY", "is neither refuse nor end-oldest")
	}
	if strings.ContainsAny(s.BreachedURL, "?#") {
		refuse("BREACHED_URL", "has more than a path, to which the beginning of a hash is appended")
	}
	if s.WhenUnchecked != allowUnchecked && s.WhenUnchecked != refuseUnchecked {
		refuse("BREACHED_POLICY", "is neither allow nor refuse")
	}
	if s.Limits != limitsOn && s.Limits != limitsOff {
		refuse("LIMITS", "is neither on nor off")
	}
	if s.ResetTTL > 10*time.Minute {
		refuse("RESET_TTL", "is more than 10m (ASVS 6.5.5)")
	}
	if s.PasswordMinLength < 8 || s.PasswordMinLength > 64 {
		refuse("PASSWORD_MIN_LENGTH", "is not between 8 and 64")
	}
	for setting, text := range map[string]string{"PUBLIC_URL": s.PublicURL, "RESET_URL": s.ResetURL, "VERIFY_URL": s.VerifyURL, "BREACHED_URL": s.BreachedURL} {
		if text != "" && !isWebURL(text) {
			refuse(setting, "is not an http or https URL")
		}
	}
	for setting, text := range map[string]string{"PUBLIC_URL": s.PublicURL, "ISSUER": s.Issuer} {
		if strings.ContainsAny(text, "?#") {
			refuse(setting, "has a query or a fragment (RFC 8414)")
		}
	}
	for _, o := range s.CORSOrigins {
		if u, err := url.Parse(o); err != nil || u.Host == "" || u.Path != "" || (u.Scheme != "https" && u.Scheme != "http") || strings.Contains(o, "*") {
			refuse("CORS_ORIGINS", "%q is not an origin such as https://app.example.com", o)
		}
	}
	s.PublicURL = strings.TrimRight(s.PublicURL, "/")
	return errors.Join(problems...)
}

// require names the settings that are missing.
func (s *Settings) require(pairs ...string) error {
	var problems []error
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			problems = append(problems, fmt.Errorf("%s is required", envName(pairs[i])))
		}
	}
	return errors.Join(problems...)
}

func isWebURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http")
}

// checkLoopback refuses to listen where others can reach.
func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("--addr: %q is not host:port", addr)
	}
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("--addr: dev listens on loopback only, and %q is not; use serve", host)
}

// words is a comma-separated list.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

func (w *words) Set(text string) error {
	*w = nil
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			*w = append(*w, word)
		}
	}
	return nil
}

// prefixes is a comma-separated list of CIDRs or single addresses.
type prefixes []netip.Prefix

func (p *prefixes) String() string {
	var w words
	for _, prefix := range *p {
		w = append(w, prefix.String())
	}
	return w.String()
}

func (p *prefixes) Set(text string) error {
	var w words
	_ = w.Set(text)
	*p = nil
	for _, word := range w {
		prefix, err := netip.ParsePrefix(word)
		if err != nil {
			ip, err := netip.ParseAddr(word)
			if err != nil {
				return fmt.Errorf("%q is neither a CIDR nor an address", word)
			}
			prefix = netip.PrefixFrom(ip, ip.BitLen())
		}
		*p = append(*p, prefix.Masked())
	}
	return nil
}
