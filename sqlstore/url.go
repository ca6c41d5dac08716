package sqlstore

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"
)

// Hosts returns the hosts that [Open] dials for a Postgres URL, and reports whether every
// connection to them is encrypted. Like Open, it also reads the environment variables of lib/pq,
// such as PGHOST, PGHOSTADDR and PGSERVICE. It does not return Unix sockets. The error quotes no
// password.
func Hosts(rawURL string) (hosts []string, encrypted bool, err error) {
	p, err := postgresConfig(rawURL, 0)
	if err != nil {
		return nil, false, err
	}
	cfg := p.config
	for _, h := range append([]pq.ConfigMultihost{{Host: cfg.Host, Hostaddr: cfg.Hostaddr}}, cfg.Multi...) {
		if h.Host != "" && !isSocket(h.Host) {
			hosts = append(hosts, h.Host)
		}
		if h.Hostaddr.IsValid() {
			hosts = append(hosts, h.Hostaddr.String())
		}
	}
	switch cfg.SSLMode {
	case "", pq.SSLModeRequire, pq.SSLModeVerifyCA, pq.SSLModeVerifyFull: // "" means require
		encrypted = true
	}
	return hosts, encrypted, nil
}

// IgnoredParameters returns the parameters of a Postgres URL that have no effect.
func IgnoredParameters(rawURL string) []string {
	p, _ := postgresConfig(rawURL, 0) // Open returns the error
	return p.ignored
}

// lib/pq does not know these parameters of libpq and other clients. It would send them to the
// server as settings, and the server would refuse the connection. Those that demand a protection are
// errors, because nobody would notice that it is missing.
var (
	ignoredParameters = []string{
		"channel_binding", "connection_limit", "gssdelegation", "gssencmode", "gsslib",
		"keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "pool_timeout", "ssl", "sslcompression",
	}
	unsupportedParameters = []string{"require_auth", "requirepeer", "requiressl", "sslcertmode", "sslcrl", "sslcrldir", "sslpassword"}
)

// limits are the Postgres settings that limit a statement's duration on the server, so that the
// statement ends even if the replica that sent it is gone.
var limits = []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}

var errMalformedURL = errors.New("the URL is malformed; special characters in its password, such as / ? # @ and %, must be percent-encoded")

// postgresURL is what a Postgres URL and the environment say, with this package's defaults.
type postgresURL struct {
	config pq.Config
	// perTransaction sets the limits for one transaction. It is empty unless the URL says
	// pgbouncer=true. PgBouncer refuses most settings at the start of a connection.
	perTransaction string
	ignored        []string // parameters that have no effect
}

func postgresConfig(rawURL string, timeout time.Duration) (p postgresURL, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return p, errMalformedURL // url.Parse's error may quote a part of the password
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return p, errors.New("the database URL must begin with postgres://")
	}
	// An @ after the first /, ? or #, or an invalid port, means an unescaped password.
	_, rest, _ := strings.Cut(rawURL, "://")
	_, badPort := strconv.ParseUint(cmp.Or(u.Port(), "0"), 10, 16)
	if i := strings.IndexAny(rest, "/?#"); badPort != nil || i >= 0 && strings.Contains(rest[i:], "@") {
		return p, errMalformedURL
	}
	cfg, err := pq.NewConfig(rawURL)
	if err != nil {
		return p, err
	}
	if !u.Query().Has("sslmode") && (cfg.Hostaddr.IsValid() || !isSocket(cfg.Host)) {
		cfg.SSLMode = pq.SSLModeVerifyFull
	}
	cfg.BinaryParameters = true
	cfg.ApplicationName = cmp.Or(cfg.ApplicationName, "sessiond")
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, timeout)
	// Connect to the primary only, because a standby may not know the latest revocations.
	switch cfg.TargetSessionAttrs {
	case pq.TargetSessionAttrsPrimary, pq.TargetSessionAttrsReadWrite:
	case "", pq.TargetSessionAttrsAny:
		cfg.TargetSessionAttrs = pq.TargetSessionAttrsPrimary
	default:
		return p, fmt.Errorf("target_session_attrs=%s: want primary or read-write", cfg.TargetSessionAttrs)
	}
	for _, name := range unsupportedParameters {
		if _, given := cfg.Runtime[name]; given {
			return p, fmt.Errorf("%s is not supported", name)
		}
	}
	for _, name := range ignoredParameters {
		if _, given := cfg.Runtime[name]; given {
			p.ignored = append(p.ignored, name)
			delete(cfg.Runtime, name)
		}
	}
	pgbouncer, err := strconv.ParseBool(cmp.Or(cfg.Runtime["pgbouncer"], "false"))
	if err != nil {
		return p, errors.New("pgbouncer: want true or false")
	}
	delete(cfg.Runtime, "pgbouncer")
	for _, name := range limits {
		cfg.Runtime[name] = cmp.Or(cfg.Runtime[name], fmt.Sprint(timeout.Milliseconds()))
	}
	if pgbouncer {
		p.perTransaction = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
		for _, name := range limits {
			p.perTransaction += fmt.Sprintf("; SET LOCAL %s = %s", name, pq.QuoteLiteral(cfg.Runtime[name]))
			delete(cfg.Runtime, name)
		}
	} else {
		cfg.Runtime["default_transaction_isolation"] = "read committed"
	}
	p.config = cfg
	return p, nil
}

// isSocket reports whether lib/pq treats host as a Unix socket.
func isSocket(host string) bool {
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@")
}

// withoutLimits returns the connection settings for migrations. They have no time limits, because a
// migration may take long or wait for another replica's migration.
func (p *postgresURL) withoutLimits() pq.Config {
	cfg := p.config.Clone()
	if p.perTransaction == "" {
		for _, name := range limits {
			cfg.Runtime[name] = "0"
		}
	}
	return cfg
}
