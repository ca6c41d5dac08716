package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-json-experiment/json"
)

// What is wrong with the Authorization of a request, before any token is looked at.
var (
	// ErrNoToken: the request has no bearer token.
	ErrNoToken = errors.New("no bearer token")
	// ErrTwoTokens: whoever is in front may have looked at the other one.
	ErrTwoTokens = fmt.Errorf("%w: more than one Authorization header", ErrInvalidToken)
)

// BearerToken finds the access token, which comes in the Authorization header and
// nowhere else (RFC 6750 section 2.1). Errors: ErrNoToken, ErrTwoTokens.
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

// Challenge is the WWW-Authenticate of a 401 for err (RFC 6750 section 3): it
// names no error when no token was sent.
func Challenge(err error) string {
	const realm = `Bearer realm="sessiond"`
	if errors.Is(err, ErrInvalidToken) || errors.Is(err, ErrRevoked) {
		return realm + `, error="invalid_token", error_description="The token is not valid any more"`
	}
	return realm
}

// Middleware passes on the requests whose bearer token is good, with its claims
// for [ClaimsFrom]. It answers the others itself: 401 when there is no token or
// a bad one, and 503 when that cannot be told, since a store that fails is no
// reason to sign anybody out. It needs no particular router.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	var lastWarning atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		claims, err := v.verifyRequest(r)
		if err == nil {
			next.ServeHTTP(w, r.WithContext(WithClaims(ctx, claims)))
			return
		}
		p := refusal(err)
		// An outage fails every request: once a second is enough to hear of it.
		if last, now := lastWarning.Load(), v.now().Unix(); p.Status == http.StatusServiceUnavailable &&
			ctx.Err() == nil && now != last && lastWarning.CompareAndSwap(last, now) {
			slog.WarnContext(ctx, "a token could not be checked", "error", err)
		}
		p.write(w, err)
	})
}

func (v *Verifier) verifyRequest(r *http.Request) (Claims, error) {
	token, err := BearerToken(r.Header)
	if err != nil {
		return Claims{}, err
	}
	return v.Verify(r.Context(), token)
}

type claimsKey struct{}

// ClaimsFrom returns the claims of the token that [Verifier.Middleware] found good.
func ClaimsFrom(ctx context.Context) (c Claims, ok bool) {
	c, ok = ctx.Value(claimsKey{}).(Claims)
	return c, ok
}

// WithClaims is what [Verifier.Middleware] does to the context of a request: for
// middleware of your own, and for tests of what is behind it.
func WithClaims(ctx context.Context, c Claims) context.Context {
	return context.WithValue(ctx, claimsKey{}, c)
}

// problem is the body of a refusal (RFC 9457). Programs look at its code.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// refusal says why a request is not passed on.
func refusal(err error) problem {
	p := problem{Type: "about:blank", Status: http.StatusUnauthorized, Code: "invalid_token"}
	switch {
	case errors.Is(err, ErrNoToken):
		p.Code, p.Detail = "no_token", "Send Authorization: Bearer with an access token."
	case errors.Is(err, ErrTwoTokens):
		p.Detail = "Send one Authorization header."
	case errors.Is(err, ErrInvalidToken):
		p.Detail = "The token is malformed, expired or not ours."
	case errors.Is(err, ErrRevoked):
		p.Detail = "The token was revoked."
	default:
		p.Status, p.Code, p.Detail = http.StatusServiceUnavailable, "unavailable", "A dependency does not answer. Try again shortly."
	}
	p.Title = http.StatusText(p.Status)
	return p
}

func (p *problem) write(w http.ResponseWriter, err error) {
	body, encodeErr := json.Marshal(p)
	if encodeErr != nil {
		panic(encodeErr) // it is all plain text
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
	_, _ = w.Write(body) // the client may have left
}
