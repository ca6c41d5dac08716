package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// checkEncrypted refuses an unencrypted connection to anything but a loopback or
// private address, unless the operator allows it, and a URL whose hosts cannot be
// told for certain. The error names the setting and at most a host, never the
// whole URL, which may hold a password.
func (s *Settings) checkEncrypted(ctx context.Context, setting, rawURL string) error {
	scheme, hosts, query, err := splitURL(rawURL)
	if err != nil {
		return fmt.Errorf("%s%s: %w", envPrefix, setting, err)
	}
	if s.AllowPlaintext || isEncrypted(scheme, query) {
		return nil
	}
	for _, host := range hosts {
		if !isPrivate(ctx, host) {
			return fmt.Errorf("%s%s: the connection to %s is not encrypted and the host is neither loopback nor private; "+
				"use %s, or set %sALLOW_PLAINTEXT=true", envPrefix, setting, host, encryptedForm(scheme), envPrefix)
		}
	}
	return nil
}

var errMalformedURL = errors.New("the URL is malformed; special characters in its password, as / ? # @ and %, must be percent-encoded")

// splitURL finds the hosts of a store's URL, where url.Parse takes one only and
// a Cluster's or Sentinel's has several. Sockets of this machine are left out.
// Hosts are printed and asked of the DNS, so what could be a part of a password
// that is not encoded as it should be is an error, which quotes nothing.
func splitURL(rawURL string) (scheme string, hosts []string, query url.Values, err error) {
	scheme, rest, found := strings.Cut(rawURL, "://")
	if !found {
		return "", nil, nil, errors.New("not a URL")
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if strings.Contains(tail, "@") {
		return "", nil, nil, errMalformedURL
	}
	_, parameters, _ := strings.Cut(tail, "?")
	if query, err = url.ParseQuery(parameters); err != nil {
		return "", nil, nil, errors.New("its parameters cannot be read")
	}
	list := authority[strings.LastIndexByte(authority, '@')+1:]
	if strings.HasPrefix(scheme, "postgres") {
		// lib/pq goes where these lead; hostaddr may leave some of the hosts to host.
		list = cmp.Or(query.Get("host"), list) + "," + query.Get("hostaddr")
	}
	for hostport := range strings.SplitSeq(list, ",") {
		host := hostport
		if h, port, err := net.SplitHostPort(hostport); err == nil {
			if host = h; !plainPort.MatchString(port) {
				return "", nil, nil, errMalformedURL
			}
		}
		switch host = strings.Trim(host, "[]"); {
		case host == "", strings.HasPrefix(host, "/"):
		case !isHost(host):
			return "", nil, nil, errMalformedURL
		default:
			hosts = append(hosts, host)
		}
	}
	return scheme, hosts, query, nil
}

var (
	plainPort = regexp.MustCompile(`^[0-9]{0,5}$`)
	plainHost = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)
)

func isHost(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || plainHost.MatchString(text)
}

func isEncrypted(scheme string, query url.Values) bool {
	if strings.HasPrefix(scheme, "postgres") {
		// Without a mode, verify-full is what the store asks for. allow and
		// prefer fall back to plain text, and so does whatever we do not know.
		switch query.Get("sslmode") {
		case "", "require", "verify-ca", "verify-full":
			return true
		}
		return false
	}
	return strings.HasPrefix(scheme, "rediss") || scheme == "https"
}

func encryptedForm(scheme string) string {
	if strings.HasPrefix(scheme, "postgres") {
		return "sslmode=verify-full"
	}
	if scheme == "http" {
		return "https://"
	}
	return "rediss://"
}

// isPrivate tells whether every address of a host is loopback, link-local or private.
func isPrivate(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return false
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); !isPrivateIP(ip) {
			return false
		}
	}
	return true
}

func isPrivateIP(ip netip.Addr) bool {
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}
