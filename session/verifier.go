package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Finder reads a session from the durable truth. [Ledger] is one.
type Finder interface {
	Find(ctx context.Context, subject, id string, now time.Time) (Record, error)
}

// Verifier answers whether a token is still good: signature first, then one
// round trip to the store, and the ledger only for what the store does not know.
// All fields but Limit are required, and none changes once it is in use.
type Verifier struct {
	Keys     *Keyring
	Issuer   string // iss that is accepted
	Audience string // aud that is accepted
	Store    Store
	Finder   Finder
	Now      func() time.Time
	// Limit bounds how many reads of the ledger run at once, so that a wiped
	// store does not become a flood of SQL. A check that gets no turn within
	// FinderTimeout is ErrUnavailable. Nil: unbounded.
	Limit Limit
	// FinderTimeout bounds waiting for a turn and reading together. Zero: 1 s.
	FinderTimeout time.Duration
}

// Limit is a counting semaphore; its capacity is how many may pass at once.
type Limit chan struct{}

// Verify answers with the claims of a token that is good, and with
// [ErrInvalidToken], [ErrRevoked] or [ErrUnavailable] otherwise.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	now := v.Now()
	payload, err := v.Keys.Load().verify(token, now)
	if err != nil {
		return Claims{}, err
	}
	claims, err := payload.accept(v.Issuer, v.Audience, now)
	if err != nil {
		return Claims{}, err
	}
	if err := v.check(ctx, claims.ref(), now); err != nil {
		return Claims{}, err
	}
	return claims, nil
}

// check answers nil for a token in force.
func (v *Verifier) check(ctx context.Context, ref Ref, now time.Time) error {
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
	return v.ask(ctx, ref, now, lookErr == nil)
}

// answer is what the store's view says of a token.
type answer int

const (
	unknown answer = iota
	active
	revoked
)

// judge is the rule of a check. Whatever is missing or out of date is unknown,
// which is never the end of a session: the ledger decides.
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

// ask reads the ledger and, when the store is there to take it, puts back what
// it says. Every caller makes a reading of its own: joining one that began
// before a revocation would bring the revoked session back.
func (v *Verifier) ask(ctx context.Context, ref Ref, now time.Time, storeUp bool) error {
	timeout := v.FinderTimeout
	if timeout == 0 {
		timeout = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if v.Limit != nil {
		select {
		case v.Limit <- struct{}{}:
			defer func() { <-v.Limit }()
		case <-ctx.Done():
			return fmt.Errorf("%w: too many checks wait for the ledger", ErrUnavailable)
		}
	}

	var lease string
	var leased bool
	if storeUp {
		// An error here only means that nothing is put back.
		lease, leased, _ = v.Store.Lease(ctx, ref.Subject)
	}
	record, err := v.Finder.Find(ctx, ref.Subject, ref.SessionID, now)
	switch {
	case errors.Is(err, ErrNotFound):
		return ErrRevoked
	case err != nil:
		return fmt.Errorf("session: check of session %s: %w", ref.SessionID, err)
	}
	if leased {
		if fill, ok := record.fill(now); ok {
			// What could not be put back is read again by the next check.
			_, _ = v.Store.PutBack(ctx, lease, ref, fill)
		}
	}
	return record.judge(ref.TokenID, now)
}

// judge is the rule of a check on the durable truth.
func (r *Record) judge(tokenID string, now time.Time) error {
	switch r.StatusAt(now) {
	case StatusActive:
		if slices.Contains(r.RevokedTokens, tokenID) || r.Generation < r.SubjectGeneration {
			return ErrRevoked
		}
		return nil
	case StatusExpired:
		return invalid("session expired")
	default:
		return ErrRevoked
	}
}

// fill is what the store may keep of a record. A session that has expired is
// not kept: a refresh that is being committed just now may prolong it, and an
// entry that says ended is for ever.
func (r *Record) fill(now time.Time) (Fill, bool) {
	f := Fill{Until: r.AccessExpiresAt, SubjectGeneration: r.SubjectGeneration, SubjectUntil: r.SubjectUntil}
	switch r.StatusAt(now) {
	case StatusActive:
		f.Entry = Entry{Generation: r.Generation, ExpiresAt: r.ExpiresAt, RevokedTokens: r.RevokedTokens}
		return f, true
	case StatusExpired:
		return Fill{}, false
	default:
		f.Entry = Entry{Ended: true, Generation: r.Generation, ExpiresAt: r.ExpiresAt}
		return f, true
	}
}
