package app

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
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
	Addr, AdminAddr, CheckAddr, ExtAuthzAddr, MetricsAddr, PublicURL string
	TrustedProxies                                                   []netip.Prefix
	Forwarded                                                        string
	CORSOrigins, CORSHeaders                                         []string
	ShutdownDelay                                                    time.Duration
	LogLevel                                                         string
	Pprof                                                            bool

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
	AuditLog                                      string

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

	// Settings of `sessiond import`.
	ImportFile, ImportFormat string

	secretPaths map[string]*string // of the files that hold the values of secrets, by flag; addFlags sets it
}

// The verbs that take a setting.
var (
	inService    = []string{serveVerb, devVerb}
	inProduction = []string{serveVerb}
	withDatabase = []string{serveVerb, migrateVerb, importVerb, adminVerb}
	withRedis    = []string{serveVerb, adminVerb}
	withPeppers  = []string{serveVerb, devVerb, importVerb, adminVerb}
)

// groups declares all settings. The flags, the environment variables, the help and the tables in
// settings.md come from here.
func (s *Settings) groups() []group {
	return []group{
		{"HTTP", []setting{
			{name: "addr", value: text(&s.Addr, "ADDRESS"), def: ":8080", devDef: "127.0.0.1:8080", verbs: inService, meaning: "listening address. `dev` listens on loopback only"},
			{name: "admin-addr", value: text(&s.AdminAddr, "ADDRESS"), shown: "none", verbs: inProduction, meaning: "listening address of the routes for operators, `/v1/admin`. Then `--addr` does not serve them; empty: it does"},
			{name: "check-addr", value: text(&s.CheckAddr, "ADDRESS"), shown: "none", verbs: inProduction, meaning: "listening address for gateways, with `/v1/verify` and `/livez` alone. A check costs less there than at `--addr`, which serves it, too"},
			{name: "ext-authz-addr", value: text(&s.ExtAuthzAddr, "ADDRESS"), shown: "none", verbs: inProduction, meaning: "listening address for gateways that ask by gRPC: Envoy's `ext_authz`, version 3"},
			{name: metricsAddr, value: text(&s.MetricsAddr, "ADDRESS"), def: "127.0.0.1:9090", verbs: inProduction, meaning: "listening address of `/metrics`, for example `:9090` if Prometheus runs elsewhere; empty: no metrics"},
			{name: "public-url", value: text(&s.PublicURL, "URL"), required: true, verbs: inService, meaning: "the URL at which clients reach the service; links in mails begin with it"},
			{name: "trusted-proxies", value: parsed(&s.TrustedProxies, "CIDRS", parsePrefixes), verbs: inService, meaning: "comma-separated CIDRs of proxies whose header `--forwarded` is trusted"},
			{
				name: "forwarded", value: oneOf(&s.Forwarded, "x-forwarded-for", "forwarded"), def: "x-forwarded-for", verbs: inService,
				meaning: "the header in which these proxies report the client's address: `x-forwarded-for`, or `forwarded` (RFC 7239). Ports, brackets and quotes are understood. If a proxy reports nothing that can be read, its clients share its own address in the limits: the log warns once, and `sessiond_client_address_unreadable_total` counts",
			},
			{name: "cors-origins", value: list(&s.CORSOrigins, "ORIGINS"), verbs: inService, meaning: "comma-separated origins that may call from a browser and read `x-auth-token`. A default port is ignored, as browsers do"},
			{name: "cors-headers", value: list(&s.CORSHeaders, "HEADERS"), verbs: inService, meaning: "comma-separated request headers that these origins may send in addition to those of the service, such as `traceparent,baggage`"},
			{
				name: "classic-routes", value: oneOf(&s.ClassicRoutes, string(api.ClassicStrict), string(api.ClassicOn), string(api.ClassicOff)), def: string(api.ClassicStrict), verbs: inService,
				meaning: "the classic routes, such as `/loginUser`. `strict`: changing the password or the email, deleting the account and revoking all logins require a sign-in within `--reauth-max-age` or `current_password`; `on`: they require only an access token, so a stolen one is the account; `off`: the routes answer 404 and are not in `/docs`",
			},
		}},
		{"Stores", []setting{
			//nolint:gosec // G101: an example
			{name: "database-url", value: text(&s.DatabaseURL, "URL"), required: true, secret: true, verbs: withDatabase, meaning: "`postgres://user:password@host/db`, with [parameters](#parameters-of-the-database-url); without `sslmode` it is `verify-full`"},
			{name: "database-max-conns", value: number(&s.DatabaseMaxConns), def: "20", verbs: withDatabase, meaning: "maximum number of connections of one replica to the database. Two more ask which Redis counts"},
			{name: "redis-url", value: text(&s.RedisURL, "URL"), required: true, secret: true, verbs: withRedis, meaning: "`rediss://user:password@host:6379`, `redis://`, `redis+sentinel://` or `redis+cluster://`; with `?ca_file=FILE` TLS trusts only the authorities in a PEM file"},
			{name: "redis-prefix", value: text(&s.RedisPrefix, "PREFIX"), verbs: withRedis, meaning: "prefix of every key in Redis"},
			{name: "allow-plaintext", value: parsed(&s.AllowPlaintext, boolKind, strconv.ParseBool), def: "false", verbs: withDatabase, meaning: "allow unencrypted connections to hosts that are neither loopback nor private"},
			{
				name: "data", value: text(&s.Data, "DIR"), devDef: ".sessiond", shown: "`.sessiond` in dev", verbs: withData,
				meaning: "directory of the SQLite database, the signing key, and the file of mails of `dev`. `admin` and `clients` work on it instead of `--database-url`",
			},
		}},
		{"Tokens and sessions", []setting{
			{name: "signing-keys-file", value: text(&s.SigningKeysFile, "FILE"), required: true, verbs: inProduction, meaning: "created by `sessiond keys new`; a change is picked up within a second"},
			{name: "issuer", value: text(&s.Issuer, "URL"), required: true, verbs: inService, meaning: "`iss` of the tokens"},
			{name: "audience", value: text(&s.Audience, "AUDIENCES"), shown: "the issuer", verbs: inService, meaning: "comma-separated audiences: `aud` of the tokens. The service itself accepts tokens for the first one; another verifier names its own"},
			{name: "access-token-ttl", value: parsed(&s.AccessTokenTTL, "DURATION", time.ParseDuration), def: "1h", verbs: inService, meaning: "lifetime of an access token, at most a day"},
			{name: "session-idle-ttl", value: parsed(&s.SessionIdleTTL, "DURATION", time.ParseDuration), def: "720h", verbs: inService, meaning: "a session ends if it is not refreshed for this long"},
			{name: "session-max-ttl", value: parsed(&s.SessionMaxTTL, "DURATION", time.ParseDuration), def: "2160h", verbs: inService, meaning: "a session ends this long after its login"},
			{
				name: "refresh-grace", value: parsed(&s.RefreshGrace, "DURATION", parseRefreshGrace), def: "unused", verbs: inService,
				meaning: "until when a client may fetch a lost refresh reply again. `unused`: until the new token was used; or a duration of at most `5m`, after which such a client is signed out; `0`: never",
			},
			{
				name: "reauth-max-age", value: parsed(&s.ReauthMaxAge, "DURATION", time.ParseDuration), def: "10m", verbs: inService,
				meaning: "maximum age of the last password check for changing the password or the email, deleting the account, and revoking another session, the others or all; `0`: no limit",
			},
			{name: "max-sessions", value: number(&s.MaxSessions), def: "100", verbs: inService, meaning: "maximum number of active sessions of a user; `0`: no limit"},
			{
				name: "max-sessions-policy", value: oneOf(&s.MaxSessionsPolicy, maxSessionsEndOldest, maxSessionsRefuse), def: maxSessionsEndOldest, verbs: inService,
				meaning: "what a login beyond `--max-sessions` does: `end-oldest` ends the oldest session, `refuse` refuses the login",
			},
			{name: "clients-file", value: text(&s.ClientsFile, "FILE"), verbs: inService, meaning: "clients that may introspect tokens, in addition to those in the database; written by `sessiond clients add --file`"},
		}},
		{"History", []setting{
			{
				name: "history-retention", value: parsed(&s.HistoryRetention, "DURATION", time.ParseDuration), def: "9600h", verbs: inService,
				meaning: "how long logins (counted from the login), failed logins and audit events are kept, at least `1m`. A session that is not over stays",
			},
			{
				name: "address-retention", value: parsed(&s.AddressRetention, "DURATION", time.ParseDuration), def: "2160h", verbs: inService,
				meaning: "how long a login keeps its full address and user agent, at least `1m`. Then the network (/24 or /48) and the name of the device remain",
			},
			{
				name: "audit-log", value: text(&s.AuditLog, "FILE"), shown: "none", verbs: inService,
				meaning: "file to which audit events are also appended as lines of JSON; `-`: standard output. Each event is written by one replica ([operations.md](operations.md#audit-events))",
			},
		}},
		{"Accounts", []setting{
			{name: "registration", value: oneOf(&s.Registration, registrationOpen, registrationClosed), def: registrationOpen, verbs: inService, meaning: "`closed`: registering is answered 403; `sessiond import` still adds users"},
			{name: "registration-domains", value: list(&s.RegistrationDomains, "DOMAINS"), shown: "all", verbs: inService, meaning: "comma-separated domains of the email addresses that people may register with or change to"},
			{
				name: "reserved-names", value: list(&s.ReservedNames, "NAMES"), def: reservedNames, shown: "`admin`, `root`, `support` … (all in the help)", verbs: inService,
				meaning: "comma-separated usernames that nobody can register, in any spelling",
			},
			{name: "hide-accounts", value: parsed(&s.HideAccounts, boolKind, strconv.ParseBool), def: "false", verbs: inService, meaning: "the classic routes no longer reveal whether an account exists"},
		}},
		{"Passwords", []setting{
			{
				name: "bcrypt-cost", value: number(&s.BcryptCost), def: "10", verbs: []string{serveVerb, devVerb, adminVerb},
				meaning: "10 to 14; hashes are renewed at the next login. Raise it, do not lower it: hashes of a higher cost, also [imported](operations.md#import-users) ones, take longer to refuse, which reveals their accounts",
			},
			{
				name: "password-pepper-file", value: text(&s.PasswordPepperFile, "FILE"), verbs: withPeppers,
				meaning: "one `id:base64` a line, 32 bytes or more; the first pepper hashes, all verify. `import` needs the file of the service that made the hashes, if it had one. Also holds the [signer key of Firebase](operations.md#users-of-firebase)",
			},
			{name: "password-min-length", value: number(&s.PasswordMinLength), def: "8", verbs: inService, meaning: "minimum number of characters, 8 to 64"},
			{name: "breached-url", value: text(&s.BreachedURL, "URL"), verbs: inService, meaning: "range check of a service that knows breached passwords, such as `https://api.pwnedpasswords.com/range/`"},
			{
				name: "breached-policy", value: oneOf(&s.BreachedPolicy, breachedAllow, breachedRefuse), def: breachedAllow, verbs: inService,
				meaning: "what happens to a new password while that service does not respond: `allow`, or `refuse` (503)",
			},
		}},
		{"Rate limits", append([]setting{
			{
				name: "limits", value: oneOf(&s.Limits, limitsOn, limitsOff), def: limitsOn, verbs: inService,
				meaning: "all limits below. `off` allows unlimited password guesses. It is for tests and benchmarks, and the log says so at start. A program built for production, such as the [image](deploy.md), refuses it",
			},
		}, s.rules()...)},
		{"Mail", []setting{
			{
				name: "smtp-url", value: text(&s.SMTPURL, "URL"), secret: true, verbs: inProduction,
				meaning: "`smtp://user:password@host:587` (STARTTLS), `smtps://`, or `smtp+plain://` without TLS. Without it no mail is sent, and `POST /forgotPassword`, `/v1/password-resets` and `/v1/users` answer 503; with `--hide-accounts`, so does `/registerUser`. No email address is ever confirmed",
			},
			{name: "mail-from", value: text(&s.MailFrom, "ADDRESS"), verbs: inProduction, meaning: "sender of the mails; required with `--smtp-url`"},
			{name: "reset-ttl", value: parsed(&s.ResetTTL, "DURATION", time.ParseDuration), def: "10m", verbs: inService, meaning: "lifetime of a reset link, at most `10m` (ASVS 6.5.5)"},
			{
				name: "reset-url", value: text(&s.ResetURL, "URL"), shown: "`PUBLIC_URL/reset`", verbs: inService,
				meaning: "the page of your front end behind reset links. Set it: the default answers JSON, for existing clients. Required with `--classic-routes=off`",
			},
			{
				name: "verify-url", value: text(&s.VerifyURL, "URL"), shown: "`PUBLIC_URL/verify`", verbs: inService,
				meaning: "the page behind confirmation links. A page of your own should ask for the password of the account and send it with the token",
			},
		}},
		{"Operation", []setting{
			{
				name: "shutdown-delay", value: parsed(&s.ShutdownDelay, "DURATION", time.ParseDuration), def: "0s", verbs: inProduction,
				meaning: "after SIGTERM, keep serving for this long while `/readyz` answers 503 and responses carry `Connection: close` ([operations.md](operations.md#replace-and-stop-replicas))",
			},
			{name: "log-level", value: text(&s.LogLevel, "debug|info|warn|error"), def: "info", verbs: inService, meaning: "lowest level that is logged"},
			{name: "pprof", value: parsed(&s.Pprof, boolKind, strconv.ParseBool), def: "false", verbs: inProduction, meaning: "serve profiles of the process at `/debug/pprof/` of `--metrics-addr` ([tracing.md](tracing.md#profiles))"},
		}},
		{"Import", []setting{
			{
				name: "in", value: text(&s.ImportFile, "FILE"), verbs: []string{importVerb},
				meaning: "file of users: `.csv` with a header line, or `.jsonl`; `-` reads standard input. Required columns or members: `email`, `password_hash`. Optional ones: `username`, `first_name`, `last_name`, `email_verified` (true or false), `created_at` (RFC 3339)",
			},
			{name: "format", value: oneOf(&s.ImportFormat, "csv", "jsonl"), shown: "the file's extension", verbs: []string{importVerb}, meaning: "format of the file"},
		}},
	}
}

// rules declares the numbers of each rate limit.
func (s *Settings) rules() (settings []setting) {
	s.Rules = limit.Defaults()
	for _, rule := range s.Rules.All() {
		def, err := rule.MarshalText()
		if err != nil {
			panic(err)
		}
		meaning := rule.Counts
		if rule.Backoff > 0 {
			meaning += "; *backoff*"
		}
		set := func(text string) error { return rule.UnmarshalText([]byte(text)) }
		settings = append(settings, setting{name: "limit-" + rule.Name, value: &value{kind: "BURST/PERIOD", set: set}, def: string(def), verbs: inService, meaning: meaning})
	}
	return settings
}

func parseRefreshGrace(text string) (time.Duration, error) {
	if text == "unused" {
		return issuer.NoRefreshLimit, nil
	}
	return time.ParseDuration(text)
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
	if production && s.Limits == limitsOff {
		refuse("LIMITS", "off is for tests and benchmarks, and this program is built for production; want on")
	}
	if s.MaxSessions < 0 {
		refuse("MAX_SESSIONS", "want 0 or more")
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
