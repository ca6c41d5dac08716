package session

import (
	"bytes"
	"cmp"
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
	// fetchInterval is the time between two regular fetches of the public keys. sessiond publishes
	// a new key for longer than this before signing with the key, so verifiers know it in time.
	fetchInterval = 2 * time.Minute
	// minFetchInterval is the shortest time between two fetches of the public keys, even if many
	// tokens name unknown keys. A token may be refused for that long if its key was not published in advance.
	minFetchInterval = 5 * time.Second
	fetchTimeout     = 3 * time.Second
	// maxFetchWait bounds how long a check of a token waits for a fetch of the keys. Otherwise
	// anybody could hold requests open with tokens that name unknown keys.
	maxFetchWait = time.Second
)

// FetchKeys fetches sessiond's public keys, the JSON Web Key Set at
// https://…/.well-known/jwks.json, and keeps them fresh until ctx ends. It fetches them every two
// minutes, and when a token names an unknown key, but at most once in five seconds. If a fetch
// fails, the old keys stay in use.
//
// Pass the program's context. FetchKeys refuses a context with a deadline.
func FetchKeys(ctx context.Context, jwksURL string, o RemoteOptions) (*Keyring, error) {
	f, err := newKeyFetcher(ctx, jwksURL, o, time.Now)
	if err != nil {
		return nil, fmt.Errorf("session.FetchKeys: %w", err)
	}
	go func() {
		tick := time.NewTicker(fetchInterval)
		defer tick.Stop()
		f.run(ctx, tick.C)
	}()
	return f.ring, nil
}

// keyFetcher keeps a Keyring equal to the key set that sessiond serves at a URL.
type keyFetcher struct {
	url    string
	client *http.Client
	log    *slog.Logger
	ring   *Keyring
	now    func() time.Time

	last    atomic.Pointer[fetchResult]
	fetches singleflight.Group
	body    []byte // the response that contained the keys in use; only the running fetch accesses this field
}

type fetchResult struct {
	at  time.Time
	err error // nil, or an error that wraps ErrUnavailable
}

// newKeyFetcher returns a keyFetcher that has fetched the keys once.
func newKeyFetcher(ctx context.Context, jwksURL string, o RemoteOptions, now func() time.Time) (*keyFetcher, error) {
	if _, has := ctx.Deadline(); has {
		return nil, errors.New("the context has a deadline, after which keys would no longer be fetched; pass the program's context")
	}
	if err := o.checkURL(jwksURL); err != nil {
		return nil, err
	}
	f := &keyFetcher{url: jwksURL, client: o.client(), log: cmp.Or(o.Log, slog.Default()), ring: &Keyring{}, now: now}
	f.ring.fetcher = f
	return f, f.fetch(ctx)
}

// run fetches the keys at every tick until ctx ends.
func (f *keyFetcher) run(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			_ = f.update(ctx) // update logs the error, and the next tick tries again
		}
	}
}

// update fetches the keys unless the latest fetch is less than minFetchInterval ago, and returns
// the latest fetch's error. Concurrent callers share one fetch.
func (f *keyFetcher) update(ctx context.Context) error {
	if last := f.last.Load(); f.recent(last) {
		return last.err
	}
	done := f.fetches.DoChan("", func() (any, error) {
		if last := f.last.Load(); f.recent(last) {
			return nil, last.err
		}
		// Finish the fetch even if its first caller gives up, because other callers share it.
		err := f.fetch(context.WithoutCancel(ctx))
		if err != nil {
			f.log.WarnContext(ctx, "cannot fetch keys; the old keys stay in use", "error", err)
		}
		return nil, err
	})
	select {
	case d := <-done:
		return d.Err
	case <-ctx.Done():
		return fmt.Errorf("session: the check of a token was canceled: %w", context.Cause(ctx))
	}
}

func (f *keyFetcher) recent(last *fetchResult) bool { return f.now().Sub(last.at) < minFetchInterval }

// fetch requests the key set. If the set is valid and has changed, fetch puts it into f.ring.
func (f *keyFetcher) fetch(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: fetch keys: %w", ErrUnavailable, err)
		}
		f.last.Store(&fetchResult{f.now(), err})
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	body, _, err := roundTrip(f.client, r)
	if err != nil || bytes.Equal(body, f.body) {
		return err // do not replace an equal set, because that would invalidate the signature cache
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

// parsePublicKeys parses a published key set. It skips keys of kinds that sessiond does not use. It
// refuses a set with a private key, because everybody who can fetch the set could sign tokens.
func parsePublicKeys(data []byte) (*KeySet, error) {
	set, err := parseKeySet(data, true)
	if err != nil {
		return nil, err
	}
	for i := range set.keys {
		if k := &set.keys[i]; k.private != nil {
			return nil, fmt.Errorf("the published key %s includes its private part", k.ID)
		}
	}
	return set, nil
}

// verifyWithNewer fetches the keys and then verifies a token that named an unknown key before.
func (v *Verifier) verifyWithNewer(ctx context.Context, token string, now time.Time) (*verified, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxFetchWait, fmt.Errorf("%w: fetching the public keys takes too long", ErrUnavailable))
	defer cancel()
	if err := v.Keys.fetcher.update(ctx); err != nil {
		return nil, err
	}
	return v.verified(token, now)
}
