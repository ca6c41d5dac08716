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

// logEntry is what the log line of a request says about the client and the outcome.
type logEntry struct {
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
		start := time.Now()
		entry := &logEntry{level: slog.LevelInfo, clientIP: a.clientAddr(r)}
		id := requestID(r)
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		ww.Header().Set(requestIDHeader, id)
		r = r.WithContext(context.WithValue(r.Context(), logEntryKey{}, entry))

		defer func() {
			p := recover()
			if p != nil && p != any(http.ErrAbortHandler) {
				entry.err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
				if ww.Status() == 0 {
					a.writeProblem(nil, false)(ww, r, entry.err)
				}
			}
			pattern, took := routePattern(r), time.Since(start)
			a.Metrics.observe(r.Method, pattern, ww.Status(), took)
			if a.Route != nil {
				a.Route(r.Context(), methodLabel(r.Method), pattern)
			}
			a.log(r, entry, id, pattern, ww, took)
			if p == any(http.ErrAbortHandler) {
				panic(p) // net/http closes the connection
			}
		}()
		next.ServeHTTP(ww, r)
	})
}

// routePattern returns the route of a request with placeholders, such as /v1/sessions/{id}.
func routePattern(r *http.Request) string {
	if isGatewayCheck(r.URL.Path) {
		return verifyPattern
	}
	if route := chi.RouteContext(r.Context()); route != nil && route.RoutePattern() != "" {
		return route.RoutePattern()
	}
	return "other"
}

func (a *API) log(r *http.Request, e *logEntry, id, pattern string, ww middleware.WrapResponseWriter, took time.Duration) {
	level := e.level
	switch {
	case e.err == nil:
	case errors.Is(e.err, identity.ErrBusy), errors.Is(e.err, identity.ErrLimited):
		level = slog.LevelDebug // a line a minute counts the refused requests, because logging each would add to the load
	case ww.Status() >= http.StatusInternalServerError && !errors.Is(e.err, context.Canceled):
		level = slog.LevelError
	}
	if !a.Log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", id), slog.String("method", r.Method), slog.String("route", pattern),
		slog.Int("status", ww.Status()), slog.Int("bytes", ww.BytesWritten()),
		slog.Duration("took", took), slog.String("ip", clientIP(r)),
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
	a.Log.LogAttrs(r.Context(), level, "request", attrs...)
}
