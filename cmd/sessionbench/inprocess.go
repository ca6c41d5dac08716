package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
)

// signatures is how many tokens a verifier keeps verified, as in the service.
const signatures = 1 << 17

// verifier is what another Go service puts in front of its own routes.
func (s *stage) verifier(sp *space, options redisstore.Options) (*session.Verifier, error) {
	data, err := os.ReadFile(s.keysFile) //nolint:gosec // G703: a file of our own making
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	set, err := session.ParseKeySet(data)
	if err != nil {
		return nil, err
	}
	store, err := sp.store(options)
	if err != nil {
		return nil, err
	}
	s.later(store.Close)
	return &session.Verifier{
		Keys: session.NewKeyring(set), Issuer: tokenIssuer, Audience: tokenIssuer, Store: store, Fallback: nobody{},
		Signatures: session.NewSignatureCache(signatures),
	}, nil
}

// nobody is the fallback of a verifier whose sessions are all in Redis.
type nobody struct{}

func (nobody) Check(context.Context, session.Question) error { return session.ErrUnavailable }

// direct is a contender without HTTP: n goroutines that call it.
func direct(name string, v *session.Verifier, n int) contender {
	ask := func(ctx context.Context, _ int, r *request) error {
		claims, err := v.Verify(ctx, r.token)
		return judgeClaims(r, claims, err)
	}
	return contender{
		name: name, within: true,
		load: func(ctx context.Context, d time.Duration, from *supply) (work, error) {
			return drive(ctx, n, d, from, ask)
		},
	}
}

func judgeClaims(r *request, claims session.Claims, err error) error {
	switch {
	case r.revoked && errors.Is(err, session.ErrRevoked):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", errWrong, err)
	case r.revoked:
		return fmt.Errorf("%w: a revoked session was let through", errWrong)
	case claims.SessionID != r.session:
		return fmt.Errorf("%w: session %q in place of %q", errWrong, claims.SessionID, r.session)
	default:
		return nil
	}
}

// allocations of one warm check, made alone.
type allocations struct {
	Check   float64 `json:"check"`    // all of them
	GoRedis float64 `json:"go_redis"` // of the same three commands sent by go-redis alone
}

// countAllocations compares a check with what go-redis spends by itself on
// asking the same, a GETEX, an MGET of three keys and an INFO in one pipeline.
func (s *stage) countAllocations(ctx context.Context, v *session.Verifier, requests []request) (allocations, error) {
	client, err := redisstore.NewClient(s.space.url, redisstore.Options{})
	if err != nil {
		return allocations{}, err
	}
	defer client.Close() //nolint:errcheck // nothing was written
	var a allocations
	i := 0
	a.Check, err = allocationsOf(func() error {
		i++
		_, err := v.Verify(ctx, requests[i%len(requests)].token)
		return err
	})
	if err != nil {
		return allocations{}, err
	}
	generation, entry, blacklist := s.space.ceilingKeys()
	a.GoRedis, err = allocationsOf(func() error {
		pipe := client.Pipeline()
		pipe.GetEx(ctx, generation, -1)
		pipe.MGet(ctx, generation, entry, blacklist)
		pipe.Info(ctx, "replication")
		_, err := pipe.Exec(ctx)
		return err
	})
	return a, err
}

// allocationsOf is how often f allocates, on average and once warm. Nothing else may run.
func allocationsOf(f func() error) (float64, error) {
	const times = 1_000
	var before, after runtime.MemStats
	for i := range 2 * times {
		if i == times {
			runtime.ReadMemStats(&before)
		}
		if err := f(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / times, nil
}
