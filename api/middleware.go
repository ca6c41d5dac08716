package api

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/rs/cors"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// requestTimeout bounds a whole request: the longest that is honest is one
// password hash behind a few SQL statements.
const requestTimeout = 10 * time.Second

// middleware returns what every request passes, outermost first, except those of the gateway
// check.
func (a *API) middleware() chi.Middlewares {
	stack := chi.Middlewares{a.trustProxies(), a.observe, deadline, secure}
	if len(a.CORSOrigins) > 0 {
		stack = append(stack, cors.New(cors.Options{
			AllowedOrigins: a.CORSOrigins,
			AllowedMethods: []string{"GET", "POST", "PUT", "PATCH", "DELETE"},
			AllowedHeaders: []string{"Authorization", "Content-Type", "X-Request-Id", deviceHeader},
			ExposedHeaders: []string{"X-Auth-Token", deviceHeader, "X-Request-Id", "WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy"},
			MaxAge:         600,
		}).Handler)
	}
	return stack
}

// trustProxies lets trusted proxies say which address a request comes from.
func (a *API) trustProxies() func(http.Handler) http.Handler {
	if len(a.TrustedProxies) == 0 {
		return func(next http.Handler) http.Handler { return next }
	}
	prefixes := make([]string, len(a.TrustedProxies))
	for i, p := range a.TrustedProxies {
		prefixes[i] = p.String()
	}
	return middleware.ClientIPFromXFF(prefixes...)
}

// observe gives a request its id, its line in the log and its place in the metrics.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pattern := "other"
		if route := chi.RouteContext(r.Context()); route != nil && route.RoutePattern() != "" {
			pattern = route.RoutePattern()
		}
		a.observeRoute(pattern, next).ServeHTTP(w, r)
	})
}

// observeRoute is observe for the route of a pattern.
func (a *API) observeRoute(pattern string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		n := &remark{level: slog.LevelInfo}
		id := requestID(r)
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		ww.Header().Set(requestIDHeader, id)
		r = r.WithContext(context.WithValue(r.Context(), noteKey{}, n))

		defer func() {
			if p := recover(); p != nil && p != any(http.ErrAbortHandler) {
				n.err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
				if ww.Status() == 0 {
					a.writeProblem(nil, false)(ww, r, n.err)
				}
			}
			a.Metrics.observe(r.Method, pattern, ww.Status(), time.Since(start))
			a.log(r, n, id, pattern, ww, time.Since(start))
		}()
		next.ServeHTTP(ww, r)
	})
}

// deadline ends the context of a request after requestTimeout. The gateway check has no such
// deadline, because the check itself ends in a moment.
func deadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (a *API) log(r *http.Request, n *remark, id, pattern string, ww middleware.WrapResponseWriter, took time.Duration) {
	if n.err == nil && !a.Log.Enabled(r.Context(), n.level) {
		return
	}
	level := n.level
	attrs := []slog.Attr{
		slog.String("request_id", id), slog.String("method", r.Method), slog.String("route", pattern),
		slog.Int("status", ww.Status()), slog.Int("bytes", ww.BytesWritten()),
		slog.Duration("took", took), slog.String("ip", clientIP(&request{Request: r})),
	}
	if n.subject != "" {
		attrs = append(attrs, slog.String("subject", n.subject))
	}
	if n.err != nil {
		attrs = append(attrs, slog.String("error", n.err.Error()))
		switch {
		case errors.Is(n.err, identity.ErrBusy), errors.Is(n.err, identity.ErrLimited):
			level = slog.LevelDebug // the metrics count them; a line for each would add to the load
		case ww.Status() >= http.StatusInternalServerError && !errors.Is(n.err, context.Canceled):
			level = slog.LevelError
		}
	}
	a.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// requestID takes over the id that a proxy gave the request, when it is short
// and plain, or makes one.
func requestID(r *http.Request) string {
	if ids := r.Header[requestIDHeader]; len(ids) > 0 && issuer.ValidID(ids[0]) {
		return ids[0]
	}
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

const requestIDHeader = "X-Request-Id"

// secureHeaders are what every answer carries, errors too.
var secureHeaders = []struct {
	name   string
	values []string // shared by all answers
}{
	{"Cache-Control", []string{"no-store"}},
	{"Content-Security-Policy", []string{"default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; sandbox"}},
	{"Cross-Origin-Resource-Policy", []string{"same-origin"}},
	{"Referrer-Policy", []string{"no-referrer"}},
	{"Strict-Transport-Security", []string{"max-age=31536000; includeSubDomains"}},
	{"X-Content-Type-Options", []string{"nosniff"}},
}

// secure sets the headers that every answer carries. A handler may replace
// them, as /docs does with its own policy.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, s := range secureHeaders {
			w.Header()[s.name] = s.values[:1:1] // the capacity makes an append copy it
		}
		next.ServeHTTP(w, r)
	})
}

func notFound(http.ResponseWriter, *http.Request) error { return errNotFound }

// methodNotAllowed names the methods that a path does allow (RFC 9110 section
// 15.5.6). Methods that chi does not know come here on any path.
func methodNotAllowed(routes chi.Routes) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		path := r.URL.RawPath
		if path == "" {
			path = r.URL.Path
		}
		err := errNotFound
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			if routes.Match(chi.NewRouteContext(), method, path) {
				w.Header().Add("Allow", method)
				err = errMethodNotAllowed
			}
		}
		return err
	}
}
