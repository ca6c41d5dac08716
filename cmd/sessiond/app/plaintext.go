package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/sqlstore"
)

func (s *Settings) checkDatabaseURL(ctx context.Context) error {
	return s.checkEncrypted(ctx, "DATABASE_URL", s.DatabaseURL, sqlstore.Hosts, "sslmode=verify-full")
}

func (s *Settings) checkRedisURL(ctx context.Context) error {
	return s.checkEncrypted(ctx, "REDIS_URL", s.RedisURL, redisstore.Hosts, "rediss://")
}

func (s *Settings) checkBreachedURL(ctx context.Context) error {
	return s.checkEncrypted(ctx, "BREACHED_URL", s.BreachedURL, webHosts, "https://")
}

var errMalformedHost = errors.New("the URL is malformed: a host has a character that no host name has; " +
	"special characters in the password, such as / ? # @ and %, must be percent-encoded")

// checkEncrypted returns an error if rawURL leads to an unencrypted connection to a public host and
// the operator has not allowed this. hostsOf is a function of the package that connects to rawURL.
// It returns every host to which that package may connect. The error never contains the URL, which
// may contain a password.
func (s *Settings) checkEncrypted(ctx context.Context, setting, rawURL string, hostsOf func(string) ([]string, bool, error), useInstead string) error {
	hosts, encrypted, err := hostsOf(rawURL)
	if err != nil {
		return fmt.Errorf("%s%s: %w", envPrefix, setting, err)
	}
	for _, host := range hosts {
		// The host may be a part of a mistyped password. Do not print it or send it to a DNS
		// server.
		if !isHost(host) {
			return fmt.Errorf("%s%s: %w", envPrefix, setting, errMalformedHost)
		}
		if !encrypted && !s.AllowPlaintext && !isPrivate(ctx, host) {
			return fmt.Errorf("%s%s: the connection to %s is not encrypted and the host is neither loopback nor private; "+
				"use %s, or set %sALLOW_PLAINTEXT=true", envPrefix, setting, host, useInstead, envPrefix)
		}
	}
	return nil
}

// webHosts returns the host of an http or https URL, and reports whether it is reached over TLS.
func webHosts(rawURL string) (hosts []string, encrypted bool, err error) {
	u, err := url.Parse(rawURL)
	if err != nil || strings.Contains(rawURL, "@") {
		return nil, false, errors.New("the URL is malformed; want http:// or https:// without a user or password")
	}
	return []string{u.Hostname()}, u.Scheme == "https", nil
}

var plainHost = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)

func isHost(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || plainHost.MatchString(text)
}

// isPrivate reports whether every address of a host is loopback, link-local or private.
func isPrivate(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return false
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast() {
			return false
		}
	}
	return true
}
