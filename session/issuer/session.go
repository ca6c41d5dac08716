package issuer

import "time"

// Client says where a login came from, as far as it can be known.
type Client struct {
	IP        string // canonical text of an IPv4 or IPv6 address, without zone; may be empty
	UserAgent string // valid UTF-8, at most 512 bytes
	Device    string // readable, as "Chrome on macOS"
}

// Session is one sign-in, as the ledger records it. Times are UTC with
// microseconds; a zero time means "not".
type Session struct {
	ID       string // sid
	Subject  string // sub
	Username string // of the subject, for the token's claim
	TokenID  string // jti of the newest access token
	Client
	AMR             string    // how the user authenticated, RFC 8176: "pwd"
	Generation      int64     // the subject's when this session was opened or kept
	CreatedAt       time.Time // the login
	LastSeenAt      time.Time // the newest login, refresh, re-authentication or, to a minute or two, use
	AuthTime        time.Time // when the user last proved who they are
	AccessExpiresAt time.Time // exp of the newest access token
	ExpiresAt       time.Time // idle or absolute expiry, whichever is first
	MaxExpiresAt    time.Time // absolute expiry
	EndedAt         time.Time // zero while it was not ended; plain expiry leaves it zero
	EndReason       Reason
	EndedBy         Actor
}

// Reason says why a session ended or a login failed.
type Reason string

// Why a session ended.
const (
	ReasonLogout          Reason = "logout"         // its own user signed out there
	ReasonRevoked         Reason = "revoked"        // its user ended it from elsewhere
	ReasonRevokedOthers   Reason = "revoked_others" // its user ended all others
	ReasonRevokedAll      Reason = "revoked_all"    // its user ended all
	ReasonPasswordChanged Reason = "password_changed"
	ReasonPasswordReset   Reason = "password_reset"
	ReasonAccountDeleted  Reason = "account_deleted"
	ReasonTokenTheft      Reason = "token_theft"   // a refresh token was used after its successor
	ReasonSessionLimit    Reason = "session_limit" // a newer login took its place
	ReasonIdle            Reason = "idle_timeout"
	ReasonMaxLifetime     Reason = "max_lifetime"
)

// Actor says who ended a session.
type Actor string

// Who ended a session.
const (
	ByUser   Actor = "user"
	BySystem Actor = "system"
)

// Status is what a session is at a moment.
type Status string

// The statuses of a session, and of a login that opened none.
const (
	StatusActive    Status = "active"
	StatusLoggedOut Status = "logged_out"
	StatusRevoked   Status = "revoked"
	StatusExpired   Status = "expired"
	StatusFailed    Status = "failed"
)

// StatusAt tells what the session is at now. Expiry is not written anywhere:
// it follows from the times.
func (s *Session) StatusAt(now time.Time) Status {
	switch {
	case !s.EndedAt.IsZero() && s.EndReason == ReasonLogout:
		return StatusLoggedOut
	case !s.EndedAt.IsZero():
		return StatusRevoked
	case !now.Before(s.ExpiresAt):
		return StatusExpired
	default:
		return StatusActive
	}
}

// Ending tells when, why and by whom the session ended as seen at now; the zero
// Ending while it is active.
func (s *Session) Ending(now time.Time) Ending {
	switch s.StatusAt(now) {
	case StatusActive:
		return Ending{}
	case StatusExpired:
		reason := ReasonIdle
		if !s.ExpiresAt.Before(s.MaxExpiresAt) {
			reason = ReasonMaxLifetime
		}
		return Ending{At: s.ExpiresAt, Reason: reason, By: BySystem}
	default:
		return Ending{At: s.EndedAt, Reason: s.EndReason, By: s.EndedBy}
	}
}

// Ending is the end of a session: when, why and by whom.
type Ending struct {
	At     time.Time
	Reason Reason
	By     Actor
}

// Login is one line of a user's history: a session, or a failed attempt, whose
// Status is StatusFailed, whose ID names the attempt and whose EndReason says
// what failed.
type Login struct {
	Session
	Failed bool
}

// StatusAt is [Session.StatusAt] with StatusFailed for a failed attempt.
func (l *Login) StatusAt(now time.Time) Status {
	if l.Failed {
		return StatusFailed
	}
	return l.Session.StatusAt(now)
}

// Page asks for a part of a list that is newest first.
type Page struct {
	Before string // only ids that sort before this one; empty: from the newest
	Limit  int    // at most so many; 0: all
}
