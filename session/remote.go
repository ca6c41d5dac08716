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

// RemoteOptions say how another program reaches the service over HTTP. The zero
// value is good.
type RemoteOptions struct {
	// Client is what requests are sent with. Nil: a client of our own. Either
	// way no redirect is followed.
	Client *http.Client
	// AllowPlaintext accepts http:// URLs of hosts other than this one, for
	// networks that encrypt by themselves.
	AllowPlaintext bool
	// Log is told when keys were replaced or could not be fetched. Nil: [slog.Default].
	Log *slog.Logger
}

// maxRemoteBytes bounds the answers that are read. Ours are about 1 KB.
const maxRemoteBytes = 64 << 10

// idleConnections is how many connections are kept for the next requests.
const idleConnections = 16

func (o *RemoteOptions) client() *http.Client {
	c := http.Client{}
	if o.Client != nil {
		c = *o.Client
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = idleConnections
		c.Transport = t
	}
	// Where keys come from and tokens go is what the operator wrote, nothing else.
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

func (o *RemoteOptions) log() *slog.Logger {
	if o.Log == nil {
		return slog.Default()
	}
	return o.Log
}

// check refuses a URL that could be listened to. The error does not quote it.
func (o *RemoteOptions) check(rawURL string) error {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil:
		return errors.New("not an absolute URL without a user")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (o.AllowPlaintext || isLoopback(u.Hostname())):
		return nil
	default:
		return errors.New("use https://; http:// is for this machine, or for where AllowPlaintext says that the network encrypts")
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// roundTrip returns the body of a 200.
func roundTrip(client *http.Client, r *http.Request) ([]byte, error) {
	resp, err := client.Do(r) //nolint:gosec // G704: the operator names the URL
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	if resp.StatusCode != http.StatusOK {
		// Unread, it would cost the connection.
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxRemoteBytes))
		return nil, fmt.Errorf("%s %s answered %d", r.Method, r.URL, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRemoteBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Method, r.URL, err)
	}
	if len(body) > maxRemoteBytes {
		return nil, fmt.Errorf("%s %s answered more than %d bytes", r.Method, r.URL, maxRemoteBytes)
	}
	return body, nil
}
