package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Verifier answers whether a token is still good: signature first, then one
// round trip to the store, and the fallback only for what the store does not
// know. None of its fields changes once it is in use.
type Verifier struct {
	Keys     *Keyring
	Issuer   string // iss that is accepted
	Audience string // aud that is accepted
	Store    Store
	// Fallback answers for what Store does not know. Nil: that is [ErrUnavailable].
	Fallback Fallback
	// Now is the clock. Nil: [time.Now].
	Now func() time.Time
	// Signatures remembers which tokens were verified. Nil: each is verified
	// every time.
	Signatures *SignatureCache
	// Seen is told of a session whose token was found good, about once a minute for
	// each token in Signatures and never without that. False asks to be told
	// again by the next check. It must not block. Nil: nobody is told.
	Seen func(ref Ref, now time.Time) bool
}

// Fallback answers for a token of which the store does not know enough.
type Fallback interface {
	// Check answers nil for a token in force and [ErrRevoked] or
	// [ErrInvalidToken] for one that is not. What it cannot tell in time is
	// [ErrUnavailable], or the error of ctx.
	Check(ctx context.Context, q Question) error
}

// Question is what a [Fallback] is asked.
type Question struct {
	Token   string // as it came; its signature and times are good
	Ref     Ref
	Now     time.Time
	StoreUp bool // the store answered, and may be told what is found
}

// Verify answers with the claims of a token that is good, and with
// [ErrInvalidToken], [ErrRevoked] or [ErrUnavailable] otherwise. The claims
// are shared: their slices are not to be changed.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	now := v.now()
	t, err := v.verified(token, now)
	if err != nil && v.Keys.fetcher != nil && errors.Is(err, errUnknownKey) {
		t, err = v.verifyWithNewer(ctx, token, now)
	}
	if err != nil {
		return Claims{}, err
	}
	ref := t.claims.ref()
	if err := v.check(ctx, token, ref, now); err != nil {
		return Claims{}, err
	}
	v.see(t, ref, now)
	return t.claims, nil
}

func (v *Verifier) now() time.Time {
	if v.Now == nil {
		return time.Now()
	}
	return v.Now()
}

// verified returns a token whose signature and times are good.
func (v *Verifier) verified(token string, now time.Time) (*verified, error) {
	set := v.Keys.Load()
	if v.Signatures == nil {
		return set.accept(token, v.Issuer, v.Audience, now)
	}
	sum := digest(token)
	if t := v.Signatures.find(sum, v, set, now); t != nil {
		return t, nil
	}
	t, err := set.accept(token, v.Issuer, v.Audience, now)
	if err != nil {
		return nil, err
	}
	v.Signatures.add(sum, t, now)
	return t, nil
}

// see reports the use of a session, unless the token is so young that the login
// or refresh which issued it has just done so.
func (v *Verifier) see(t *verified, ref Ref, now time.Time) {
	if v.Seen == nil || v.Signatures == nil {
		return
	}
	at, interval := now.Unix(), int64(SeenInterval/time.Second)
	if last := t.seen.Load(); at-last > interval && t.seen.CompareAndSwap(last, at) && !v.Seen(ref, now) {
		t.seen.Store(last)
	}
}

// check answers nil for a token in force.
func (v *Verifier) check(ctx context.Context, token string, ref Ref, now time.Time) error {
	view, lookErr := v.Store.Look(ctx, ref)
	if lookErr == nil {
		switch view.judge(ref.TokenID, now) {
		case active:
			return nil
		case revoked:
			return ErrRevoked
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("session: check given up: %w", err)
	}
	if v.Fallback == nil {
		return fmt.Errorf("%w: the store does not know session %s", ErrUnavailable, ref.SessionID)
	}
	return v.Fallback.Check(ctx, Question{Token: token, Ref: ref, Now: now, StoreUp: lookErr == nil})
}

// answer is what the store's view says of a token.
type answer int

const (
	unknown answer = iota
	active
	revoked
)

// judge is the rule of a check. Whatever is missing or out of date is unknown,
// which is never the end of a session: the fallback decides.
func (v *View) judge(tokenID string, now time.Time) answer {
	switch {
	case v.Blacklisted, v.HasEntry && v.Entry.Ended:
		return revoked
	case !v.HasEntry, !v.HasGeneration:
		return unknown
	case v.Entry.Generation < v.Generation, slices.Contains(v.Entry.RevokedTokens, tokenID):
		return revoked
	case !now.Before(v.Entry.ExpiresAt):
		// A refresh may have prolonged the session since the entry was made.
		return unknown
	default:
		return active
	}
}
