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

// refusal returns the response to a request that is not passed on. An error that [Explain] does
// not know, such as a context's, is an outage too: nothing was decided.
func refusal(err error) problem {
	status, code, detail := Explain(err)
	if status == 0 {
		status, code, detail = Explain(ErrUnavailable)
	}
	return problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code}
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
