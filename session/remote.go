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

// RemoteOptions configures how sessiond is reached over HTTP. The zero value works.
type RemoteOptions struct {
	// Client sends the requests. Nil: a new client. Redirects are never followed.
	Client *http.Client
	// AllowPlaintext allows http:// URLs of other hosts, for networks that encrypt by themselves.
	AllowPlaintext bool
	// Log reports when keys were fetched, and when that failed. Nil: [slog.Default].
	Log *slog.Logger
}

const (
	// maxRemoteBytes bounds a response. Ours have about 1 KB.
	maxRemoteBytes = 64 << 10
	// idleConnections is how many connections stay open for the next requests.
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
	// Only the URL that the operator configured may supply keys or receive tokens.
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// checkURL refuses a URL whose traffic others could read. Its error does not quote the URL, which
// may hold a password.
func (o *RemoteOptions) checkURL(rawURL string) error {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil:
		return errors.New("want an absolute URL without a user")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (o.AllowPlaintext || isLoopback(u.Hostname())):
		return nil
	default:
		return errors.New("want https://; http:// is for this machine, or for a network that encrypts by itself (AllowPlaintext)")
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// roundTrip returns the body of a response with status 200. Any other response is an error.
func roundTrip(client *http.Client, r *http.Request) ([]byte, error) {
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	if resp.StatusCode != http.StatusOK {
		// With an unread body the connection could not be used again.
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxRemoteBytes))
		return nil, fmt.Errorf("%s %s: status %d", r.Method, r.URL, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRemoteBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Method, r.URL, err)
	}
	if len(body) > maxRemoteBytes {
		return nil, fmt.Errorf("%s %s: the response has more than %d bytes", r.Method, r.URL, maxRemoteBytes)
	}
	return body, nil
}
