package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// checkEncrypted refuses an unencrypted connection to anything but a loopback or
// private address, unless the operator allows it. The error names the setting
// and the host, never the whole URL, which may hold a password.
func (s *settings) checkEncrypted(ctx context.Context, setting, rawURL string) error {
	// url.Parse takes one host; a Cluster's or Sentinel's URL has several.
	scheme, rest, found := strings.Cut(rawURL, "://")
	if !found {
		return fmt.Errorf("%s%s: not a URL", envPrefix, setting)
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	_, parameters, _ := strings.Cut(tail, "?")
	query, err := url.ParseQuery(parameters)
	if err != nil {
		return fmt.Errorf("%s%s: its parameters cannot be read", envPrefix, setting)
	}
	if s.AllowPlaintext || isEncrypted(scheme, query) {
		return nil
	}
	for hostport := range strings.SplitSeq(authority[strings.LastIndexByte(authority, '@')+1:], ",") {
		host := hostport
		if h, _, err := net.SplitHostPort(hostport); err == nil {
			host = h
		}
		// No host, or one that is a path, is a socket of this machine.
		if host = cmp.Or(query.Get("host"), strings.Trim(host, "[]")); host == "" || strings.HasPrefix(host, "/") {
			continue
		}
		if !isPrivate(ctx, host) {
			return fmt.Errorf("%s%s: the connection to %s is not encrypted and the host is neither loopback nor private; "+
				"use %s, or set %sALLOW_PLAINTEXT=true", envPrefix, setting, host, encryptedForm(scheme), envPrefix)
		}
	}
	return nil
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
