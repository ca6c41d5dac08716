package breach

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // G505: the server finds passwords by their SHA-1, which protects nothing here
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity"
)

const (
	// timeout bounds the check of a password, because a person waits for the result.
	timeout       = time.Second
	maxAnswer     = 1 << 20 // largest accepted response in bytes; usual responses have about 40,000
	maxConcurrent = 16      // requests that may run at once; further checks wait
	maxRedirects  = 3
	prefixLength  = 5 // characters of the hash that are sent to the server
)

// Range is an [identity.BreachList]. It asks the server for all breached hashes with the same first 20 bits
// as the password's hash, and looks for the password's hash among them. The server learns these 20 bits
// and nothing about the user. Range is safe for concurrent use.
type Range struct {
	url       string
	client    *http.Client
	transport *http.Transport
	slots     chan struct{}
}

var _ identity.BreachList = (*Range)(nil)

// NewRange returns a Range for a URL such as https://api.pwnedpasswords.com/range/. Each request appends
// the first 5 characters of the password's SHA-1 in upper-case hex.
func NewRange(url string) *Range {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = maxConcurrent
	return &Range{
		url: url, slots: make(chan struct{}, maxConcurrent), transport: transport,
		client: &http.Client{Transport: transport, CheckRedirect: sameHost},
	}
}

// Instrument wraps the transport of all requests, for example to trace them. It must be called before
// the first check.
func (r *Range) Instrument(wrap func(http.RoundTripper) http.RoundTripper) {
	r.client.Transport = wrap(r.transport)
}

// Close closes idle connections.
func (r *Range) Close() error {
	r.transport.CloseIdleConnections()
	return nil
}

var (
	errRedirect = errors.New("the server redirects to another host, or too many times")
	errTooLong  = fmt.Errorf("the response is too long: want at most %d bytes", maxAnswer)
	errGarbled  = errors.New("the response is not a list of lines HASH-SUFFIX:COUNT")
)

// sameHost refuses redirects to another host, because that host would learn the prefix of the hash.
func sameHost(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects || r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
		return errRedirect
	}
	return nil
}

// Contains implements [identity.BreachList].
func (r *Range) Contains(ctx context.Context, password string) (bool, error) {
	sum := sha1.Sum([]byte(password)) //nolint:gosec // G401: the server finds passwords by their SHA-1, which protects nothing here
	hash := strings.ToUpper(hex.EncodeToString(sum[:]))
	prefix, suffix := hash[:prefixLength], hash[prefixLength:]

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return false, fmt.Errorf("breach: too many checks at once: %w", ctx.Err())
	}
	answer, err := r.fetch(ctx, prefix)
	if err != nil {
		return false, fmt.Errorf("breach: %s", withoutPrefix(prefix, err))
	}
	return find(answer, suffix)
}

// fetch asks the server for all breached hashes that begin with the prefix. The response omits the
// prefix of each hash.
func (r *Range) fetch(ctx context.Context, prefix string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+prefix, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "sessiond")
	request.Header.Set("Add-Padding", "true") // because the length of an unpadded response would reveal the prefix
	resp, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // ignore the error, because the body was read or is not needed
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server responded with status %d, want 200", resp.StatusCode)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = errTooLong
	}
	return answer, err
}

// line matches a hash without its prefix, and how many times the password was seen in breaches.
var line = regexp.MustCompile(`^([0-9A-Fa-f]{35}):([0-9]{1,18})$`)

// find reports whether the response lists a hash suffix. It ignores lines with the count 0, which are
// padding. It returns an error if any line is malformed.
func find(answer []byte, suffix string) (found bool, err error) {
	for text := range bytes.Lines(answer) {
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		part := line.FindSubmatch(text)
		if part == nil {
			return false, fmt.Errorf("breach: %w", errGarbled)
		}
		seen := len(bytes.Trim(part[2], "0")) > 0
		found = found || seen && strings.EqualFold(string(part[1]), suffix)
	}
	return found, nil
}

// withoutPrefix returns an error's text without the hash prefix. Errors of net/http quote the URL, and
// sometimes the response.
func withoutPrefix(prefix string, err error) string {
	return regexp.MustCompile("(?i)"+regexp.QuoteMeta(prefix)).ReplaceAllString(err.Error(), "…")
}
