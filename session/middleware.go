package session

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-json-experiment/json"
)

// BearerToken returns the access token in a request's Authorization header (RFC 6750 section 2.1).
// It ignores tokens in other places. The error is [ErrNoToken] or [ErrTwoTokens].
func BearerToken(h http.Header) (string, error) { return ParseBearer(h["Authorization"]) }

// ParseBearer is like [BearerToken], for a request that is not of net/http. The values are those of
// all its Authorization headers.
func ParseBearer(values []string) (string, error) {
	if len(values) > 1 {
		return "", ErrTwoTokens
	}
	if len(values) == 0 {
		return "", ErrNoToken
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", ErrNoToken
	}
	return strings.TrimLeft(token, " "), nil
}

// Middleware calls next for each request with a valid bearer token. The handler next can read the
// token's claims with [ClaimsFrom]. Middleware answers any other request with 401, and with 503 if
// a dependency of the check does not answer, because an outage must not sign anybody out.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	var lastWarning atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		token, err := BearerToken(r.Header)
		var claims Claims
		if err == nil {
			claims, err = v.Verify(ctx, token)
		}
		if err == nil {
			next.ServeHTTP(w, r.WithContext(WithClaims(ctx, claims)))
			return
		}
		p := newProblem(err)
		// During an outage every check fails. Log at most one failure per second.
		if last, now := lastWarning.Load(), v.now().Unix(); p.Status == http.StatusServiceUnavailable &&
			ctx.Err() == nil && now != last && lastWarning.CompareAndSwap(last, now) {
			slog.WarnContext(ctx, "cannot check a token", "error", err)
		}
		p.write(w, err)
	})
}

type claimsKey struct{}

// ClaimsFrom returns the claims of the token that [Verifier.Middleware] accepted.
func ClaimsFrom(ctx context.Context) (c Claims, ok bool) {
	c, ok = ctx.Value(claimsKey{}).(Claims)
	return c, ok
}

// WithClaims returns a context from which [ClaimsFrom] reads c. Use it in a middleware of your own,
// or in a test of a handler behind [Verifier.Middleware].
func WithClaims(ctx context.Context, c Claims) context.Context {
	return context.WithValue(ctx, claimsKey{}, c)
}

// problem is the body of an error response (RFC 9457). Programs tell errors apart by Code.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// newProblem returns the body of the response to err. An error that [Explain] does not know, such
// as a context's error, is treated like an outage, because the check has no result.
func newProblem(err error) problem {
	status, code, detail := Explain(err)
	if status == 0 {
		status, code, detail = Explain(ErrUnavailable)
	}
	return problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code}
}

func (p *problem) write(w http.ResponseWriter, err error) {
	body, encodeErr := json.Marshal(p)
	if encodeErr != nil {
		panic(encodeErr) // encoding an integer and fixed strings cannot fail
	}
	h := w.Header()
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", Challenge(err))
	} else {
		h.Set("Retry-After", "2")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/problem+json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) //nolint:gosec // G705: the body is JSON of fixed sentences
}
