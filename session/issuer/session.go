package issuer

import "time"

// Client says where a login came from, as far as that is known.
type Client struct {
	IP        string // canonical text of an IPv4 or IPv6 address without zone, or empty
	UserAgent string // valid UTF-8, at most 512 bytes
	Device    string // for people, such as "Chrome on macOS"
}

// Session is one sign-in, as the ledger records it. Times are UTC with microseconds. A zero time
// means never.
type Session struct {
	ID       string // sid
	Subject  string // sub
	Username string // of the subject, for the token's claim
	TokenID  string // jti of the newest access token
	Client
	AMR             string    // how the user authenticated, RFC 8176: "pwd"
	Generation      int64     // the subject's, when this session was opened or last kept by RevokeAll
	CreatedAt       time.Time // the login
	LastSeenAt      time.Time // the newest login, refresh or re-authentication; or use, to a minute or two
	AuthTime        time.Time // when the user last proved their identity
	AccessExpiresAt time.Time // exp of the newest access token
	ExpiresAt       time.Time // idle or absolute expiry, whichever is first
	MaxExpiresAt    time.Time // absolute expiry
	EndedAt         time.Time // zero unless the session was ended; expiry leaves it zero
	EndReason       Reason
	EndedBy         Actor
}

// Reason says why a session ended or a login failed.
type Reason string

// The reasons for the end of a session.
const (
	ReasonLogout          Reason = "logout"         // the user signed out in this session
	ReasonRevoked         Reason = "revoked"        // the user revoked it from another session
	ReasonRevokedOthers   Reason = "revoked_others" // the user revoked all other sessions
	ReasonRevokedAll      Reason = "revoked_all"    // the user revoked all sessions
	ReasonPasswordChanged Reason = "password_changed"
	ReasonPasswordReset   Reason = "password_reset"
	ReasonAccountDeleted  Reason = "account_deleted"
	ReasonTokenTheft      Reason = "token_theft"   // a replaced refresh token was used again
	ReasonSessionLimit    Reason = "session_limit" // a newer login took its place
	ReasonIdle            Reason = "idle_timeout"
	ReasonMaxLifetime     Reason = "max_lifetime"
)

// Actor says who ended a session.
type Actor string

// The actors that end sessions.
const (
	ByUser   Actor = "user"
	BySystem Actor = "system"
)

// Status is the state of a session at some time.
type Status string

// The statuses of a session, and of a failed login.
const (
	StatusActive    Status = "active"
	StatusLoggedOut Status = "logged_out"
	StatusRevoked   Status = "revoked"
	StatusExpired   Status = "expired"
	StatusFailed    Status = "failed"
)

// StatusAt returns the session's status at now. Expiry is not recorded: it follows from the times.
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

// Ending returns the session's end as seen at now. It is zero while the session is active.
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

// Login is one line of a user's history: a session or a failed login. For a failed login, ID names
// the attempt and EndReason says what failed.
type Login struct {
	Session
	Failed bool
}

// StatusAt returns [StatusFailed] for a failed login, and the session's status otherwise.
func (l *Login) StatusAt(now time.Time) Status {
	if l.Failed {
		return StatusFailed
	}
	return l.Session.StatusAt(now)
}

// Page selects a part of a list that has the newest first.
type Page struct {
	Before string // only ids that sort before this one; empty: from the newest on
	Limit  int    // at most this many; 0: all
}
