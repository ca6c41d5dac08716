package issuer

import (
	"time"

	"github.com/sessiond/sessiond/session"
)

// Client describes the client of a login. Unknown fields are empty.
type Client struct {
	IP        string // canonical text of an IPv4 or IPv6 address without zone, or empty
	UserAgent string // valid UTF-8, at most 512 bytes
	Device    string // a name for people, such as "Chrome on macOS"
}

// Session is one sign-in, as the ledger records it. Times are UTC with microseconds. A zero time
// means never.
type Session struct {
	ID       string        // the claim sid
	Subject  string        // the claim sub
	Username string        // the subject's username, for the claim "username"
	Roles    session.Roles // the subject's roles, for the claim "roles"
	TokenID  string        // jti of the newest access token
	Client
	AMR             string    // how the user authenticated, RFC 8176: "pwd"
	Generation      int64     // the subject's generation when the session was opened or last moved to a new one
	CreatedAt       time.Time // the login
	LastSeenAt      time.Time // the latest recorded login, refresh, re-authentication or use; may be two minutes older than the latest use
	AuthTime        time.Time // when the user last proved their identity
	AccessExpiresAt time.Time // exp of the newest access token
	ExpiresAt       time.Time // when the session expires if it is not refreshed; at most MaxExpiresAt
	MaxExpiresAt    time.Time // when the session expires even if it is refreshed
	EndedAt         time.Time // when the session was revoked; zero if it is active or has expired
	EndReason       Reason
	EndedBy         Actor
}

// Reason says why a session ended or a login failed.
type Reason string

// These are the reasons for the end of a session.
const (
	ReasonLogout          Reason = "logout"         // the user signed out in this session
	ReasonRevoked         Reason = "revoked"        // the user revoked the session from another session
	ReasonRevokedOthers   Reason = "revoked_others" // the user revoked all other sessions
	ReasonRevokedAll      Reason = "revoked_all"    // the user revoked all sessions
	ReasonPasswordChanged Reason = "password_changed"
	ReasonPasswordReset   Reason = "password_reset"
	ReasonAccountDeleted  Reason = "account_deleted"
	ReasonEmailUndone     Reason = "email_change_undone"      // the holder of the earlier address undid a change of email
	ReasonTokenTheft      Reason = "token_theft"              // a replaced refresh token was used again
	ReasonSessionLimit    Reason = "session_limit"            // a newer login displaced the session
	ReasonSuspended       Reason = "suspended"                // an operator suspended the account
	ReasonAdministrator   Reason = "revoked_by_administrator" // an operator revoked the session
	ReasonIdle            Reason = "idle_timeout"
	ReasonMaxLifetime     Reason = "max_lifetime"
)

// actor returns who ends a session for this reason, if a request asks for it.
func (r Reason) actor() Actor {
	if r == ReasonAdministrator || r == ReasonSuspended {
		return ByAdministrator
	}
	return ByUser
}

// Actor says who ended a session.
type Actor string

// These actors end sessions.
const (
	ByUser          Actor = "user"
	BySystem        Actor = "system"
	ByAdministrator Actor = "administrator" // an operator, by the API or the command line
)

// Status is the state of a session at some time.
type Status string

// These are the statuses of a session or, for StatusFailed, of a failed login.
const (
	StatusActive    Status = "active"
	StatusLoggedOut Status = "logged_out"
	StatusRevoked   Status = "revoked"
	StatusExpired   Status = "expired"
	StatusFailed    Status = "failed"
)

// StatusAt returns the session's status at now. An expiry is not recorded, but computed from
// ExpiresAt.
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

// Ending returns when and why the session ended, and who ended it. It is zero if the session is active at now.
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

// Ending says when and why a session ended, and who ended it.
type Ending struct {
	At     time.Time
	Reason Reason
	By     Actor
}

// Login is one entry of a user's login history: a session or a failed login. For a failed login, ID
// is the id of the attempt, and EndReason says why the login failed.
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

// Page selects a part of a list whose newest item comes first.
type Page struct {
	Before string // only items whose id sorts before this id; if empty, the list begins with the newest
	Limit  int    // the largest number of items; 0 means no limit
}
