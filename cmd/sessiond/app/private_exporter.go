package app

import (
	"context"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// exported lists the attributes of spans and events that may leave the service. The libraries add others,
// which contain paths, query strings, client addresses, user agents or texts of errors. Tokens, names and
// addresses of people are in some of these.
var exported = []attribute.Key{
	semconv.HTTPRequestMethodKey, semconv.HTTPResponseStatusCodeKey, semconv.HTTPRouteKey, semconv.URLSchemeKey,
	semconv.NetworkProtocolVersionKey, semconv.ErrorTypeKey, semconv.ExceptionTypeKey,
	semconv.ServerAddressKey, semconv.ServerPortKey, // of this service, Redis, or the service for breached passwords
	semconv.DBSystemNameKey, semconv.DBQueryTextKey, // the text of a query has placeholders instead of values
	"db.system", "db.redis.num_cmd", // redisotel has these
	"sessiond.lookups",
}

// privateExporter exports spans without what must not leave the service. It logs when the collector stops
// to accept spans, and when the collector accepts spans again.
type privateExporter struct {
	sdktrace.SpanExporter
	log     *slog.Logger
	failing bool // the last export failed; the batch processor calls ExportSpans only one at a time
}

// ExportSpans implements [sdktrace.SpanExporter]. It returns no error, because it logs the error itself.
func (e *privateExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	private := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, span := range spans {
		private[i] = privateSpan{span}
	}
	err := e.SpanExporter.ExportSpans(ctx, private)
	switch {
	case err != nil && !e.failing:
		e.log.Warn("traces cannot be exported and are lost", "error", err)
	case err == nil && e.failing:
		e.log.Info("traces are exported again")
	}
	e.failing = err != nil
	return nil
}

// privateSpan is a span without what must not leave the service.
type privateSpan struct{ sdktrace.ReadOnlySpan }

func (s privateSpan) Attributes() []attribute.KeyValue { return allowed(s.ReadOnlySpan.Attributes()) }

func (s privateSpan) Events() []sdktrace.Event {
	events := slices.Clone(s.ReadOnlySpan.Events())
	for i := range events {
		events[i].Attributes = allowed(events[i].Attributes)
	}
	return events
}

// Status omits the description, because it is the text of an error.
func (s privateSpan) Status() sdktrace.Status {
	return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code}
}

// allowed returns the attributes that may leave the service.
func allowed(all []attribute.KeyValue) (some []attribute.KeyValue) {
	for _, a := range all {
		if slices.Contains(exported, a.Key) {
			some = append(some, a)
		}
	}
	return some
}
