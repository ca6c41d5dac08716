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
	cfg, err := postgresConfig(rawURL, 0)
	if err != nil {
		return nil, false, err
	}
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

// limits are the Postgres settings that limit a statement's duration on the server, so that the
// statement ends even if the replica that sent it is gone.
var limits = []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}

var errMalformedURL = errors.New("the URL is malformed; special characters in its password, such as / ? # @ and %, must be percent-encoded")

// postgresConfig returns the connection settings from a Postgres URL and the environment, and this
// package's defaults.
func postgresConfig(rawURL string, timeout time.Duration) (pq.Config, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return pq.Config{}, errMalformedURL // url.Parse's error may quote a part of the password
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return pq.Config{}, errors.New("the database URL must begin with postgres://")
	}
	// An @ after the first /, ? or #, or an invalid port, means an unescaped password.
	_, rest, _ := strings.Cut(rawURL, "://")
	_, badPort := strconv.ParseUint(cmp.Or(u.Port(), "0"), 10, 16)
	if i := strings.IndexAny(rest, "/?#"); badPort != nil || i >= 0 && strings.Contains(rest[i:], "@") {
		return pq.Config{}, errMalformedURL
	}
	cfg, err := pq.NewConfig(rawURL)
	if err != nil {
		return pq.Config{}, err
	}
	if !u.Query().Has("sslmode") && (cfg.Hostaddr.IsValid() || !isSocket(cfg.Host)) {
		cfg.SSLMode = pq.SSLModeVerifyFull
	}
	cfg.BinaryParameters = true
	cfg.ApplicationName = cmp.Or(cfg.ApplicationName, "sessiond")
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, timeout)
	// Connect to the primary by default, because a standby may not know the latest revocations.
	cfg.TargetSessionAttrs = cmp.Or(cfg.TargetSessionAttrs, pq.TargetSessionAttrsPrimary)
	if cfg.Runtime == nil {
		cfg.Runtime = make(map[string]string)
	}
	cfg.Runtime["default_transaction_isolation"] = "read committed"
	for _, name := range limits {
		if cfg.Runtime[name] == "" {
			cfg.Runtime[name] = fmt.Sprint(timeout.Milliseconds())
		}
	}
	return cfg, nil
}

// isSocket reports whether lib/pq treats host as a Unix socket.
func isSocket(host string) bool {
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@")
}

// withoutLimits returns the connection settings for migrations. They have no time limits, because a
// migration may take long or wait for another replica's migration.
func withoutLimits(cfg pq.Config) pq.Config {
	cfg = cfg.Clone()
	for _, name := range limits {
		cfg.Runtime[name] = "0"
	}
	return cfg
}

func sqliteDSN(path string, timeout time.Duration) string {
	query := url.Values{
		"_txlock":      {"immediate"},
		"_time_format": {"sqlite"},
		"_timezone":    {"UTC"},
		"_dqs":         {"false"},
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", timeout.Milliseconds()),
			"journal_mode(WAL)",
			"synchronous(FULL)", // otherwise a power failure could undo a revocation
			"foreign_keys(1)",
			"cache_size(-1024)", // a negative number is a size in KiB
			"journal_size_limit(4194304)",
		},
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}
