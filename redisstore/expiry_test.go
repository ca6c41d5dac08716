package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// testStore is a store with a Redis client that can read and change the store's keys.
type testStore struct {
	*redisstore.Store
	client redis.UniversalClient
	prefix string
	ref    session.Ref
}

func newTestStore(t *testing.T, redisURL string) *testStore {
	t.Helper()
	prefix := redisstoretest.Prefix(t, redisURL)
	return &testStore{
		Store:  redisstoretest.Open(t, redisURL, redisstore.Options{Prefix: prefix}),
		client: redisstoretest.Client(t, redisURL),
		prefix: prefix,
		ref:    session.Ref{Subject: "ada", SessionID: "s1", TokenID: "t1"},
	}
}

// everywhere runs a test on the embedded Redis, on a real Redis and on a Cluster.
func everywhere(t *testing.T, test func(t *testing.T, v *testStore)) {
	for name, redisURL := range map[string]func(testing.TB) string{
		"embedded": redisstoretest.URL,
		"real":     redisstoretest.RealURL,
		"cluster":  redisstoretest.ClusterURL,
	} {
		t.Run(name, func(t *testing.T) { test(t, newTestStore(t, redisURL(t))) })
	}
}

func active(generation int64, until time.Time) issuer.Snapshot {
	return issuer.Snapshot{
		Entry:             session.Entry{Generation: generation, ExpiresAt: until.Truncate(time.Second)},
		Until:             until,
		SubjectGeneration: generation,
		SubjectUntil:      until,
	}
}

func (v *testStore) backfill(t *testing.T, snapshot issuer.Snapshot) {
	t.Helper()
	lease, ok, err := v.Lease(t.Context(), v.ref)
	if err != nil || !ok {
		t.Fatalf("Lease: %t, %v", ok, err)
	}
	if done, err := v.Backfill(t.Context(), lease, v.ref, snapshot); err != nil || !done {
		t.Fatalf("Backfill: %t, %v", done, err)
	}
}

func (v *testStore) apply(t *testing.T, r issuer.Revocation) {
	t.Helper()
	if _, err := v.Apply(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// TestStore_ExpiresKeysIndependentlyOfLocalClock checks that every key expires issuer.Margin after
// its newest access token, to the millisecond and independently of this machine's clock.
func TestStore_ExpiresKeysIndependentlyOfLocalClock(t *testing.T) {
	for name, redisURL := range map[string]func(testing.TB) string{
		"real": redisstoretest.RealURL, "cluster": redisstoretest.ClusterURL,
	} {
		t.Run(name, func(t *testing.T) {
			v := newTestStore(t, redisURL(t))
			until := time.Now().Add(time.Hour)
			want := func(key string, until time.Time) {
				t.Helper()
				got, err := v.client.Do(t.Context(), "PEXPIRETIME", v.prefix+key).Int64()
				if err != nil {
					t.Fatal(err)
				}
				if want := until.Add(issuer.Margin).UnixMilli(); got != want {
					t.Errorf("%s expires at %d, want %d", key, got, want)
				}
			}

			snapshot := active(3, until)
			snapshot.SubjectUntil = until.Add(time.Minute)
			v.backfill(t, snapshot)
			want("s:{ada}:s1", until)
			want("g:{ada}", snapshot.SubjectUntil)

			// Neither Backfill nor Apply makes a generation expire earlier than before.
			v.backfill(t, active(3, until))
			want("g:{ada}", snapshot.SubjectUntil)
			v.apply(t, issuer.Revocation{Subject: "ada", Generation: 4, Until: until})
			want("g:{ada}", snapshot.SubjectUntil)
			v.apply(t, issuer.Revocation{Subject: "ada", Generation: 4, Until: until.Add(time.Hour)})
			want("g:{ada}", until.Add(time.Hour))
			v.backfill(t, active(5, until.Add(2*time.Hour)))
			want("g:{ada}", until.Add(2*time.Hour))
			want("s:{ada}:s1", until.Add(2*time.Hour))

			v.apply(t, issuer.Revocation{Subject: "ada", SessionID: "s1", Until: until})
			want("s:{ada}:s1", until)
			v.apply(t, issuer.Revocation{Subject: "ada", SessionID: "s2", TokenID: "t2", Until: until})
			want("b:{ada}:t2", until)
			// The year 9000 has 15 digits in milliseconds. The Lua scripts must keep all of them.
			far := time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)
			v.backfill(t, active(5, far))
			v.backfill(t, active(5, until))
			want("g:{ada}", far)

			if _, ok, err := v.Lease(t.Context(), v.ref); err != nil || !ok {
				t.Fatalf("Lease: %t, %v", ok, err)
			}
			if left := v.client.PTTL(t.Context(), v.prefix+"l:{ada}").Val(); left <= 0 || left > issuer.LeaseTTL {
				t.Errorf("the lease expires in %v, want at most %v", left, issuer.LeaseTTL)
			}
		})
	}
}

// TestStore_LeavesNoKeyWithoutExpiry calls the store's methods at random and
// inspects every key after each step.
func TestStore_LeavesNoKeyWithoutExpiry(t *testing.T) {
	everywhere(t, func(t *testing.T, v *testStore) {
		rapid.Check(t, func(t *rapid.T) {
			ctx := context.Background()
			v.ref.Subject = issuer.NewID()
			until := rapid.Custom(func(t *rapid.T) time.Time {
				// Many of these times are within 5 ms of the moment at which the key expires.
				return time.Now().Add(-issuer.Margin).Add(time.Duration(rapid.OneOf(
					rapid.IntRange(-5, 5), rapid.IntRange(-1e7, 1e7),
				).Draw(t, "until, ms")) * time.Millisecond)
			})
			sid := rapid.SampledFrom([]string{"s1", "s2"})
			generation := rapid.Int64Range(1, 5)
			var lease string
			t.Repeat(map[string]func(*rapid.T){
				"lease": func(t *rapid.T) {
					if l, ok, err := v.Lease(ctx, v.ref); err != nil {
						t.Fatal(err)
					} else if ok {
						lease = l
					}
				},
				"backfill": func(t *rapid.T) {
					ref := v.ref
					ref.SessionID = sid.Draw(t, "sid")
					snapshot := active(generation.Draw(t, "generation"), until.Draw(t, "until"))
					snapshot.Entry.Ended = rapid.Bool().Draw(t, "ended")
					snapshot.SubjectUntil = until.Draw(t, "subject until")
					if _, err := v.Backfill(ctx, lease, ref, snapshot); err != nil {
						t.Fatal(err)
					}
				},
				"apply": func(t *rapid.T) {
					r := rapid.SampledFrom([]issuer.Revocation{
						{SessionID: sid.Draw(t, "sid")},
						{SessionID: sid.Draw(t, "sid"), TokenID: "t1"},
						{Generation: generation.Draw(t, "generation")},
						{Generation: generation.Draw(t, "generation"), Keep: sid.Draw(t, "keep")},
					}).Draw(t, "revocation")
					r.Subject, r.Until = v.ref.Subject, until.Draw(t, "until")
					if _, err := v.Apply(ctx, r); err != nil {
						t.Fatal(err)
					}
				},
				"": func(t *rapid.T) {
					for _, key := range []string{
						"s:{" + v.ref.Subject + "}:s1", "s:{" + v.ref.Subject + "}:s2",
						"b:{" + v.ref.Subject + "}:t1", "g:{" + v.ref.Subject + "}", "l:{" + v.ref.Subject + "}",
					} {
						if left := v.client.PTTL(ctx, v.prefix+key).Val(); left == -1 {
							t.Fatalf("%s never expires", key)
						}
					}
				},
			})
		})
		// All keys that the store wrote must be in the table of doc.go.
		for _, key := range redisstoretest.Keys(t.Context(), t, v.client, v.prefix) {
			if left := v.client.PTTL(t.Context(), key).Val(); left == -1 {
				t.Errorf("%s never expires", key)
			}
			if name := strings.TrimPrefix(key, v.prefix); !strings.Contains("sbgl", name[:1]) || !strings.HasPrefix(name[1:], ":{") {
				t.Errorf("the key %s is not in the table of doc.go", key)
			}
		}
	})
}

// TestLook_IgnoresValuesOfOtherPrograms checks that no value that another program wrote under the
// store's keys makes a token valid.
func TestLook_IgnoresValuesOfOtherPrograms(t *testing.T) {
	everywhere(t, func(t *testing.T, v *testStore) {
		ctx := t.Context()
		s, b, g, l := v.prefix+"s:{ada}:s1", v.prefix+"b:{ada}:t1", v.prefix+"g:{ada}", v.prefix+"l:{ada}"
		good := active(1, time.Now().Add(time.Hour))
		good.Entry.ExpiresAt = good.Entry.ExpiresAt.UTC()

		for _, text := range []string{"", "active", "\x01", "\x02\x01\x01\x00", "\x01\x01\x01\x00\x00"} {
			v.backfill(t, good)
			v.client.Set(ctx, s, text, time.Minute)
			if got, err := v.Look(ctx, v.ref); err != nil || got.HasEntry {
				t.Errorf("Look at the entry %q = %+v, %v", text, got, err)
			}
		}
		for _, text := range []string{"", "x", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "9223372036854775808"} {
			v.backfill(t, good)
			v.client.Set(ctx, g, text, time.Minute)
			if got, err := v.Look(ctx, v.ref); err != nil || got.HasGeneration {
				t.Errorf("Look at the generation %q = %+v, %v", text, got, err)
			}
			v.apply(t, issuer.Revocation{Subject: "ada", Generation: 2, Until: good.Until})
			v.client.Del(ctx, g)
		}
		// A generation in another format does not prevent a backfill.
		for _, text := range []string{"", "x", "-1", "1e3"} {
			v.client.Set(ctx, g, text, 0)
			v.backfill(t, good)
			if got, err := v.Look(ctx, v.ref); err != nil || !got.HasGeneration || got.Generation != 1 {
				t.Errorf("Look after a backfill over the generation %q = %+v, %v", text, got, err)
			}
			if left := v.client.PTTL(ctx, g).Val(); left <= 0 {
				t.Errorf("after a backfill over %q, the generation expires in %v", text, left)
			}
		}

		for _, key := range []string{s, g, b} {
			v.backfill(t, good)
			v.client.Del(ctx, key)
			v.client.RPush(ctx, key, "x")
			v.client.Expire(ctx, key, time.Minute)
			got, err := v.Look(ctx, v.ref)
			// A Redis list in place of a text counts as a missing value. If the key of a revoked
			// token has no value, the token is not revoked.
			if err == nil && got.HasEntry && got.HasGeneration && key != b {
				t.Errorf("Look with a list at %s = %+v", key, got)
			}
			if err != nil && !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("Look with a list at %s = %v", key, err)
			}
			for _, r := range []issuer.Revocation{
				{Subject: "ada", SessionID: "s1", TokenID: "t1", Until: good.Until},
				{Subject: "ada", SessionID: "s1", Until: good.Until},
				{Subject: "ada", Generation: 1, Keep: "s1", Until: good.Until},
			} {
				v.apply(t, r)
			}
			v.backfill(t, good)
			if got, err := v.Look(ctx, v.ref); err != nil || !got.HasEntry || !got.HasGeneration {
				t.Errorf("Look after a backfill over a list at %s = %+v, %v", key, got, err)
			}
			v.client.Del(ctx, b)
		}

		v.client.Del(ctx, s)
		v.client.RPush(ctx, l, "x")
		v.client.Expire(ctx, l, time.Minute)
		for _, lease := range []string{"x", "x:1:r:x"} {
			if done, err := v.Backfill(ctx, lease, v.ref, good); done {
				t.Errorf("Backfill under a lease that is a list = %t, %v", done, err)
			}
		}
	})
}

// TestStore_ResendsScriptsAfterFlush flushes the server's scripts, which Redis also forgets in a
// restart.
func TestStore_ResendsScriptsAfterFlush(t *testing.T) {
	v := newTestStore(t, redisstoretest.StartServer(t))
	until := time.Now().Add(time.Hour)
	for range 2 {
		v.backfill(t, active(1, until))
		for _, r := range []issuer.Revocation{
			{Subject: "ada", SessionID: "s1", TokenID: "t1", Until: until},
			{Subject: "ada", SessionID: "s1", Until: until},
			{Subject: "ada", Generation: 1, Until: until},
		} {
			v.apply(t, r)
		}
		if err := v.client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}
