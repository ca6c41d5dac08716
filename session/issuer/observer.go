package issuer

import (
	"errors"
	"slices"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Observer receives what happens to sessions, for metrics. Its methods must not block. Each text is
// one of the list that the method names.
type Observer interface {
	// Started reports the outcome of opening a session, one of StartOutcomes.
	Started(outcome string)
	// Refreshed reports the outcome of a refresh, one of RefreshOutcomes.
	Refreshed(outcome string)
	// Revoked reports that this replica recorded a revocation in the ledger, for one of RevocationReasons.
	Revoked(reason string)
	// Enforced reports on which of the EnforcePaths a revocation was enforced in the store, and how long
	// after the ledger had recorded it.
	Enforced(path string, took time.Duration)
	// Backfilled reports a check that asked the ledger: how long it waited until it could, how long the
	// reading and the backfill took, and what became of the backfill, one of BackfillOutcomes.
	Backfilled(outcome string, waited, took time.Duration)
}

const (
	startDone        = "started"
	startLimit       = "session_limit" // the user has MaxSessions sessions
	startOutdated    = "outdated"      // the user or the password changed since the password was verified
	startUnavailable = "unavailable"

	refreshNew         = "new"
	refreshLostReply   = "lost_reply" // the client got the reply of an earlier refresh again
	refreshTheft       = "theft"      // a replaced token was used again
	refreshEnded       = "ended"      // the session had ended or expired
	refreshInvalid     = "invalid"    // the token is malformed or unknown
	refreshUnavailable = "unavailable"

	enforcedAtOnce = "at_once" // while the client waited
	enforcedLater  = "outbox"  // by any replica, from the outbox

	backfillStored = "stored"
	// backfillNone means that the check wrote nothing, because the store is away, another check held the
	// lease, or the session had expired or does not exist.
	backfillNone    = "none"
	backfillRefused = "refused" // the lease had ended, for example because of a revocation
	backfillFailed  = "failed"  // the store did not answer
	backfillUnread  = "unread"  // the ledger did not answer, or too many other checks asked it

	// The reasons of revocations that end no session.
	tokenRevoked      = "token"      // one access token, also the one that a re-authentication replaces
	attributesChanged = "attributes" // a user got other roles or claims
	otherReason       = "other"
)

var (
	// StartOutcomes are the outcomes of opening a session.
	StartOutcomes = []string{startDone, startLimit, startOutdated, startUnavailable}
	// RefreshOutcomes are the outcomes of a refresh.
	RefreshOutcomes = []string{refreshNew, refreshLostReply, refreshTheft, refreshEnded, refreshInvalid, refreshUnavailable}
	// EnforcePaths say when a revocation was enforced.
	EnforcePaths = []string{enforcedAtOnce, enforcedLater}
	// BackfillOutcomes are the outcomes of a check that asked the ledger.
	BackfillOutcomes = []string{backfillStored, backfillNone, backfillRefused, backfillFailed, backfillUnread}
	// RevocationReasons are the reasons of revocations.
	RevocationReasons = []string{
		string(ReasonLogout), string(ReasonRevoked), string(ReasonRevokedOthers), string(ReasonRevokedAll),
		string(ReasonPasswordChanged), string(ReasonPasswordReset), string(ReasonAccountDeleted), string(ReasonEmailUndone),
		string(ReasonTokenTheft), string(ReasonSessionLimit),
		string(ReasonSuspended), string(ReasonAdministrator), tokenRevoked, attributesChanged, otherReason,
	}
)

// unobserved replaces a nil Observer.
type unobserved struct{}

func (unobserved) Started(string)                          {}
func (unobserved) Refreshed(string)                        {}
func (unobserved) Revoked(string)                          {}
func (unobserved) Enforced(string, time.Duration)          {}
func (unobserved) Backfilled(_ string, _, _ time.Duration) {}

func observed(o Observer) Observer {
	if o == nil {
		return unobserved{}
	}
	return o
}

// recorded reports revocations that this replica recorded in the ledger.
func (m *Manager) recorded(revocations ...Revocation) {
	for i := range revocations {
		observed(m.Observer).Revoked(revocations[i].why())
	}
}

// why returns one of RevocationReasons.
func (r *Revocation) why() string {
	switch {
	case slices.Contains(RevocationReasons, string(r.Reason)):
		return string(r.Reason)
	case r.Reason != "":
		return otherReason
	case r.TokenID != "":
		return tokenRevoked
	case r.Generation != 0:
		return attributesChanged
	default:
		return otherReason
	}
}

func startOutcome(err error) string {
	switch {
	case err == nil:
		return startDone
	case errors.Is(err, ErrTooManySessions):
		return startLimit
	case errors.Is(err, ErrSubjectGone), errors.Is(err, ErrCredentialChanged):
		return startOutdated
	default:
		return startUnavailable
	}
}

// refreshOutcome returns the outcome of [Ledger.Rotate]. The parameter again says that the client
// presented the previous token.
func refreshOutcome(revocation *Revocation, again bool, err error) string {
	switch {
	case errors.Is(err, ErrNotFound):
		return refreshInvalid
	case errors.Is(err, session.ErrInvalidToken):
		return refreshEnded
	case err != nil:
		return refreshUnavailable
	case revocation != nil:
		return refreshTheft
	case again:
		return refreshLostReply
	default:
		return refreshNew
	}
}
