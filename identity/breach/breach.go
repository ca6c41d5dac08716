package breach

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // G505: what the service's list is sorted by; it protects nothing
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity"
)

const (
	// timeout is what a person who chose a password waits for this at most.
	timeout = time.Second
	// maxAnswer is in bytes; a range of today's list has about 40,000.
	maxAnswer = 1 << 20
	// maxAsked is how many questions are under way at once; others wait.
	maxAsked     = 16
	maxRedirects = 3
	prefixLength = 5
)

// Range asks a service for all breached passwords whose hashes begin like that
// of one, and looks for it among them: the service learns 20 bits of the hash of
// a password whose user it does not know. Safe for concurrent use.
type Range struct {
	url    string
	client *http.Client
	asked  chan struct{}
}

var _ identity.BreachList = (*Range)(nil)

// NewRange returns a Range that appends the first 5 characters of the SHA-1 of a
// password, in upper-case hex, to a URL as https://api.pwnedpasswords.com/range/.
func NewRange(url string) *Range {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = maxAsked
	return &Range{
		url: url, asked: make(chan struct{}, maxAsked),
		client: &http.Client{Transport: transport, CheckRedirect: sameHost},
	}
}

// Close closes the connections that wait for another question.
func (r *Range) Close() error {
	r.client.CloseIdleConnections()
	return nil
}

var (
	errRedirect = errors.New("the service redirects elsewhere")
	errTooLong  = errors.New("the answer is too long")
	errGarbled  = errors.New("the answer is not a list of hashes")
)

// sameHost follows no redirect that would show the prefix to somebody else.
func sameHost(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects || r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
		return errRedirect
	}
	return nil
}

// Contains implements [identity.BreachList].
func (r *Range) Contains(ctx context.Context, password string) (bool, error) {
	sum := sha1.Sum([]byte(password)) //nolint:gosec // G401: see the import
	hash := strings.ToUpper(hex.EncodeToString(sum[:]))
	prefix, suffix := hash[:prefixLength], hash[prefixLength:]

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case r.asked <- struct{}{}:
		defer func() { <-r.asked }()
	case <-ctx.Done():
		return false, fmt.Errorf("breach: too many ask at once: %w", ctx.Err())
	}
	answer, err := r.fetch(ctx, prefix)
	if err != nil {
		return false, fmt.Errorf("breach: %s", without(prefix, err)) // as text: it may hold the prefix
	}
	return find(answer, suffix)
}

// fetch returns the suffixes of all hashes with a prefix.
func (r *Range) fetch(ctx context.Context, prefix string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+prefix, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "sessiond")
	request.Header.Set("Add-Padding", "true") // or the length of the answer would tell the prefix
	resp, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read, or is given up
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the service answers %d", resp.StatusCode)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = errTooLong
	}
	return answer, err
}

// line is a suffix of a hash and how often the password was seen.
var line = regexp.MustCompile(`^([0-9A-Fa-f]{35}):([0-9]{1,18})$`)

// find looks for a suffix. What is seen no times is padding. An answer that is
// not all as it should be says nothing.
func find(answer []byte, suffix string) (found bool, err error) {
	for text := range bytes.Lines(answer) {
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		part := line.FindSubmatch(text)
		if part == nil {
			return false, fmt.Errorf("breach: %w", errGarbled)
		}
		seen, err := strconv.ParseInt(string(part[2]), 10, 64)
		if err != nil {
			return false, fmt.Errorf("breach: %w", errGarbled)
		}
		found = found || seen > 0 && strings.EqualFold(string(part[1]), suffix)
	}
	return found, nil
}

// without is the text of an error without the prefix: net/http quotes the URL,
// and at times what the service said.
func without(prefix string, err error) string {
	return regexp.MustCompile("(?i)"+prefix).ReplaceAllString(err.Error(), "…")
}
