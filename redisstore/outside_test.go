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

// view is a store, and a client that sees its keys from outside.
type view struct {
	*redisstore.Store
	client redis.UniversalClient
	prefix string
	ref    session.Ref
}

func newView(t *testing.T, redisURL string) *view {
	t.Helper()
	prefix := redisstoretest.Prefix(t, redisURL)
	return &view{
		Store:  redisstoretest.Open(t, redisURL, redisstore.Options{Prefix: prefix}),
		client: redisstoretest.Client(t, redisURL),
		prefix: prefix,
		ref:    session.Ref{Subject: "ada", SessionID: "s1", TokenID: "t1"},
	}
}

// everywhere runs a test on each kind of Redis that there is.
func everywhere(t *testing.T, test func(t *testing.T, v *view)) {
	for name, redisURL := range map[string]func(testing.TB) string{
		"embedded": redisstoretest.URL,
		"real":     redisstoretest.RealURL,
		"cluster":  redisstoretest.ClusterURL,
	} {
		t.Run(name, func(t *testing.T) { test(t, newView(t, redisURL(t))) })
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

func (v *view) fill(t *testing.T, fill issuer.Snapshot) {
	t.Helper()
	lease, ok, err := v.Lease(t.Context(), v.ref.Subject)
	if err != nil || !ok {
		t.Fatalf("Lease: %t, %v", ok, err)
	}
	if done, err := v.Backfill(t.Context(), lease, v.ref, fill); err != nil || !done {
		t.Fatalf("PutBack: %t, %v", done, err)
	}
}

func (v *view) apply(t *testing.T, r issuer.Revocation) {
	t.Helper()
	if err := v.Apply(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// TestExpiryTimes: every key goes issuer.Margin after the token that it is about, to
// the millisecond and whatever the clock of this machine says.
func TestExpiryTimes(t *testing.T) {
	for name, redisURL := range map[string]func(testing.TB) string{
		"real": redisstoretest.RealURL, "cluster": redisstoretest.ClusterURL,
	} {
		t.Run(name, func(t *testing.T) {
			v := newView(t, redisURL(t))
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

			fill := active(3, until)
			fill.SubjectUntil = until.Add(time.Minute)
			v.fill(t, fill)
			want("s:{ada}:s1", until)
			want("g:{ada}", fill.SubjectUntil)

			// The generation's goes up and never down, by whichever way.
			v.fill(t, active(3, until))
			want("g:{ada}", fill.SubjectUntil)
			v.apply(t, issuer.Revocation{Subject: "ada", Generation: 4, Until: until})
			want("g:{ada}", fill.SubjectUntil)
			v.apply(t, issuer.Revocation{Subject: "ada", Generation: 4, Until: until.Add(time.Hour)})
			want("g:{ada}", until.Add(time.Hour))
			v.fill(t, active(5, until.Add(2*time.Hour)))
			want("g:{ada}", until.Add(2*time.Hour))
			want("s:{ada}:s1", until.Add(2*time.Hour))

			v.apply(t, issuer.Revocation{Subject: "ada", SessionID: "s1", Until: until})
			want("s:{ada}:s1", until)
			v.apply(t, issuer.Revocation{Subject: "ada", SessionID: "s2", TokenID: "t2", Until: until})
			want("b:{ada}:t2", until)
			// Beyond what 14 digits of milliseconds can say.
			far := time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)
			v.fill(t, active(5, far))
			v.fill(t, active(5, until))
			want("g:{ada}", far)

			if _, ok, err := v.Lease(t.Context(), "ada"); err != nil || !ok {
				t.Fatalf("Lease: %t, %v", ok, err)
			}
			if left := v.client.PTTL(t.Context(), v.prefix+"l:{ada}").Val(); left <= 0 || left > issuer.LeaseTTL {
				t.Errorf("the lease has %v left", left)
			}
		})
	}
}

// TestNoKeyWithoutExpiry does whatever a store can be asked to do, at random,
// and looks at every key that is there after each step.
func TestNoKeyWithoutExpiry(t *testing.T) {
	everywhere(t, func(t *testing.T, v *view) {
		rapid.Check(t, func(t *rapid.T) {
			ctx := context.Background()
			v.ref.Subject = issuer.NewID()
			until := rapid.Custom(func(t *rapid.T) time.Time {
				// From long past to far, and around the moment of expiry.
				return time.Now().Add(-issuer.Margin).Add(time.Duration(rapid.OneOf(
					rapid.IntRange(-5, 5), rapid.IntRange(-1e7, 1e7),
				).Draw(t, "until, ms")) * time.Millisecond)
			})
			sid := rapid.SampledFrom([]string{"s1", "s2"})
			generation := rapid.Int64Range(1, 5)
			var lease string
			t.Repeat(map[string]func(*rapid.T){
				"lease": func(t *rapid.T) {
					if l, ok, err := v.Lease(ctx, v.ref.Subject); err != nil {
						t.Fatal(err)
					} else if ok {
						lease = l
					}
				},
				"put back": func(t *rapid.T) {
					ref := v.ref
					ref.SessionID = sid.Draw(t, "sid")
					fill := active(generation.Draw(t, "generation"), until.Draw(t, "until"))
					fill.Entry.Ended = rapid.Bool().Draw(t, "ended")
					fill.SubjectUntil = until.Draw(t, "subject until")
					if _, err := v.Backfill(ctx, lease, ref, fill); err != nil {
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
					if err := v.Apply(ctx, r); err != nil {
						t.Fatal(err)
					}
				},
				"": func(t *rapid.T) {
					for _, key := range []string{
						"s:{" + v.ref.Subject + "}:s1", "s:{" + v.ref.Subject + "}:s2",
						"b:{" + v.ref.Subject + "}:t1", "g:{" + v.ref.Subject + "}", "l:{" + v.ref.Subject + "}",
					} {
						if left := v.client.PTTL(ctx, v.prefix+key).Val(); left == -1 {
							t.Fatalf("%s stays for ever", key)
						}
					}
				},
			})
		})
		// And no key of another name was made.
		for _, key := range redisstoretest.Keys(t.Context(), t, v.client, v.prefix) {
			if left := v.client.PTTL(t.Context(), key).Val(); left == -1 {
				t.Errorf("%s stays for ever", key)
			}
			if name := strings.TrimPrefix(key, v.prefix); !strings.Contains("sbgl", name[:1]) || !strings.HasPrefix(name[1:], ":{") {
				t.Errorf("a key of an unknown name: %s", key)
			}
		}
	})
}

// TestForeignValues: whatever somebody else put under our names makes no token good.
func TestForeignValues(t *testing.T) {
	everywhere(t, func(t *testing.T, v *view) {
		ctx := t.Context()
		s, b, g, l := v.prefix+"s:{ada}:s1", v.prefix+"b:{ada}:t1", v.prefix+"g:{ada}", v.prefix+"l:{ada}"
		good := active(1, time.Now().Add(time.Hour))
		good.Entry.ExpiresAt = good.Entry.ExpiresAt.UTC()

		for _, text := range []string{"", "active", "\x01", "\x02\x01\x01\x00", "\x01\x01\x01\x00\x00"} {
			v.fill(t, good)
			v.client.Set(ctx, s, text, time.Minute)
			if got, err := v.Look(ctx, v.ref); err != nil || got.HasEntry {
				t.Errorf("entry %q: %+v, %v", text, got, err)
			}
		}
		for _, text := range []string{"", "x", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "9223372036854775808"} {
			v.fill(t, good)
			v.client.Set(ctx, g, text, time.Minute)
			if got, err := v.Look(ctx, v.ref); err != nil || got.HasGeneration {
				t.Errorf("generation %q: %+v, %v", text, got, err)
			}
			v.apply(t, issuer.Revocation{Subject: "ada", Generation: 2, Until: good.Until})
			v.client.Del(ctx, g)
		}
		// A generation that is none does not stand in the way of one.
		for _, text := range []string{"", "x", "-1", "1e3"} {
			v.client.Set(ctx, g, text, 0)
			v.fill(t, good)
			if got, err := v.Look(ctx, v.ref); err != nil || !got.HasGeneration || got.Generation != 1 {
				t.Errorf("put back over the generation %q: %+v, %v", text, got, err)
			}
			if left := v.client.PTTL(ctx, g).Val(); left <= 0 {
				t.Errorf("put back over the generation %q, which stayed for ever: %v", text, left)
			}
		}

		for _, key := range []string{s, g, b} {
			v.fill(t, good)
			v.client.Del(ctx, key)
			v.client.RPush(ctx, key, "x")
			v.client.Expire(ctx, key, time.Minute)
			got, err := v.Look(ctx, v.ref)
			// What is no string is not there, and without a blacklist there is none.
			if err == nil && got.HasEntry && got.HasGeneration && key != b {
				t.Errorf("with a list at %s: %+v", key, got)
			}
			if err != nil && !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("with a list at %s: %v", key, err)
			}
			for _, r := range []issuer.Revocation{
				{Subject: "ada", SessionID: "s1", TokenID: "t1", Until: good.Until},
				{Subject: "ada", SessionID: "s1", Until: good.Until},
				{Subject: "ada", Generation: 1, Keep: "s1", Until: good.Until},
			} {
				v.apply(t, r)
			}
			v.fill(t, good)
			if got, err := v.Look(ctx, v.ref); err != nil || !got.HasEntry || !got.HasGeneration {
				t.Errorf("put back over a list at %s: %+v, %v", key, got, err)
			}
			v.client.Del(ctx, b)
		}

		v.client.Del(ctx, s)
		v.client.RPush(ctx, l, "x")
		v.client.Expire(ctx, l, time.Minute)
		if done, err := v.Backfill(ctx, "x", v.ref, good); done || !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("put back under a lease that is a list: %t, %v", done, err)
		}
	})
}

// TestScriptFlush: a server forgets its scripts when it restarts, and when told to.
func TestScriptFlush(t *testing.T) {
	v := newView(t, redisstoretest.StartServer(t))
	until := time.Now().Add(time.Hour)
	for range 2 {
		v.fill(t, active(1, until))
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
