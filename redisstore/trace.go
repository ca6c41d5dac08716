package redisstore

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sessiond/sessiond/session"
)

// lookupsKey is the span attribute that says how many lookups a batch has.
const lookupsKey = attribute.Key("sessiond.lookups")

// tracedLook is look with a span around it.
func (s *Store) tracedLook(ctx context.Context, ref session.Ref) (session.Lookup, error) {
	ctx, span := s.tracer.Start(ctx, "session.lookup")
	defer span.End()
	l, err := s.look(ctx, ref)
	fail(span, err)
	return l, err
}

// traceBatch starts the span of a batch. The caller must call end with the batch's error. A batch
// belongs to several requests. Its span is therefore a child of the first lookup that is recorded, and
// has a link to each one.
func (b *batcher) traceBatch(ctx context.Context, lookups []*lookup) (_ context.Context, end func(error) error) {
	if b.tracer == nil {
		return ctx, untraced
	}
	var links []trace.Link
	for _, l := range lookups {
		if l.span.IsRecording() {
			links = append(links, trace.Link{SpanContext: l.span.SpanContext()})
		}
	}
	if links == nil {
		return ctx, untraced
	}
	ctx, span := b.tracer.Start(trace.ContextWithSpanContext(ctx, links[0].SpanContext), "session.lookup.batch",
		trace.WithLinks(links...), trace.WithAttributes(lookupsKey.Int(len(lookups))))
	for _, l := range lookups {
		l.span.AddLink(trace.Link{SpanContext: span.SpanContext()})
	}
	return ctx, func(err error) error {
		fail(span, err)
		span.End()
		return err
	}
}

func untraced(err error) error { return err }

// fail marks a span as failed, without the error's text, because the text names the session.
func fail(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
}
