package app

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/XSAM/otelsql"
	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/sessiond/sessiond/redisstore"
)

// Tracing sends spans to an OpenTelemetry collector. It is nil if tracing is off. The methods of a nil
// Tracing return what they were given, or nil. Without tracing, no request then passes through a wrapper.
type Tracing struct {
	provider *sdktrace.TracerProvider
	children trace.TracerProvider // starts only spans that have a parent
}

const (
	tracerName = "github.com/sessiond/sessiond"
	// flushTimeout is how long the end of the program may wait until the last spans are exported.
	flushTimeout = 3 * time.Second
	// maxLinks is how many links a span may have, unless the environment says otherwise. A batch of
	// lookups has up to 256.
	maxLinks = 256
)

// traceContext carries a trace from client to service in the headers traceparent and tracestate. There is
// no baggage, because a client could send any data to other services with it.
var traceContext = propagation.TraceContext{}

// tracingOn reports whether the environment asks for traces.
func tracingOn(env lookupEnv) bool {
	get := env.get
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if exporter := get("OTEL_TRACES_EXPORTER"); exporter != "" {
		return exporter != "none"
	}
	return cmp.Or(get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), get("OTEL_EXPORTER_OTLP_ENDPOINT")) != ""
}

// openTracing returns nil if tracing is off. It reads the environment of the process, because the
// libraries of OpenTelemetry read nothing else. A collector that does not answer is no error.
func openTracing(ctx context.Context, log *slog.Logger, c *closers) (*Tracing, error) {
	if !tracingOn(os.LookupEnv) {
		return nil, nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("OpenTelemetry reports an error", "error", err) }))
	exporter, err := newSpanExporter(ctx, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	described, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName("sessiond"), semconv.ServiceVersion(thisBuild().version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	limits := sdktrace.NewSpanLimits()
	if limits.LinkCountLimit == sdktrace.DefaultLinkCountLimit {
		limits.LinkCountLimit = maxLinks
	}
	t := newTracing(sdktrace.NewTracerProvider(sdktrace.WithResource(described), sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithBatcher(&privateExporter{SpanExporter: exporter, log: log})))
	c.add(func() error {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := t.provider.Shutdown(ending); err != nil {
			log.Warn("the last traces were not exported", "error", err)
		}
		return nil
	})
	log.Info("tracing is on")
	return t, nil
}

// newSpanExporter returns the exporter that the environment names. The exporters themselves read the
// other variables, such as those of the endpoint.
func newSpanExporter(ctx context.Context, env lookupEnv) (sdktrace.SpanExporter, error) {
	get := env.get
	switch get("OTEL_TRACES_EXPORTER") {
	case "", "otlp":
	case "console":
		return stdouttrace.New()
	default:
		return nil, errors.New("OTEL_TRACES_EXPORTER: want otlp, console or none")
	}
	switch cmp.Or(get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), get("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf") {
	case "http/protobuf":
		return otlptracehttp.New(ctx)
	case "grpc":
		return otlptracegrpc.New(ctx)
	}
	return nil, errors.New("OTEL_EXPORTER_OTLP_PROTOCOL: want http/protobuf or grpc")
}

func newTracing(provider *sdktrace.TracerProvider) *Tracing {
	return &Tracing{provider, childProvider{provider}}
}

// handler returns a handler that records a span for each request. Health checks have no spans.
func (t *Tracing) handler(h http.Handler, publicURL string) http.Handler {
	if t == nil {
		return h
	}
	name := "sessiond" // the name of this server in spans, instead of the header Host, which a client can choose
	if public, err := url.Parse(publicURL); err == nil {
		name = cmp.Or(public.Host, name)
	}
	return otelhttp.NewHandler(h, "", otelhttp.WithTracerProvider(t.provider), otelhttp.WithMeterProvider(metricnoop.NewMeterProvider()),
		otelhttp.WithPropagators(traceContext), otelhttp.WithServerName(name),
		otelhttp.WithFilter(func(r *http.Request) bool { return r.URL.Path != "/livez" && r.URL.Path != "/readyz" }))
}

// route returns a function for [api.API.Route]. It gives the span of a request the name of its route.
func (t *Tracing) route() func(ctx context.Context, method, pattern string) {
	if t == nil {
		return nil
	}
	return func(ctx context.Context, method, pattern string) {
		span := trace.SpanFromContext(ctx)
		span.SetName(method + " " + pattern)
		span.SetAttributes(semconv.HTTPRoute(pattern))
	}
}

// requests returns a function for [api.API.Span]. It starts the span of a request that is not of net/http.
func (t *Tracing) requests() func(context.Context, func(string) []string) (context.Context, func(int)) {
	if t == nil {
		return nil
	}
	tracer := t.provider.Tracer(tracerName)
	return func(ctx context.Context, header func(string) []string) (context.Context, func(int)) {
		ctx = traceContext.Extract(ctx, carrier(header))
		ctx, span := tracer.Start(ctx, "", trace.WithSpanKind(trace.SpanKindServer))
		return ctx, func(status int) {
			span.SetAttributes(semconv.HTTPResponseStatusCode(status))
			if status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
			span.End()
		}
	}
}

// carrier reads the headers of a request for [propagation.TraceContext].
type carrier func(name string) []string

// Get returns the first value of a header.
func (c carrier) Get(name string) string {
	if values := c(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set does nothing, because a carrier is only read.
func (carrier) Set(string, string) {}

// Keys returns nil, because traceContext asks for its headers by name.
func (carrier) Keys() []string { return nil }

// transport returns a transport that records a span for each request, and sends the trace on.
func (t *Tracing) transport(base http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(base, otelhttp.WithTracerProvider(t.children),
		otelhttp.WithMeterProvider(metricnoop.NewMeterProvider()), otelhttp.WithPropagators(traceContext))
}

// openPool returns a function for [sqlstore.Options]. It opens a database whose statements have spans.
func (t *Tracing) openPool(databaseURL string) func(driver.Connector) *sql.DB {
	if t == nil {
		return nil
	}
	system := semconv.DBSystemNamePostgreSQL
	if strings.HasPrefix(databaseURL, "sqlite:") {
		system = semconv.DBSystemNameSQLite
	}
	return func(c driver.Connector) *sql.DB {
		return otelsql.OpenDB(c, otelsql.WithTracerProvider(t.children), otelsql.WithMeterProvider(metricnoop.NewMeterProvider()),
			otelsql.WithAttributes(system), otelsql.WithSpanOptions(otelsql.SpanOptions{
				DisableErrSkip: true, OmitConnResetSession: true, OmitRows: true,
			}))
	}
}

// redis adds spans to the commands and lookups of a store.
func (t *Tracing) redis(o redisstore.Options) redisstore.Options {
	if t != nil {
		o.Tracer = t.children.Tracer(tracerName)
		o.Instrument = func(client redis.UniversalClient) error {
			return redisotel.InstrumentTracing(client, redisotel.WithTracerProvider(t.children),
				redisotel.WithDBStatement(false), // it would contain the keys
				redisotel.WithCallerEnabled(false))
		}
	}
	return o
}

// steps returns a function that starts the span of a step of a request.
func (t *Tracing) steps() func(context.Context, string) (context.Context, func(error)) {
	if t == nil {
		return nil
	}
	return spanStarter(t.children)
}

// jobs returns a function that starts the span of a job. Unless ctx has a trace, the job has its own.
func (t *Tracing) jobs() func(context.Context, string) (context.Context, func(error)) {
	if t == nil {
		return nil
	}
	return spanStarter(t.provider)
}

func spanStarter(p trace.TracerProvider) func(context.Context, string) (context.Context, func(error)) {
	tracer := p.Tracer(tracerName)
	return func(ctx context.Context, name string) (context.Context, func(error)) {
		ctx, span := tracer.Start(ctx, name)
		return ctx, func(err error) {
			if err != nil {
				span.SetStatus(codes.Error, "")
			}
			span.End()
		}
	}
}

// logger returns a logger whose lines about a request have the fields trace_id and span_id.
func (t *Tracing) logger(log *slog.Logger) *slog.Logger {
	if t == nil {
		return log
	}
	return slog.New(tracedLog{log.Handler()})
}

type tracedLog struct{ slog.Handler }

func (h tracedLog) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h tracedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return tracedLog{h.Handler.WithAttrs(attrs)}
}

func (h tracedLog) WithGroup(name string) slog.Handler { return tracedLog{h.Handler.WithGroup(name)} }

// childProvider starts only spans that have a parent. Otherwise each statement of a background task, such
// as the one that looks at both stores every second, would be a trace of its own.
type childProvider struct{ trace.TracerProvider }

func (p childProvider) Tracer(name string, opts ...trace.TracerOption) trace.Tracer {
	return childTracer{p.TracerProvider.Tracer(name, opts...)}
}

type childTracer struct{ trace.Tracer }

func (t childTracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, tracenoop.Span{}
	}
	return t.Tracer.Start(ctx, name, opts...)
}
