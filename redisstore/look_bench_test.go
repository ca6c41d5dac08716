package redisstore_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// BenchmarkLook compares three ways to send lookups to a real Redis: directly, in batches, and with
// go-redis's own auto-pipelining. Decision 0007 quotes its results.
func BenchmarkLook(b *testing.B) {
	redisURL := redisstoretest.RealURL(b)
	const sessions = 1000
	refs := make([]session.Ref, sessions)
	for i := range refs {
		refs[i] = session.Ref{Subject: issuer.NewID(), SessionID: issuer.NewTimedID(time.Now()), TokenID: issuer.NewID()}
	}
	batched := redisstoretest.Open(b, redisURL, redisstore.Options{})
	direct := redisstoretest.Open(b, redisURL, redisstore.Options{Unbatched: true})
	until := time.Now().Add(time.Hour)
	for _, ref := range refs {
		lease, _, err := batched.Lease(b.Context(), ref)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := batched.Backfill(b.Context(), lease, ref, active(1, until)); err != nil {
			b.Fatal(err)
		}
	}
	client := redisstoretest.Client(b, redisURL).(*redis.Client)
	b.Cleanup(func() { client.FlushDB(context.Background()) })
	auto, err := client.AutoPipeline()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = auto.Close() })

	ways := []struct {
		name string
		look func(context.Context, session.Ref) error
	}{
		{"direct", func(ctx context.Context, ref session.Ref) error { _, err := direct.Look(ctx, ref); return err }},
		{"batched", func(ctx context.Context, ref session.Ref) error { _, err := batched.Look(ctx, ref); return err }},
		{"autopipeline", func(ctx context.Context, ref session.Ref) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return auto.MGet(ctx, "g:{"+ref.Subject+"}", "s:{"+ref.Subject+"}:"+ref.SessionID, "b:{"+ref.Subject+"}:"+ref.TokenID).Err()
		}},
	}
	for _, callers := range []int{1, 2, 64, 256} {
		for _, way := range ways {
			b.Run(fmt.Sprintf("%s/%d", way.name, callers), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
				if callers == 1 {
					for i := range b.N {
						if err := way.look(b.Context(), refs[i%sessions]); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						if err := way.look(b.Context(), refs[i%sessions]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
