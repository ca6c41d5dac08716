package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/sessiond/sessiond/identity"
)

// logEntry is what the log line of a request says about the request, the client and the outcome.
type logEntry struct {
	start         time.Time
	id            string
	method, route string
	status, bytes int

	level    slog.Level
	clientIP netip.Addr
	subject  string
	target   string // the session or account on which the client may not act
	err      error
}

type logEntryKey struct{}

// logEntryOf returns the log entry of a request, which [API.observe] logs after the response.
func logEntryOf(r *http.Request) *logEntry {
	if e, ok := r.Context().Value(logEntryKey{}).(*logEntry); ok {
		return e
	}
	return &logEntry{}
}

// observe gives each request an id, logs and counts the request, and answers a panic with a 500.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry := &logEntry{
			start: time.Now(), id: requestID(r.Header.Get(requestIDHeader)), method: r.Method, level: slog.LevelInfo,
			clientIP: a.clientAddr(r.Context(), peerAddr(r), func(name string) []string { return r.Header[name] }),
		}
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		ww.Header().Set(requestIDHeader, entry.id)
		r = r.WithContext(context.WithValue(r.Context(), logEntryKey{}, entry))

		defer func() {
			p := recover()
			if p != nil && p != any(http.ErrAbortHandler) {
				entry.err = panicError(p)
				if ww.Status() == 0 {
					a.writeProblem(nil, false)(ww, r, entry.err)
				}
			}
			entry.route, entry.status, entry.bytes = routePattern(r), ww.Status(), ww.BytesWritten()
			a.finish(r.Context(), entry)
			if p == any(http.ErrAbortHandler) {
				panic(p) // net/http closes the connection
			}
		}()
		next.ServeHTTP(ww, r)
	})
}

func panicError(p any) error { return fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack()) }

// routePattern returns the route of a request with placeholders, such as /v1/sessions/{id}.
func routePattern(r *http.Request) string {
	if route := chi.RouteContext(r.Context()); route != nil && route.RoutePattern() != "" {
		return route.RoutePattern()
	}
	return "other"
}

// finish counts and logs a request that has been answered.
func (a *API) finish(ctx context.Context, e *logEntry) {
	took := time.Since(e.start)
	a.Metrics.observe(e.method, e.route, e.status, took)
	if a.Route != nil {
		a.Route(ctx, methodLabel(e.method), e.route)
	}
	level := e.level
	switch {
	case e.err == nil:
	case errors.Is(e.err, identity.ErrBusy), errors.Is(e.err, identity.ErrLimited):
		level = slog.LevelDebug // a line a minute counts the refused requests, because logging each would add to the load
	case e.status >= http.StatusInternalServerError && !errors.Is(e.err, context.Canceled):
		level = slog.LevelError
	}
	if !a.Log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", e.id), slog.String("method", e.method), slog.String("route", e.route),
		slog.Int("status", e.status), slog.Int("bytes", e.bytes),
		slog.Duration("took", took), slog.String("ip", e.ip()),
	}
	if e.subject != "" {
		attrs = append(attrs, slog.String("subject", e.subject))
	}
	if e.target != "" {
		attrs = append(attrs, slog.String("target", e.target))
	}
	if e.err != nil {
		attrs = append(attrs, slog.String("error", e.err.Error()))
	}
	a.Log.LogAttrs(ctx, level, "request", attrs...)
}

// ip returns the client's IP address, or an empty string if it is not known.
func (e *logEntry) ip() string {
	if e.clientIP.IsValid() {
		return e.clientIP.String()
	}
	return ""
}
