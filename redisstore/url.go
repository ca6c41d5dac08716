package redisstore

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Hosts returns the hosts in redisURL, and reports whether [NewClient] dials them over TLS.
// Sentinel and Cluster name more hosts later, which are dialed in the same way. The error quotes no
// part of the URL, because that part may belong to the password.
func Hosts(redisURL string) (hosts []string, encrypted bool, err error) {
	o, err := parseURL(redisURL)
	if err != nil {
		return nil, false, err
	}
	for _, addr := range o.Addrs {
		host, _, _ := net.SplitHostPort(addr) // cannot fail, because parseURL joined host and port
		hosts = append(hosts, host)
	}
	return hosts, o.TLSConfig != nil, nil
}

// Password returns the hosts in redisURL, and reports whether it has a password.
func Password(redisURL string) (hosts []string, secret bool, err error) {
	hosts, _, err = Hosts(redisURL)
	if err != nil {
		return nil, false, err
	}
	o, err := parseURL(redisURL)
	return hosts, err == nil && o.Password != "", err
}

var errMalformedURL = errors.New("the URL is malformed; special characters in its password, such as / ? # @ and %, must be percent-encoded")

// parseURL parses a Redis URL in one of the forms of [NewClient]. It does not rely on url.Parse
// alone, because url.Parse accepts only one host and quotes the password in its errors.
func parseURL(raw string) (*redis.UniversalOptions, error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	o := &redis.UniversalOptions{}
	kind, ours := strings.CutPrefix(scheme, "redis")
	kind, secure := strings.CutPrefix(kind, "s")
	if secure {
		// ServerName stays empty, so that each server's certificate must match the host that was
		// dialed.
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	port := "6379"
	switch {
	case !ours:
		return nil, errors.New("want a URL that begins with redis:// or rediss://")
	case kind == "+sentinel":
		port = "26379"
	case kind == "+cluster":
		o.IsClusterMode = true
	case kind != "":
		return nil, errors.New("want ://, +sentinel:// or +cluster:// after redis or rediss in the URL")
	}

	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	at := strings.LastIndex(authority, "@") + 1
	u, err := url.Parse("redis://" + authority[:at] + "host" + tail)
	// An @ after the first /, ? or # shows that the password contains an unescaped /, ? or #.
	if err != nil || strings.Contains(tail, "@") {
		return nil, errMalformedURL
	}
	if o.Addrs, err = addresses(authority[at:], port); err != nil {
		return nil, err
	}
	if kind == "" && len(o.Addrs) > 1 {
		return nil, errors.New("a URL with several hosts must begin with redis+sentinel:// or redis+cluster://")
	}

	var hasPassword bool
	o.Username = u.User.Username()
	if o.Password, hasPassword = u.User.Password(); o.Username != "" && !hasPassword {
		return nil, errors.New("the URL has a user without a password; a password without a user is written as :password@")
	}
	if db := strings.Trim(u.Path, "/"); db != "" {
		if o.DB, err = strconv.Atoi(db); err != nil || o.DB < 0 {
			return nil, errors.New("the path of a Redis URL must be a database number, such as /0")
		}
		if o.IsClusterMode && o.DB != 0 {
			return nil, errors.New("the URL of a Redis Cluster may select only database 0")
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.Fragment != "" {
		return nil, errors.New("the parameters of the Redis URL cannot be parsed")
	}
	parameters := []string{"master", "sentinel_username", "sentinel_password"}
	for name, values := range query {
		known := kind == "+sentinel" && slices.Contains(parameters, name) || secure && name == "ca_file"
		if !known || len(values) > 1 {
			return nil, errors.New("a Redis URL has no parameters, except rediss:// with ca_file and redis+sentinel:// with master, sentinel_username and sentinel_password, each at most once")
		}
	}
	if query.Has("ca_file") {
		if o.TLSConfig.RootCAs, err = readCertificates(query.Get("ca_file")); err != nil {
			return nil, err
		}
	}
	o.MasterName, o.SentinelUsername, o.SentinelPassword = query.Get("master"), query.Get("sentinel_username"), query.Get("sentinel_password")
	if kind == "+sentinel" && o.MasterName == "" {
		return nil, errors.New("a redis+sentinel:// URL must name the master as ?master=name")
	}
	return o, nil
}

// readCertificates reads a file of PEM certificates.
func readCertificates(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path) //nolint:gosec // G304: the path is from the operator's configuration
	if err != nil {
		return nil, fmt.Errorf("the parameter ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("the parameter ca_file: %s has no PEM certificate", path)
	}
	return pool, nil
}

// addresses splits a comma-separated list of hosts and adds the default port where it is missing.
func addresses(list, defaultPort string) ([]string, error) {
	var addrs []string
	for host := range strings.SplitSeq(list, ",") {
		u, err := url.Parse("//" + host)
		if err != nil || u.Hostname() == "" || u.Host != host {
			return nil, errMalformedURL
		}
		port := cmp.Or(u.Port(), defaultPort)
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, errMalformedURL
		}
		addrs = append(addrs, net.JoinHostPort(u.Hostname(), port))
	}
	return addrs, nil
}
