package session

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
)

// RemoteOptions configures requests to sessiond over HTTP. The zero value works.
type RemoteOptions struct {
	// Client sends the requests. If Client is nil, a new client is used. Redirects are never followed.
	Client *http.Client
	// AllowPlaintext allows http:// URLs of other machines, for networks that encrypt all traffic.
	AllowPlaintext bool
	// Log reports fetches of new keys and failed fetches. If Log is nil, [slog.Default] is used.
	Log *slog.Logger
}

const (
	// maxRemoteBytes is the largest accepted response. A response of sessiond has about 1 KB.
	maxRemoteBytes = 64 << 10
	// idleConnections is how many unused connections stay open for later requests.
	idleConnections = 16
)

func (o *RemoteOptions) client() *http.Client {
	c := http.Client{}
	if o.Client != nil {
		c = *o.Client
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = idleConnections
		c.Transport = t
	}
	// Follow no redirects. Only the configured URL may supply keys or receive tokens.
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// checkURL refuses a URL if others could read its traffic. The error does not quote the URL,
// because the URL may contain a password.
func (o *RemoteOptions) checkURL(rawURL string) error {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil:
		return errors.New("want an absolute URL without a user name")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (o.AllowPlaintext || isLoopback(u.Hostname())):
		return nil
	default:
		return errors.New("want an https:// URL; http:// is allowed for this machine, or with AllowPlaintext for a network that encrypts by itself")
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// roundTrip sends r and returns the body and the header of the response. A status other than 200 is
// an error.
func roundTrip(client *http.Client, r *http.Request) ([]byte, http.Header, error) {
	resp, err := client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // ignore the error, because the body was only read
	if resp.StatusCode != http.StatusOK {
		// Read the body to the end, because otherwise the connection could not be used again.
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxRemoteBytes))
		return nil, nil, fmt.Errorf("%s %s: status %d", r.Method, r.URL, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRemoteBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", r.Method, r.URL, err)
	}
	if len(body) > maxRemoteBytes {
		return nil, nil, fmt.Errorf("%s %s: the response has more than %d bytes", r.Method, r.URL, maxRemoteBytes)
	}
	return body, resp.Header, nil
}
