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

// BearerToken returns the access token of a request. It reads the Authorization header and nothing
// else (RFC 6750 section 2.1). Its error is [ErrNoToken] or [ErrTwoTokens].
func BearerToken(h http.Header) (string, error) {
	values := h["Authorization"]
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

// Middleware passes a request on to next if its bearer token is accepted, with the token's claims
// in its context for [ClaimsFrom]. It answers all other requests itself: 401 without a valid token,
// and 503 if the check cannot be decided, because a failing store must not sign anybody out. It
// works with any router.
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
		// An outage fails every request, so it is logged once a second.
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

// WithClaims returns a context for [ClaimsFrom]. It is for your own middleware, and for tests of
// the handlers behind [Verifier.Middleware].
func WithClaims(ctx context.Context, c Claims) context.Context {
	return context.WithValue(ctx, claimsKey{}, c)
}

// problem is the body of an error response (RFC 9457). Programs read its code.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// newProblem explains err. An error that [Explain] does not know, such as a context's, counts as an
// outage, because nothing was decided.
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
		panic(encodeErr) // a number and plain text always encode
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
