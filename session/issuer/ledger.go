package issuer

import (
	"context"
	"time"
)

// Ledger is the durable truth about sessions. It is asked on login, on refresh,
// on revoke, for lists, and when the store does not know an answer.
//
// Every method is safe for concurrent use by many replicas. Locks are taken on
// the user's row first and on session rows after it. A failure of the database
// is [session.ErrUnavailable] and leaves nothing half done; times given are UTC from
// the one clock that all replicas share.
type Ledger interface {
	// Start records a login. In the inserting transaction it locks the user's
	// row, refuses with ErrSubjectGone when the user is no longer active and
	// with ErrCredentialChanged when the user's password version is not
	// start.CredentialVersion, and stamps the user's generation and name on
	// the session it returns. When the user has start.MaxSessions active ones,
	// it refuses with ErrTooManySessions or ends the oldest, as start says, and
	// returns what the store has to learn of that.
	Start(ctx context.Context, start Start) (Session, []Revocation, error)

	// Find reads one session for a check, from the primary, whatever its state.
	// ErrNotFound when this subject has no session of that id.
	Find(ctx context.Context, subject, id string, now time.Time) (Record, error)

	// Rotate finds the session whose refresh family has this hash, locks the
	// user's row in share and then the session, hands the session to decide and
	// stores what decide says, all in one transaction. ErrNotFound when no
	// session has that family. An error of decide is returned as it is and
	// changes nothing. The Revocation is non-nil when decide ended the session.
	Rotate(ctx context.Context, family Hash, decide func(Rotatable) (Rotation, error)) (Session, *Revocation, error)

	// Reauthenticate stamps a fresh AuthTime and newest access token on an active
	// session, under the same guards as Start. ErrNotFound when it has ended.
	Reauthenticate(ctx context.Context, re Reauthentication) (Session, error)

	// Touch moves LastSeenAt of the sessions used on to those uses, all in one
	// statement. It leaves alone what is not active at the time of its use, what
	// was seen less than [session.SeenInterval] before it, and what it does not know. It
	// waits for no lock: a session that is being written at the moment is left
	// out, since whoever writes it has mostly just seen it. Of two uses of one
	// session the later counts.
	Touch(ctx context.Context, uses []Use) error

	// Active lists the sessions of a subject that are active at now, newest first.
	Active(ctx context.Context, subject string, now time.Time, page Page) ([]Session, error)

	// History lists all logins of a subject, ended and failed ones too, newest
	// first. Failed ones carry Failed, ID, Client, CreatedAt and EndReason only.
	History(ctx context.Context, subject string, page Page) ([]Login, error)

	// Revoke ends one session and records, in the same transaction, that the
	// store has yet to learn of it. Ending one that has ended already, by
	// request or by expiry, changes nothing in its history and still returns it
	// with a Revocation. ErrNotFound when this subject has no such session.
	Revoke(ctx context.Context, subject, id string, end Ending) (Session, Revocation, error)

	// RevokeAll raises the subject's generation and ends all its active
	// sessions but keep (empty: none is kept), which moves to the new
	// generation. It returns the sessions it ended, newest first. ErrSubjectGone
	// when there is no such user. When keep is given and is not active,
	// it is not revived.
	RevokeAll(ctx context.Context, subject, keep string, end Ending) ([]Session, Revocation, error)

	// RevokeToken puts one access token of a session on the durable list of
	// revoked tokens until expiry; the session goes on. Idempotent.
	RevokeToken(ctx context.Context, subject, id, tokenID string, expiry, now time.Time) (Revocation, error)

	// Revocation reads a recorded revocation; ErrNotFound when it is done.
	Revocation(ctx context.Context, id int64) (Revocation, error)

	// DueRevocations claims at most limit revocations that were due at now, so
	// that no other replica claims them before now plus lease.
	DueRevocations(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Revocation, error)

	// RevocationDone forgets revocations that are in force. Idempotent.
	RevocationDone(ctx context.Context, ids ...int64) error
}

// Use says that a token of a session was found good.
type Use struct {
	SessionID string
	At        time.Time
}

// Hash is a SHA-256. Secrets that we hand out are kept as nothing else.
type Hash [32]byte

// Start is what a login records.
type Start struct {
	ID, Subject, TokenID string
	CredentialVersion    int64 // the password version that was verified
	Client               Client
	AMR                  string
	At                   time.Time // CreatedAt, LastSeenAt and AuthTime
	AccessExpiresAt      time.Time
	ExpiresAt            time.Time
	MaxExpiresAt         time.Time
	RefreshFamily        Hash
	RefreshCurrent       Hash
	MaxSessions          int  // most active sessions of the user, this one included; 0: any number
	EndOldest            bool // what to do when there are more; else refuse
}

// Record is a session as a check needs it: itself and those of its access
// tokens that were revoked by themselves and have not expired yet.
type Record struct {
	Session
	RevokedTokens     []string  // jti
	SubjectGeneration int64     // read together with the session
	SubjectUntil      time.Time // when the subject's newest access token expires
}

// Rotatable is a session and the state of its refresh tokens, locked.
type Rotatable struct {
	Session
	Current   Hash      // of the refresh token that is good now
	Previous  Hash      // of the one it replaced; zero before the first rotation
	Sealed    []byte    // the current one, sealed under a key that only the previous one yields
	RotatedAt time.Time // when Current replaced Previous
}

// Rotation is what becomes of a Rotatable. Either End is set, and the session
// is ended as by Revoke, or the other fields are stored.
type Rotation struct {
	End             *Ending
	Notify          string // kind of the mail that tells the user of End; empty: none
	TokenID         string
	At              time.Time // LastSeenAt, which the ledger never moves back
	AccessExpiresAt time.Time // the ledger keeps the later of this and what it has
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
	At                   time.Time // AuthTime; LastSeenAt, which the ledger never moves back
	AccessExpiresAt      time.Time // the ledger keeps the later of this and what it has
}

// Revocation is an end that the ledger has committed and the store has to
// learn. Applying one twice, or late, is harmless.
type Revocation struct {
	ID      int64  `json:"-"`
	Subject string `json:"sub"`
	// SessionID names the one session that ended, or whose token was revoked.
	SessionID string `json:"sid,omitempty"`
	// TokenID is set when a token was revoked by itself, and its session goes on.
	TokenID string `json:"jti,omitempty"`
	// Generation is set when all sessions of a lower one ended.
	Generation int64 `json:"gen,omitempty"`
	// Keep names the session that moved to the new Generation.
	Keep string `json:"keep,omitempty"`
	// Until is the expiry of the newest access token concerned.
	Until time.Time `json:"until"`
}
