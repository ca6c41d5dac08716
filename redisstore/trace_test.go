package redisstore

import (
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sessiond/sessiond/session"
)

// A batch links the lookups that are recorded, even if the first lookup is not. A batch of lookups that
// are not recorded has no span.
func TestBatcher_LinksBatchToRecordedLookups(t *testing.T) {
	for _, recorded := range [][]bool{{false, true, true}, {false, false}} {
		synctest.Test(t, func(t *testing.T) {
			spans := tracetest.NewInMemoryExporter()
			tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("")
			b, server := newBatcher()
			b.tracer = tracer
			var first []*sentBatch
			var answers []<-chan answer
			for n := range 3 { // two direct lookups, and a batch that makes the next lookups wait
				answers = append(answers, ask(t.Context(), b, n))
				first = append(first, <-server.sent)
			}
			var want []trace.Span
			for n, sampled := range recorded {
				ctx := t.Context()
				if sampled {
					var span trace.Span
					ctx, span = tracer.Start(ctx, "lookup")
					want = append(want, span)
				}
				answers = append(answers, ask(ctx, b, 3+n))
			}
			for _, sent := range first {
				close(sent.answer)
			}
			second := <-server.sent
			close(second.answer)
			for _, out := range answers {
				<-out
			}
			b.wantIdle(t)
			for _, span := range want {
				span.End()
			}

			all := spans.GetSpans()
			if len(want) == 0 {
				if len(all) != 0 {
					t.Errorf("got the spans %v, want none", all)
				}
				return
			}
			batch := all[0]
			if batch.Name != "session.lookup.batch" || len(all) != 1+len(want) || len(batch.Links) != len(want) {
				t.Fatalf("got %d spans, the first %q with %d links, want a batch with %d links", len(all), batch.Name, len(batch.Links), len(want))
			}
			if batch.Parent.SpanID() != want[0].SpanContext().SpanID() {
				t.Error("the batch is not below the first lookup that is recorded")
			}
			for i, lookup := range all[1:] {
				if batch.Links[i].SpanContext.SpanID() != lookup.SpanContext.SpanID() {
					t.Errorf("link %d of the batch leads to another span than its lookup", i)
				}
				if len(lookup.Links) != 1 || lookup.Links[0].SpanContext.SpanID() != batch.SpanContext.SpanID() {
					t.Errorf("lookup %d has the links %v, want one to the batch", i, lookup.Links)
				}
			}
		})
	}
}

// The error of a lookup names the session.
func TestLook_SpanOfFailureHasNoText(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	store, err := Open("redis://127.0.0.1:1", Options{Tracer: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Look(t.Context(), session.Ref{Subject: "sub", SessionID: "sid", TokenID: "jti"}); err == nil {
		t.Fatal("a lookup succeeded without a server")
	}
	all := spans.GetSpans()
	if len(all) != 1 || all[0].Name != "session.lookup" || all[0].Status.Code != codes.Error || all[0].Status.Description != "" || len(all[0].Events) != 0 {
		t.Errorf("got the spans %+v, want one failed lookup without a text", all)
	}
}
