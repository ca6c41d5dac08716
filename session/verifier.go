package session

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Verifier checks access tokens: first the signature, then one round trip to the store. It asks the
// fallback only if the store does not know the token. No field may change after the first check.
type Verifier struct {
	Keys     *Keyring
	Issuer   string // the only iss that is accepted
	Audience string // a token is accepted only if this is its aud or one of them
	Store    Store
	// Fallback decides a check if Store does not know the token. If Fallback is nil, such a check
	// fails with [ErrUnavailable].
	Fallback Fallback
	// Now is the clock. If Now is nil, [time.Now] is used.
	Now func() time.Time
	// Signatures remembers verified signatures. If nil, each check verifies the signature.
	Signatures *SignatureCache
	// Seen, if set, is called when a token is accepted, but at most once per [SeenInterval] for each
	// token. If Seen returns false, the next check calls Seen again. Seen must not block. It is only
	// called if Signatures is set, because Signatures stores the time of the last call.
	Seen func(ref Ref, now time.Time) bool
	// Counts, if set, counts the checks.
	Counts *Counts
}

// SeenInterval is the shortest time between two records of the use of a token or of a session.
const SeenInterval = time.Minute

// Fallback decides whether a token is accepted if the store does not know.
type Fallback interface {
	// Check returns the subject's attributes if the token is valid, and otherwise [ErrRevoked] or
	// [ErrInvalidToken]. If Check cannot decide in time, it returns [ErrUnavailable] or ctx's error.
	Check(ctx context.Context, q Question) (Attributes, error)
}

// Question describes the token that a [Fallback] checks.
type Question struct {
	Token   string // as the client sent it; its signature and times are already verified
	Ref     Ref
	Now     time.Time
	StoreUp bool // the store answered, so the fallback can write the session to it
}

// Verify returns the claims of a valid token that was not revoked, with the subject's attributes as they
// are now. Otherwise the error is
// [ErrInvalidToken], [ErrRevoked], [ErrUnavailable] or ctx's error. The caller must not change the
// slices in the claims, because all checks of the token share them.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	now := v.now()
	t, err := v.verified(token, now)
	if err != nil && v.Keys.fetcher != nil && errors.Is(err, errUnknownKey) {
		t, err = v.verifyWithNewer(ctx, token, now)
	}
	if err != nil {
		v.Counts.returned(err)
		return Claims{}, err
	}
	ref := t.claims.ref()
	if v.Counts != nil {
		v.Counts.Checks.Add(1)
	}
	attributes, err := v.check(ctx, token, ref, now)
	v.Counts.returned(err)
	if err != nil {
		return Claims{}, err
	}
	v.reportUse(t, ref, now)
	claims := t.claims
	claims.Attributes = attributes
	return claims, nil
}

// VerifyOffline verifies a token like Verify, but does not check whether it was revoked. The claims have no
// attributes, because those in the token may be out of date.
func (v *Verifier) VerifyOffline(token string) (Claims, error) {
	t, err := v.verified(token, v.now())
	if err != nil {
		return Claims{}, err
	}
	return t.claims, nil
}

func (v *Verifier) now() time.Time {
	if v.Now == nil {
		return time.Now()
	}
	return v.Now()
}

// verified checks the signature, the claims and the times of a token.
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
	if err == nil {
		v.Signatures.add(sum, t, now)
	}
	return t, err
}

// reportUse calls Seen. It skips a token that was issued just now, because the login or refresh
// that issued it has already recorded the use.
func (v *Verifier) reportUse(t *verified, ref Ref, now time.Time) {
	if v.Seen == nil || v.Signatures == nil {
		return
	}
	at, interval := now.Unix(), int64(SeenInterval/time.Second)
	if last := t.seen.Load(); at-last > interval && t.seen.CompareAndSwap(last, at) && !v.Seen(ref, now) {
		t.seen.Store(last)
	}
}

// check returns the subject's attributes if the store, or else the fallback, says that the token is not revoked.
func (v *Verifier) check(ctx context.Context, token string, ref Ref, now time.Time) (Attributes, error) {
	found, lookErr := v.Store.Look(ctx, ref)
	if lookErr == nil {
		switch found.verdict(ref.TokenID, now) {
		case active:
			return found.Entry.Attributes, nil
		case revoked:
			return Attributes{}, ErrRevoked
		}
	}
	if err := ctx.Err(); err != nil {
		return Attributes{}, fmt.Errorf("session: the check of a token was canceled: %w", err)
	}
	if v.Counts != nil {
		v.Counts.Fallbacks.Add(1)
	}
	if v.Fallback == nil {
		return Attributes{}, fmt.Errorf("%w: the store does not know session %s, and there is no fallback", ErrUnavailable, ref.SessionID)
	}
	return v.Fallback.Check(ctx, Question{Token: token, Ref: ref, Now: now, StoreUp: lookErr == nil})
}
