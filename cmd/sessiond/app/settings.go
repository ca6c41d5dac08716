package app

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/sessiond/sessiond/api"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// All values of --max-sessions-policy, --breached-policy and --limits.
const (
	maxSessionsEndOldest = "end-oldest"
	maxSessionsRefuse    = "refuse"
	breachedAllow        = "allow"
	breachedRefuse       = "refuse"
	limitsOn             = "on"
	limitsOff            = "off"
)

// forwardedHeaders maps each value of --forwarded to the header that it means.
var forwardedHeaders = map[string]string{"x-forwarded-for": api.XForwardedFor, "forwarded": api.Forwarded}

const (
	registrationOpen   = "open"
	registrationClosed = "closed"

	// reservedNames are names that people take for those of the service or of its operators.
	reservedNames = "abuse,account,accounts,admin,administrator,anonymous,api,helpdesk,hostmaster,mailer-daemon,moderator,nobody,noreply,null,operator,owner,postmaster,root,security,sessiond,staff,superuser,support,sysadmin,system,undefined,webmaster,www"
)

// withoutMail says what happens if SMTP_URL is not set.
const withoutMail = "no mail is sent; POST /forgotPassword, /v1/password-resets and /v1/users return 503, " +
	"and with SESSIOND_HIDE_ACCOUNTS POST /registerUser too; no email address is ever confirmed"

// Settings holds the values of the flags and environment variables. A flag wins over its variable.
type Settings struct {
	// Settings of the HTTP servers and the log.
	Addr, MetricsAddr, PublicURL string
	TrustedProxies               []netip.Prefix
	Forwarded                    string
	CORSOrigins, CORSHeaders     []string
	ShutdownDelay                time.Duration
	LogLevel                     string

	// Settings of Postgres and Redis. `sessiond dev` uses the directory Data instead of their URLs.
	Data                  string
	DatabaseURL, RedisURL string
	DatabaseMaxConns      int
	RedisPrefix           string
	AllowPlaintext        bool

	// Settings of tokens and sessions.
	Issuer, Audience                              string
	SigningKeysFile, ClientsFile                  string
	AccessTokenTTL, SessionIdleTTL, SessionMaxTTL time.Duration
	RefreshGrace, ReauthMaxAge                    time.Duration
	MaxSessions                                   int
	MaxSessionsPolicy                             string
	ClassicRoutes, Registration                   string
	RegistrationDomains, ReservedNames            []string
	HistoryRetention, AddressRetention            time.Duration

	// Settings of passwords and of the protection of accounts.
	BcryptCost, PasswordMinLength int
	PasswordPepperFile            string
	BreachedURL, BreachedPolicy   string
	HideAccounts                  bool
	Limits                        string
	Rules                         limit.Rules

	// Settings of mail.
	SMTPURL, MailFrom   string
	ResetTTL            time.Duration
	ResetURL, VerifyURL string
}

// common adds the flags that the verbs dev, serve and doctor share.
func (s *Settings) common(f *flags) {
	f.StringVar(&s.PublicURL, "public-url", "", "URL at which clients reach the service; links in mails start with it")
	f.StringVar(&s.Issuer, "issuer", "", "issuer: the iss claim of access tokens")
	f.StringVar(&s.Audience, "audience", "", "comma-separated audiences: the aud claim of access tokens; the service itself accepts tokens for the first one (default: the issuer)")
	f.StringVar(&s.Forwarded, "forwarded", "x-forwarded-for", "header in which the trusted proxies report the client's address: x-forwarded-for, or forwarded (RFC 7239)")
	f.Func("trusted-proxies", "comma-separated CIDRs of the proxies whose --forwarded header is trusted (default: none)", func(text string) (err error) {
		s.TrustedProxies, err = parsePrefixes(text)
		return err
	})
	f.Func("cors-origins", "comma-separated origins whose pages may call the service from a browser (default: none)", func(text string) error {
		s.CORSOrigins = splitList(text)
		return nil
	})
	f.Func("cors-headers", "comma-separated request headers that pages of --cors-origins may send, in addition to those of the service, such as traceparent (default: none)", func(text string) error {
		s.CORSHeaders = splitList(text)
		return nil
	})
	f.StringVar(&s.LogLevel, "log-level", "info", "lowest level that is logged: debug, info, warn or error")
	f.DurationVar(&s.AccessTokenTTL, "access-token-ttl", time.Hour, "lifetime of an access token, at most 24h")
	f.DurationVar(&s.SessionIdleTTL, "session-idle-ttl", 720*time.Hour, "time after which a session expires if the client does not refresh it")
	f.DurationVar(&s.SessionMaxTTL, "session-max-ttl", 2160*time.Hour, "time after the login at which a session expires, even if the client refreshes it")
	s.RefreshGrace = issuer.NoRefreshLimit
	f.Func("refresh-grace", "how long a client may repeat a refresh whose reply was lost, at most 5m; 0: not at all; unused: until the new token was used (default unused)",
		func(value string) (err error) {
			if value != "unused" {
				s.RefreshGrace, err = time.ParseDuration(value)
			}
			return err
		})
	f.DurationVar(&s.ReauthMaxAge, "reauth-max-age", 10*time.Minute, "maximum age of the last password check for sensitive calls; 0: no limit")
	f.StringVar(&s.Registration, "registration", registrationOpen, "whether people can register by themselves: open or closed")
	f.Func("registration-domains", "comma-separated domains of the email addresses that people may register with or change to (default: all)", func(text string) error {
		s.RegistrationDomains = splitList(text)
		return nil
	})
	s.ReservedNames = splitList(reservedNames)
	f.Func("reserved-names", "comma-separated usernames that nobody can register (default: "+strings.ReplaceAll(reservedNames, ",", ", ")+")", func(text string) error {
		s.ReservedNames = splitList(text)
		return nil
	})
	f.StringVar(&s.ClassicRoutes, "classic-routes", string(api.ClassicStrict), "routes that are older than /v1, such as /loginUser: strict (sensitive calls need a recent sign-in or the password), on (they need only an access token) or off (404)")
	f.IntVar(&s.MaxSessions, "max-sessions", 100, "maximum number of active sessions per user; 0: no limit")
	f.StringVar(&s.MaxSessionsPolicy, "max-sessions-policy", maxSessionsEndOldest, "what happens to a login if the user already has --max-sessions sessions: refuse (it is refused) or end-oldest (the oldest session is revoked)")
	f.DurationVar(&s.HistoryRetention, "history-retention", 9600*time.Hour, "how long logins, failed logins and audit events are kept; a session that is not over stays")
	f.DurationVar(&s.AddressRetention, "address-retention", 2160*time.Hour, "how long a login keeps its full address and user agent; then the network (/24 or /48) and the device remain")
	f.IntVar(&s.BcryptCost, "bcrypt-cost", 10, "bcrypt cost of new password hashes, 10 to 14")
	f.StringVar(&s.PasswordPepperFile, "password-pepper-file", "", "file of peppers (secret keys for password hashes), one id:base64 per line; new hashes use the first pepper")
	f.IntVar(&s.PasswordMinLength, "password-min-length", 8, "minimum number of characters in a new password, 8 to 64")
	f.StringVar(&s.BreachedURL, "breached-url", "", "range URL of a breached-password service, such as https://api.pwnedpasswords.com/range/ (default: new passwords are not checked)")
	f.StringVar(&s.BreachedPolicy, "breached-policy", breachedAllow, "with --breached-url: whether to allow or refuse a new password while the breached-password service does not answer")
	f.DurationVar(&s.ResetTTL, "reset-ttl", 10*time.Minute, "lifetime of a password reset link, at most 10m")
	f.StringVar(&s.ResetURL, "reset-url", "", "URL of your page that password reset links open (default: PUBLIC_URL/reset, which returns JSON)")
	f.StringVar(&s.VerifyURL, "verify-url", "", "URL of your page that email confirmation links open (default: PUBLIC_URL/verify)")
	f.StringVar(&s.ClientsFile, "clients-file", "", "path of the file of clients that may introspect tokens; 'sessiond clients add' writes this file")
	f.StringVar(&s.Limits, "limits", limitsOn, "rate limits: on or off; off is for tests and benchmarks only, because passwords can then be guessed without limit")
	s.Rules = limit.Defaults()
	for _, rule := range s.Rules.All() {
		f.TextVar(rule, "limit-"+rule.Name, *rule, "BURST/PERIOD of a rate limit: that many at once, and one more each period; it counts "+rule.Counts)
	}
	f.BoolVar(&s.HideAccounts, "hide-accounts", false, "do not reveal whether an account exists on the routes that are older than /v1, such as /registerUser")
}

// database adds the flags of every verb that uses Postgres.
func (s *Settings) database(f *flags) {
	f.secret(&s.DatabaseURL, "database-url", "URL of PostgreSQL: postgres://user:password@host/db?sslmode=verify-full")
	f.IntVar(&s.DatabaseMaxConns, "database-max-conns", 20, "maximum number of connections of one replica to the database, besides two that ask which Redis counts")
	f.BoolVar(&s.AllowPlaintext, "allow-plaintext", false, "allow unencrypted connections to hosts that are neither loopback nor private")
}

// production adds the flags that the verbs serve and doctor have, but dev does not.
func (s *Settings) production(f *flags) {
	s.database(f)
	f.StringVar(&s.Addr, "addr", ":8080", "address to listen on")
	f.StringVar(&s.MetricsAddr, metricsAddr, "127.0.0.1:9090", "address that serves /metrics; empty: /metrics is not served")
	f.secret(&s.RedisURL, "redis-url", "URL of Redis: rediss://user:password@host:6379, or redis+sentinel:// or redis+cluster://")
	f.StringVar(&s.RedisPrefix, "redis-prefix", "", "prefix of every Redis key that sessiond uses")
	f.StringVar(&s.SigningKeysFile, "signing-keys-file", "", "file of the signing keys, which the command sessiond keys new creates")
	f.secret(&s.SMTPURL, "smtp-url", "URL of the mail server: smtp://user:password@host:587 or smtps://; without it, "+withoutMail)
	f.StringVar(&s.MailFrom, "mail-from", "", "sender address of all mails; required with --smtp-url")
	f.DurationVar(&s.ShutdownDelay, "shutdown-delay", 0, "how long to serve after SIGTERM while /readyz returns 503 and responses close their connections, because load balancers need time to notice")
}

// check returns an error with one line for each setting that is contradictory or unsafe.
func (s *Settings) check() error {
	var problems []error
	refuse := func(setting, format string, args ...any) {
		problems = append(problems, fmt.Errorf(envPrefix+setting+": "+format, args...))
	}
	const unlimited = math.MaxInt64
	for _, c := range []struct {
		setting            string
		value, least, most time.Duration
	}{
		{"ACCESS_TOKEN_TTL", s.AccessTokenTTL, time.Second, session.MaxAccessTTL}, // a session may last longer than its access token, because the client gets new ones
		{"SESSION_IDLE_TTL", s.SessionIdleTTL, time.Second, s.SessionMaxTTL},
		{"SESSION_MAX_TTL", s.SessionMaxTTL, time.Second, unlimited},
		{"REFRESH_GRACE", s.RefreshGrace, issuer.NoRefreshLimit, 5 * time.Minute},
		{"REAUTH_MAX_AGE", s.ReauthMaxAge, 0, unlimited},
		{"HISTORY_RETENTION", s.HistoryRetention, time.Minute, unlimited},
		{"ADDRESS_RETENTION", s.AddressRetention, time.Minute, unlimited},
		{"RESET_TTL", s.ResetTTL, time.Second, 10 * time.Minute}, // OWASP ASVS 6.5.5 allows at most 10 minutes
	} {
		switch {
		case c.value < c.least:
			refuse(c.setting, "want at least %v", c.least)
		case c.value > c.most:
			refuse(c.setting, "want at most %v", c.most)
		}
	}
	if s.Audience != "" && splitList(s.Audience) == nil {
		refuse("AUDIENCE", "want at least one audience")
	}
	if s.MaxSessions < 0 {
		refuse("MAX_SESSIONS", "want 0 or more")
	}
	switch api.ClassicRoutes(s.ClassicRoutes) {
	case api.ClassicStrict, api.ClassicOn, api.ClassicOff:
	default:
		refuse("CLASSIC_ROUTES", "want %s, %s or %s", api.ClassicStrict, api.ClassicOn, api.ClassicOff)
	}
	if s.SMTPURL != "" && s.ResetURL == "" && s.ClassicRoutes == string(api.ClassicOff) {
		refuse("RESET_URL", "required with CLASSIC_ROUTES=off, because mailed links to reset a password would lead nowhere")
	}
	for _, network := range s.TrustedProxies {
		if network.Bits() == 0 {
			refuse("TRUSTED_PROXIES", "%v would let every client choose its own address; list the networks of your proxies", network)
		}
	}
	if s.PasswordMinLength < 8 || s.PasswordMinLength > 64 {
		refuse("PASSWORD_MIN_LENGTH", "want 8 to 64")
	}
	for _, c := range []struct{ setting, value, first, second string }{
		{"MAX_SESSIONS_POLICY", s.MaxSessionsPolicy, maxSessionsEndOldest, maxSessionsRefuse},
		{"BREACHED_POLICY", s.BreachedPolicy, breachedAllow, breachedRefuse},
		{"LIMITS", s.Limits, limitsOn, limitsOff},
		{"REGISTRATION", s.Registration, registrationOpen, registrationClosed},
	} {
		if c.value != c.first && c.value != c.second {
			refuse(c.setting, "want %s or %s", c.first, c.second)
		}
	}
	for setting, text := range map[string]string{"PUBLIC_URL": s.PublicURL, "RESET_URL": s.ResetURL, "VERIFY_URL": s.VerifyURL, "BREACHED_URL": s.BreachedURL} {
		if text != "" && !isWebURL(text) {
			refuse(setting, "want an http or https URL")
		}
	}
	for setting, text := range map[string]string{
		"PUBLIC_URL":   s.PublicURL,   // paths such as /reset are appended to this URL
		"ISSUER":       s.Issuer,      // RFC 8414, section 2: an issuer has no query or fragment
		"BREACHED_URL": s.BreachedURL, // the first characters of a hash are appended to this URL
	} {
		if strings.ContainsAny(text, "?#") {
			refuse(setting, "want a URL without query and fragment")
		}
	}
	for i, text := range s.CORSOrigins {
		origin, ok := browserOrigin(text)
		if !ok {
			refuse("CORS_ORIGINS", "%q: want an origin such as https://app.example.com", text)
		}
		s.CORSOrigins[i] = origin
	}
	for _, name := range s.CORSHeaders {
		if !headerName.MatchString(name) {
			refuse("CORS_HEADERS", "%q: want the name of a header such as traceparent", name)
		}
	}
	if forwardedHeaders[s.Forwarded] == "" {
		refuse("FORWARDED", "want x-forwarded-for or forwarded")
	}
	s.PublicURL = strings.TrimRight(s.PublicURL, "/")
	return errors.Join(problems...)
}

// require takes pairs of a flag's name and its value, and returns an error that names those
// without a value.
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

// headerName matches the name of an HTTP header (RFC 9110 section 5.6.2), but not "*".
var headerName = regexp.MustCompile(`^[!#$%&'+.^_|~0-9A-Za-z` + "`" + `-]+$`)

// browserOrigin returns an origin as browsers write it: in lower case and without a default port.
func browserOrigin(text string) (origin string, ok bool) {
	u, err := url.Parse(strings.ToLower(text))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Scheme+"://"+u.Host != strings.ToLower(text) || u.Hostname() == "" ||
		strings.Contains(text, "*") || strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) {
		return "", false
	}
	if port := u.Port(); port == "" || port == map[string]string{"https": "443", "http": "80"}[u.Scheme] {
		u.Host = strings.TrimSuffix(strings.TrimSuffix(u.Host, port), ":")
	}
	return u.Scheme + "://" + u.Host, true
}

// checkLoopback returns an error for an address that other machines can reach.
func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("SESSIOND_ADDR: %q: want host:port", addr)
	}
	if isLoopback(host) {
		return nil
	}
	return fmt.Errorf("SESSIOND_ADDR: %q: dev listens on loopback only; use serve", host)
}
