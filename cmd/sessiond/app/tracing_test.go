package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sessiond/sessiond/redisstore"
)

func TestTracingOn_FollowsStandardVariables(t *testing.T) {
	for _, c := range []struct {
		variables string
		want      bool
	}{
		{"", false},
		{"OTEL_SERVICE_NAME=x", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=", false},
		{"OTEL_TRACES_EXPORTER= OTEL_EXPORTER_OTLP_ENDPOINT=", false},
		{"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://x", false},
		{"OTEL_SDK_DISABLED=TRUE OTEL_TRACES_EXPORTER=otlp", false},
		{"OTEL_SDK_DISABLED=false OTEL_TRACES_EXPORTER=otlp", true},
		{"OTEL_TRACES_EXPORTER=console", true},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x", true},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://x", true},
	} {
		values := map[string]string{}
		for _, v := range strings.Fields(c.variables) {
			name, value, _ := strings.Cut(v, "=")
			values[name] = value
		}
		if got := tracingOn(func(name string) (string, bool) { v, ok := values[name]; return v, ok }); got != c.want {
			t.Errorf("with %q, tracing is on: %t, want %t", c.variables, got, c.want)
		}
	}
}

func TestNewSpanExporter_FollowsStandardVariables(t *testing.T) {
	for _, c := range []struct{ exporter, protocol, traces, want string }{
		{"", "", "", "*otlptrace.Exporter http"},
		{"otlp", "http/protobuf", "", "*otlptrace.Exporter http"},
		{"otlp", "grpc", "", "*otlptrace.Exporter grpc"},
		{"otlp", "grpc", "http/protobuf", "*otlptrace.Exporter http"}, // the variable for traces wins
		{"console", "unknown", "", "*stdouttrace.Exporter"},
		{"unknown", "", "", "OTEL_TRACES_EXPORTER: want otlp, console or none"},
		{"otlp", "http/json", "", "OTEL_EXPORTER_OTLP_PROTOCOL: want http/protobuf or grpc"},
	} {
		values := map[string]string{"OTEL_TRACES_EXPORTER": c.exporter, "OTEL_EXPORTER_OTLP_PROTOCOL": c.protocol, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": c.traces}
		exporter, err := newSpanExporter(t.Context(), func(name string) (string, bool) { v, ok := values[name]; return v, ok })
		got := fmt.Sprintf("%T", exporter)
		if err != nil {
			got = err.Error()
		} else {
			t.Cleanup(func() { _ = exporter.Shutdown(context.WithoutCancel(t.Context())) })
		}
		if transport, ok := exporter.(*otlptrace.Exporter); ok {
			text := fmt.Sprintf("%#v", transport.MarshalLog())
			got += map[bool]string{true: " grpc", false: " http"}[strings.Contains(text, "grpc")]
		}
		if got != c.want {
			t.Errorf("for %+v, the exporter is %s", c, got)
		}
	}
}

func TestOpenTracing_RefusesUnknownExporter(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "unknown")
	_, err := openTracing(t.Context(), slog.New(slog.DiscardHandler), new(closers))
	if err == nil || !strings.HasPrefix(err.Error(), "OTEL_TRACES_EXPORTER") {
		t.Errorf("got %v, want an error about OTEL_TRACES_EXPORTER", err)
	}
}

// Without tracing, a request must pass through the same code as before there was tracing.
func TestTracing_OffInstallsNothing(t *testing.T) {
	var off *Tracing
	handler := http.Handler(http.NewServeMux())
	if off.handler(handler, "https://id.example") != handler {
		t.Error("the HTTP handler is wrapped")
	}
	log := slog.New(slog.DiscardHandler)
	if off.logger(log) != log {
		t.Error("the logger is wrapped")
	}
	if off.route() != nil || off.steps() != nil || off.jobs() != nil || off.openPool("postgres://") != nil {
		t.Error("there is a hook for routes, hashes, mails or SQL")
	}
	if got := off.redis(redisstore.Options{}); !reflect.ValueOf(got).IsZero() {
		t.Errorf("the options of the Redis store are %+v, want none", got)
	}
	var parts Parts
	check := newChecks(t, func(p *Parts) { parts = *p })
	if status := check(); status != http.StatusOK {
		t.Fatalf("status %d, want 200", status)
	}
	if parts.Tracing != nil || parts.Hasher.Span != nil {
		t.Error("a service without the variables of OpenTelemetry is traced")
	}
	traced := newChecks(t, traceEverything(tracetest.NewNoopExporter()))
	if without, with := testing.AllocsPerRun(100, func() { check() }), testing.AllocsPerRun(100, func() { traced() }); with < without+10 {
		t.Errorf("a check allocates %v times without tracing and %v times with it; want far more with it", without, with)
	}
}

// traceEverything returns a function for newChecks that sends all spans to the exporter.
func traceEverything(exporter sdktrace.SpanExporter) func(*Parts) {
	return func(p *Parts) { p.Tracing = newTracing(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))) }
}

// The difference from BenchmarkCheck is what tracing costs when it is on.
func BenchmarkCheck_Traced(b *testing.B) {
	benchmarkCheck(b, traceEverything(tracetest.NewNoopExporter()))
}

// A statement of a background task would otherwise be a trace of its own.
func TestChildProvider_StartsNoSpanWithoutParent(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tracing := newTracing(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	_, end := tracing.steps()(t.Context(), "background")
	end(nil)
	job, endJob := tracing.jobs()(t.Context(), "job")
	_, end = tracing.steps()(job, "step")
	end(errors.New("failed"))
	endJob(nil)
	got := spans.GetSpans()
	if len(got) != 2 || got[0].Name != "step" || got[0].Status.Code != codes.Error || got[1].Name != "job" || got[0].Parent.SpanID() != got[1].SpanContext.SpanID() {
		t.Errorf("got the spans %+v, want a failed step below the job", got)
	}
}

// failingExporter is an exporter that fails while err is set.
type failingExporter struct {
	*tracetest.InMemoryExporter
	err error
}

func (e *failingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return errors.Join(e.err, e.InMemoryExporter.ExportSpans(ctx, spans))
}

func TestPrivateExporter_ExportsOnlyListedAttributes(t *testing.T) {
	const secret = "canary"
	kept := &failingExporter{InMemoryExporter: tracetest.NewInMemoryExporter()}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(&privateExporter{SpanExporter: kept, log: slog.New(slog.DiscardHandler)}))
	_, span := provider.Tracer("").Start(t.Context(), "name")
	span.SetAttributes(attribute.String("http.route", "/x"), attribute.String("url.path", secret), attribute.String("new.attribute", secret))
	span.RecordError(errors.New(secret))
	span.SetStatus(codes.Error, secret)
	span.End()
	got := kept.GetSpans()[0]
	if len(got.Attributes) != 1 || got.Attributes[0].Key != "http.route" {
		t.Errorf("the span has the attributes %v, want only http.route", got.Attributes)
	}
	if len(got.Events) != 1 || len(got.Events[0].Attributes) != 1 || got.Events[0].Attributes[0].Key != "exception.type" {
		t.Errorf("the span has the events %v, want the type of the error", got.Events)
	}
	if got.Status.Code != codes.Error || got.Status.Description != "" {
		t.Errorf("the span has the status %v, want an error without a text", got.Status)
	}
}

func TestPrivateExporter_LogsOnlyChanges(t *testing.T) {
	var log bytes.Buffer
	kept := &failingExporter{InMemoryExporter: tracetest.NewInMemoryExporter()}
	exporter := &privateExporter{SpanExporter: kept, log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, err := range []error{nil, errors.New("down"), errors.New("down"), nil, nil} {
		kept.err = err
		if err := exporter.ExportSpans(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	if lost, again := strings.Count(log.String(), "are lost"), strings.Count(log.String(), "exported again"); lost != 1 || again != 1 {
		t.Errorf("the log says %d times that traces are lost and %d times that they are exported again: %s", lost, again, &log)
	}
}

func TestTracingLogger_KeepsFieldsAndGroups(t *testing.T) {
	var out bytes.Buffer
	tracing := newTracing(sdktrace.NewTracerProvider())
	log := tracing.logger(slog.New(slog.NewTextHandler(&out, nil))).With("a", 1).WithGroup("g")
	log.Info("no request")
	if strings.Contains(out.String(), "trace_id") || !strings.Contains(out.String(), "a=1") {
		t.Errorf("got %s, want a=1 and no trace", &out)
	}
	out.Reset()
	ctx, end := tracing.jobs()(t.Context(), "job")
	log.InfoContext(ctx, "request", "b", 2)
	end(nil)
	if got := out.String(); !strings.Contains(got, "a=1 g.b=2 g.trace_id=") || !strings.Contains(got, "span_id=") {
		t.Errorf("got %s, want a=1 g.b=2 and a trace", got)
	}
}
