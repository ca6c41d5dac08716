package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// keyInterval is how often keys are fetched. A key is published for longer
	// than that before it signs, so that no check waits for it.
	keyInterval = 2 * time.Minute
	// keyPause is the least between two fetches, however many tokens name keys
	// that nobody knows. A key that was activated without having been published
	// first may be refused for so long.
	keyPause = 5 * time.Second
	// keyTimeout bounds one fetch.
	keyTimeout = 3 * time.Second
	// keyPatience bounds how long a check waits for one: anybody can name a key
	// that nobody knows.
	keyPatience = time.Second
)

// FetchKeys fetches the service's public keys, a JSON Web Key Set as at
// https://…/.well-known/jwks.json, and keeps them fresh until ctx ends: every two
// minutes, and when a token names a key that is not among them, at most once
// in five seconds. When fetching fails, those that are held stay in use.
//
// ctx is that of the program: one with a deadline is refused.
func FetchKeys(ctx context.Context, jwksURL string, o RemoteOptions) (*Keyring, error) {
	f, err := newKeyFetcher(ctx, jwksURL, o, time.Now)
	if err != nil {
		return nil, fmt.Errorf("session.FetchKeys: %w", err)
	}
	go func() {
		tick := time.NewTicker(keyInterval)
		defer tick.Stop()
		f.run(ctx, tick.C)
	}()
	return f.ring, nil
}

// keyFetcher keeps a ring as a URL says.
type keyFetcher struct {
	url    string
	client *http.Client
	log    *slog.Logger
	ring   *Keyring
	now    func() time.Time

	last   atomic.Pointer[keyFetch]
	flight singleflight.Group
	body   []byte // of the last set that was good; only its flight touches it
}

// keyFetch is how a fetch ended.
type keyFetch struct {
	at  time.Time
	err error // ErrUnavailable
}

// newKeyFetcher returns a fetcher that has fetched once.
func newKeyFetcher(ctx context.Context, jwksURL string, o RemoteOptions, now func() time.Time) (*keyFetcher, error) {
	if _, has := ctx.Deadline(); has {
		return nil, errors.New("ctx has a deadline, after which the keys would not be kept fresh; give the program's")
	}
	if err := o.check(jwksURL); err != nil {
		return nil, err
	}
	f := &keyFetcher{url: jwksURL, client: o.client(), log: o.log(), ring: &Keyring{}, now: now}
	f.ring.fetcher = f
	return f, f.fetch(ctx)
}

// run fetches at every tick until ctx ends.
func (f *keyFetcher) run(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			// Its error was logged, and comes back at the next tick.
			_ = f.renew(ctx)
		}
	}
}

// renew returns nil when the ring is as the URL said no longer ago than
// keyPause, for which it fetches it if need be. All who ask meanwhile share
// one fetch.
func (f *keyFetcher) renew(ctx context.Context) error {
	if last := f.last.Load(); f.recent(last) {
		return last.err
	}
	done := f.flight.DoChan("", func() (any, error) {
		if last := f.last.Load(); f.recent(last) {
			return nil, last.err
		}
		// The others must not fail because the first of them leaves.
		err := f.fetch(context.WithoutCancel(ctx))
		if err != nil {
			f.log.WarnContext(ctx, "the keys stay as they are", "error", err)
		}
		return nil, err
	})
	select {
	case d := <-done:
		return d.Err
	case <-ctx.Done():
		return fmt.Errorf("session: check given up: %w", context.Cause(ctx))
	}
}

func (f *keyFetcher) recent(last *keyFetch) bool { return f.now().Sub(last.at) < keyPause }

// fetch puts the set of the URL in use, if it is good and another one.
func (f *keyFetcher) fetch(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: fetch keys: %w", ErrUnavailable, err)
		}
		f.last.Store(&keyFetch{f.now(), err})
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	body, err := roundTrip(f.client, r)
	if err != nil || bytes.Equal(body, f.body) {
		// A set that is put in use again would have every signature verified anew.
		return err
	}
	set, err := parsePublicKeys(body)
	if err != nil {
		return err
	}
	f.body = body
	f.ring.Replace(set)
	f.log.InfoContext(ctx, "keys fetched", "keys", len(set.keys))
	return nil
}

// parsePublicKeys reads a set that anybody may see, which may hold keys of kinds
// that are not for us. A secret in it is none.
func parsePublicKeys(data []byte) (*KeySet, error) {
	set, err := parseKeySet(data, true)
	if err != nil {
		return nil, err
	}
	for i := range set.keys {
		if k := &set.keys[i]; k.private != nil {
			return nil, fmt.Errorf("key %s is secret and was sent to whoever asked", k.ID)
		}
	}
	return set, nil
}

// verifyWithNewer is verified for a token whose key is not in the ring and may
// be newer than what is.
func (v *Verifier) verifyWithNewer(ctx context.Context, token string, now time.Time) (*verified, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, keyPatience, fmt.Errorf("%w: the keys take long to fetch", ErrUnavailable))
	defer cancel()
	if err := v.Keys.fetcher.renew(ctx); err != nil {
		return nil, err
	}
	return v.verified(token, now)
}
