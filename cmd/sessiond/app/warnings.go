package app

import (
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/api"
	"github.com/sessiond/sessiond/redisstore"
)

// limitsAreOff is what "doctor" and every running service say about LIMITS=off.
const limitsAreOff = "SESSIOND_LIMITS is off: passwords can be guessed without limit; use it for tests and benchmarks only"

// warning is a setting that weakens the service, but that an operator may want.
type warning struct{ check, text string }

// warnings returns what "serve" logs and "doctor" prints about settings that were accepted.
func (s *Settings) warnings() (list []warning) {
	warn := func(check, format string, args ...any) {
		list = append(list, warning{check, fmt.Sprintf(format, args...)})
	}
	if s.ClassicRoutes == string(api.ClassicOn) {
		warn("classic routes", "SESSIOND_CLASSIC_ROUTES is on: with a stolen access token, a thief can change the password and the email, or delete the account")
	}
	if s.SMTPURL == "" {
		warn("mail", "SESSIOND_SMTP_URL is not set: %s", withoutMail)
	} else if s.ResetURL == "" {
		warn("mail", "SESSIOND_RESET_URL is not set: password reset links open a JSON document instead of a page")
	}
	if hosts, secret, err := redisstore.Password(s.RedisURL); err == nil && !secret && !allLoopback(hosts) {
		warn("Redis", "SESSIOND_REDIS_URL has no password: every client that reaches Redis can keep a revoked session alive")
	}
	if s.Pprof && checkLoopback(s.MetricsAddr) != nil {
		warn("profiles", "SESSIOND_PPROF is on and SESSIOND_METRICS_ADDR is not loopback: every client that reaches it can read profiles and slow this replica down")
	}
	for _, f := range s.secretFiles() {
		if info, err := os.Stat(f.path); err == nil && info.Mode().Perm()&otherMayRead != 0 {
			warn("files", "%s: every user of this machine can read the file (mode %#o); use mode 0600, or 0440 with the group of the service", f.setting, info.Mode().Perm())
		}
	}
	return list
}

const otherMayRead fs.FileMode = 0o004

type secretFile struct{ setting, path string }

// secretFiles returns the files whose content a thief could use, in the order of their settings.
func (s *Settings) secretFiles() (files []secretFile) {
	paths := map[string]*string{"signing-keys-file": &s.SigningKeysFile, "password-pepper-file": &s.PasswordPepperFile}
	maps.Copy(paths, s.secretPaths)
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		if path := *paths[name]; path != "" {
			files = append(files, secretFile{envName(name), path})
		}
	}
	return files
}

// checkWebURLs returns an error for a URL of http, unless its host is loopback or the operator allowed
// plaintext. Secrets travel along these URLs: tokens in mailed links, and the access tokens of clients.
func (s *Settings) checkWebURLs() error {
	var problems []string
	for _, c := range []struct{ setting, text string }{
		{"PUBLIC_URL", s.PublicURL}, {"ISSUER", s.Issuer}, {"RESET_URL", s.ResetURL}, {"VERIFY_URL", s.VerifyURL},
	} {
		u, err := url.Parse(c.text)
		if err == nil && strings.EqualFold(u.Scheme, "http") && !s.AllowPlaintext && !isLoopback(u.Hostname()) {
			problems = append(problems, fmt.Sprintf("%s%s: want https://, or set %sALLOW_PLAINTEXT=true", envPrefix, c.setting, envPrefix))
		}
	}
	if problems == nil {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(problems, "\n"))
}

// isLoopback reports whether a host is a loopback address or a name that always stands for one (RFC 6761).
func isLoopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func allLoopback(hosts []string) bool {
	for _, host := range hosts {
		if !isLoopback(host) {
			return false
		}
	}
	return true
}
