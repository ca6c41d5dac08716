package issuer

import (
	"context"
	"time"
)

// Ledger is the durable truth about sessions. Logins, refreshes, revocations and lists use it, and
// checks of sessions that the store does not know.
//
// Many replicas may call its methods at once. A method locks the user's row first and session rows
// after it. If the database fails, the error is [session.ErrUnavailable] and nothing is half done.
// All times are UTC, from the one clock that all replicas share.
type Ledger interface {
	// Start records a login. In the transaction that inserts the session it locks the user's row,
	// and copies the user's generation and name to the session that it returns. It returns
	// ErrSubjectGone if the user is not active, and ErrCredentialChanged if the user's password
	// version is not start.CredentialVersion. If the user already has start.MaxSessions active
	// sessions, it either returns ErrTooManySessions, or ends the oldest and returns the
	// revocations to enforce; start.EndOldest decides.
	Start(ctx context.Context, start Start) (Session, []Revocation, error)

	// Find reads one session for a check, from the primary, whatever its status. It returns
	// ErrNotFound if the subject has no such session.
	Find(ctx context.Context, subject, id string, now time.Time) (Record, error)

	// Rotate exchanges a refresh token. In one transaction it finds the session whose refresh
	// family has this hash, takes a shared lock on the user's row and then locks the session, calls
	// decide, and stores the result. It returns ErrNotFound if no session has that family. An error
	// of decide is returned unchanged, and nothing is stored. The Revocation is not nil if decide
	// ended the session.
	Rotate(ctx context.Context, family Hash, decide func(Rotatable) (Rotation, error)) (Session, *Revocation, error)

	// Reauthenticate records a new AuthTime and a new access token of an active session. It checks
	// the user like Start. It returns ErrNotFound if the session has ended.
	Reauthenticate(ctx context.Context, re Reauthentication) (Session, error)

	// Touch moves LastSeenAt of the used sessions forward, in one statement. It skips a session
	// that is unknown, that was not active when it was used, or that was seen less than
	// [session.SeenInterval] before. It does not wait for locks: it skips a locked session, because
	// the transaction that holds the lock has usually just recorded a use. Of two uses of one
	// session the later counts.
	Touch(ctx context.Context, uses []Use) error

	// Active lists a subject's sessions that are active at now, newest first.
	Active(ctx context.Context, subject string, now time.Time, page Page) ([]Session, error)

	// History lists all logins of a subject, including ended and failed ones, newest first. A
	// failed one has only Failed, ID, Client, CreatedAt and EndReason.
	History(ctx context.Context, subject string, page Page) ([]Login, error)

	// Revoke ends one session and records, in the same transaction, a revocation to enforce. If the
	// session has ended or expired before, Revoke leaves its history alone and still returns it
	// with a revocation. It returns ErrNotFound if the subject has no such session.
	Revoke(ctx context.Context, subject, id string, end Ending) (Session, Revocation, error)

	// RevokeAll raises the subject's generation and ends all its active sessions except keep. An
	// active keep moves to the new generation; an empty keep names no session. RevokeAll returns
	// the sessions that it ended, newest first, or ErrSubjectGone if there is no such user.
	RevokeAll(ctx context.Context, subject, keep string, end Ending) ([]Session, Revocation, error)

	// RevokeToken records one access token of a session as revoked, until expiry. The session stays
	// active. It is idempotent.
	RevokeToken(ctx context.Context, subject, id, tokenID string, expiry, now time.Time) (Revocation, error)

	// Revocation reads a recorded revocation. It returns ErrNotFound if it is already done.
	Revocation(ctx context.Context, id int64) (Revocation, error)

	// DueRevocations claims up to limit revocations that are due at now. No other replica gets them
	// before now plus lease.
	DueRevocations(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Revocation, error)

	// RevocationDone deletes the records of enforced revocations. It is idempotent.
	RevocationDone(ctx context.Context, ids ...int64) error
}

// Use says that a token of a session was accepted.
type Use struct {
	SessionID string
	At        time.Time
}

// Hash is a SHA-256. The ledger stores the secrets that we hand out as hashes only.
type Hash [32]byte

// Start is what a login records.
type Start struct {
	ID, Subject, TokenID                     string
	CredentialVersion                        int64 // the version of the password that was verified
	Client                                   Client
	AMR                                      string
	At                                       time.Time // CreatedAt, LastSeenAt and AuthTime
	AccessExpiresAt, ExpiresAt, MaxExpiresAt time.Time
	RefreshFamily, RefreshCurrent            Hash
	MaxSessions                              int  // active sessions of the user, this one included; 0: no limit
	EndOldest                                bool // at the limit, end the oldest session; otherwise refuse the login
}

// Record is what a check needs to know of a session, from one reading.
type Record struct {
	Session
	RevokedTokens     []string // jti of its revoked access tokens that have not expired
	SubjectGeneration int64
	SubjectUntil      time.Time // when the subject's newest access token expires
}

// Rotatable is a locked session with the state of its refresh tokens.
type Rotatable struct {
	Session
	Current   Hash      // of the refresh token in force
	Previous  Hash      // of the token that Current replaced; zero before the first rotation
	Sealed    []byte    // the current token, encrypted with a key that only the previous one yields
	RotatedAt time.Time // when Current replaced Previous
}

// Rotation is what the ledger stores for a Rotatable. If End is set it ends the session, as Revoke
// does, and ignores the fields below Notify.
type Rotation struct {
	End             *Ending
	Notify          string // kind of the mail that tells the user about End; empty: no mail
	TokenID         string
	At              time.Time // LastSeenAt, which the ledger never moves back
	AccessExpiresAt time.Time // the ledger keeps a later one
	ExpiresAt       time.Time
	Current         Hash
	Previous        Hash
	Sealed          []byte
	RotatedAt       time.Time
}

// Reauthentication is what a renewed proof of identity records.
type Reauthentication struct {
	Subject, ID, TokenID string
	CredentialVersion    int64
	AMR                  string
	At                   time.Time // AuthTime, and LastSeenAt, which the ledger never moves back
	AccessExpiresAt      time.Time // the ledger keeps a later one
}

// Revocation is an end that the ledger has committed and the store has to apply. Applying it twice
// or late is harmless.
type Revocation struct {
	ID      int64  `json:"-"`
	Subject string `json:"sub"`
	// SessionID names the one session that ended, or the session of the revoked token.
	SessionID string `json:"sid,omitempty"`
	// TokenID is set if one token was revoked and its session stays active.
	TokenID string `json:"jti,omitempty"`
	// Generation is set if all sessions of a lower generation ended.
	Generation int64 `json:"gen,omitempty"`
	// Keep names the session that moved to Generation.
	Keep string `json:"keep,omitempty"`
	// Until is the expiry of the newest affected access token.
	Until time.Time `json:"until"`
}
