package issuer

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Ledger is the durable truth about sessions (Postgres, or SQLite for one replica). Logins,
// refreshes, revocations and lists use the ledger. Checks read it only if the store does not know
// the session.
//
// Many replicas may call the methods at once. A method that locks database rows locks the user's
// row first and session rows later. If the database fails, the error is [session.ErrUnavailable],
// and the method has changed nothing. All times are UTC, from a clock that all replicas share.
type Ledger interface {
	// Start records a login and returns the new session. In one transaction it locks the user's row,
	// inserts the session, and copies the user's generation and name to it. It returns
	// ErrSubjectGone if the user is not active, and ErrCredentialChanged if the user's password
	// version is not start.CredentialVersion. If the user already has start.MaxSessions active
	// sessions, start.EndOldest decides: Start ends the user's oldest sessions and returns the
	// revocations to enforce, or it returns ErrTooManySessions.
	Start(ctx context.Context, start Start) (Session, []Revocation, error)

	// Find reads one session for a check, whatever the session's status. It reads from the primary
	// database server. It returns ErrNotFound if the subject has no such session.
	Find(ctx context.Context, subject, id string, now time.Time) (Record, error)

	// Rotate exchanges a refresh token. A session's refresh tokens form a family; family is the hash
	// of the secret that they share. In one transaction Rotate finds the session of the family, takes
	// a shared lock on the user's row and a lock on the session's row, calls decide, and stores the
	// result. It returns ErrNotFound if no session has that family. If decide returns an error, Rotate
	// returns it unchanged and stores nothing. The Revocation is not nil if decide ended the session.
	Rotate(ctx context.Context, family Hash, decide func(Rotatable) (Rotation, error)) (Session, *Revocation, error)

	// Reauthenticate records a new AuthTime and a new access token of an active session, and revokes
	// the access token that the new one replaces. It checks the user as Start does. It returns
	// ErrNotFound if the session has ended.
	Reauthenticate(ctx context.Context, re Reauthentication) (Session, Revocation, error)

	// Touch moves LastSeenAt of the used sessions forward, in one statement. It skips a session
	// that is unknown, that was not active when it was used, or that was seen less than
	// [session.SeenInterval] before. Touch does not wait for locks. It skips a session whose row is
	// locked, because the transaction that holds the lock usually records a use itself. If uses has
	// a session twice, the later use counts.
	Touch(ctx context.Context, uses []Use) error

	// Active lists a subject's sessions that are active at now, newest first.
	Active(ctx context.Context, subject string, now time.Time, page Page) ([]Session, error)

	// History lists all logins of a subject, newest first: active, ended and failed logins. A failed
	// login has only the fields Failed, ID, Client, CreatedAt and EndReason.
	History(ctx context.Context, subject string, page Page) ([]Login, error)

	// Revoke ends one session and records, in the same transaction, a revocation to enforce. If the
	// session had already ended or expired, Revoke does not change the session's history. It still
	// returns the session and a revocation. It returns ErrNotFound if the subject has no such session.
	Revoke(ctx context.Context, subject, id string, end Ending) (Session, Revocation, error)

	// RevokeAll raises the subject's generation and ends all active sessions of the subject except
	// the session with the id keep. If that session is active, it moves to the new generation. If
	// keep is empty, no session is kept. RevokeAll returns the sessions that it ended, or
	// ErrSubjectGone if there is no such user.
	RevokeAll(ctx context.Context, subject, keep string, end Ending) (Ended, Revocation, error)

	// SubjectOf returns the subject of a session, or ErrNotFound.
	SubjectOf(ctx context.Context, id string) (string, error)

	// Search lists active sessions of all subjects, newest first; see [Manager.Search].
	Search(ctx context.Context, f Filter, now time.Time, page Page) (found []Session, next string, err error)

	// Count counts the sessions that a filter selects among some of the sessions before an id, or among the
	// newest ones if the id is empty. The next part begins before the id next, which is empty after the last.
	Count(ctx context.Context, f Filter, now time.Time, before string) (n int64, next string, err error)

	// StartBulk records a revocation of many sessions. Unless the owner is empty, the owner has claimed it for
	// the time lease.
	StartBulk(ctx context.Context, b Bulk, owner string, lease time.Duration) error

	// Bulk reads a revocation of many sessions, or returns ErrNotFound.
	Bulk(ctx context.Context, id string) (Bulk, error)

	// ClaimBulk claims a revocation that is not done, for the time lease: this one, or any if the id is empty.
	// Another owner must not have claimed it. ClaimBulk returns ErrNotFound if there is none.
	ClaimBulk(ctx context.Context, id, owner string, now time.Time, lease time.Duration) (claimed string, err error)

	// StepBulk counts a part of the sessions, or ends up to limit of them, and returns the revocations to
	// enforce. The state becomes BulkDone once no session is left and no revocation waits that was recorded
	// up to the last batch, or up to the start if no session ended.
	StepBulk(ctx context.Context, id string, now time.Time, limit int) (Bulk, []Revocation, error)

	// RevokeToken records one access token of a session as revoked until expiry. The session stays
	// active. Revoking the token again changes nothing.
	RevokeToken(ctx context.Context, subject, id, tokenID string, expiry, now time.Time) (Revocation, error)

	// Revocation reads a recorded revocation. It returns ErrNotFound if it is already enforced.
	Revocation(ctx context.Context, id int64) (Revocation, error)

	// DueRevocations claims up to limit recorded revocations that are due at now. No other replica
	// receives a claimed revocation before now plus lease.
	DueRevocations(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Revocation, error)

	// RevocationDone deletes enforced revocations. An id that is already deleted is not an error.
	RevocationDone(ctx context.Context, ids ...int64) error

	// Epochs reads the epochs of Redis.
	Epochs(ctx context.Context) (EpochTable, error)

	// BeginEpoch records an epoch with this number. It does nothing if the number is taken.
	BeginEpoch(ctx context.Context, number int64, server Server) error

	// ConfirmEpochs records that a replica uses the servers of these epochs now. Other replicas see
	// all of it or nothing, because an epoch that is confirmed later than another may be retired.
	// Until an epoch has been confirmed for four seconds, a gap between two confirmations makes them
	// begin again, because verifiers may have missed the epoch in an outage of the ledger.
	ConfirmEpochs(ctx context.Context, numbers ...int64) error
}

// Use says when an access token of a session was accepted.
type Use struct {
	SessionID string
	At        time.Time
}

// Hash is a SHA-256. The ledger stores refresh tokens only as hashes.
type Hash [32]byte

// Start describes a login for [Ledger.Start].
type Start struct {
	ID, Subject, TokenID                     string
	CredentialVersion                        int64 // the version of the password that was verified
	Client                                   Client
	AMR                                      string
	At                                       time.Time // time of the login, recorded as CreatedAt, LastSeenAt and AuthTime
	AccessExpiresAt, ExpiresAt, MaxExpiresAt time.Time
	RefreshFamily, RefreshCurrent            Hash
	MaxSessions                              int  // active sessions per user, including the new one; 0 means no limit
	EndOldest                                bool // at the limit, end the oldest session instead of refusing the login
}

// Record is what the ledger knows of a session for a check. All fields were read at one moment.
type Record struct {
	Session
	RevokedTokens     []string // jti of the session's revoked access tokens that have not expired
	SubjectGeneration int64
	SubjectUntil      time.Time // when the subject's newest access token expires
	Attributes        session.Attributes
}

// Rotatable is a session, whose database row is locked, and the state of its refresh tokens.
type Rotatable struct {
	Session
	Current   Hash      // hash of the current refresh token
	Previous  Hash      // hash of the previous refresh token; zero before the first rotation
	Sealed    []byte    // the current token, encrypted with a key derived from the previous token
	RotatedAt time.Time // when the current token replaced the previous one
}

// Rotation is the result of decide in [Ledger.Rotate]. If End is set, the ledger ends the session
// as Revoke does, and ignores the fields below Notify.
type Rotation struct {
	End             *Ending
	Notify          string // kind of the mail that tells the user that the session ended; empty for no mail
	TokenID         string
	At              time.Time // the new LastSeenAt, unless the ledger has a later LastSeenAt
	AccessExpiresAt time.Time // exp of the new access token, recorded unless the ledger has a later exp
	ExpiresAt       time.Time
	Current         Hash
	Previous        Hash
	Sealed          []byte
	RotatedAt       time.Time
}

// Reauthentication describes a new password check in an active session.
type Reauthentication struct {
	Subject, ID, TokenID string
	CredentialVersion    int64
	AMR                  string
	At                   time.Time // the new AuthTime; also the new LastSeenAt, unless the ledger has a later LastSeenAt
	AccessExpiresAt      time.Time // exp of the new access token, recorded unless the ledger has a later exp
	ReplacedTokenID      string    // jti of the access token that the new one replaces
	ReplacedExpiresAt    time.Time // exp of that token
}

// Ended is what [Ledger.RevokeAll] ended.
type Ended struct {
	Count  int
	Newest []Session // the MaxEndedNewest newest ones, newest first
}

// MaxEndedNewest is the largest number of sessions in [Ended]. Otherwise the answer for a user with many
// sessions would take long.
const MaxEndedNewest = 1000

// Revocation is a revocation of sessions, or of one token, that the ledger has recorded and that
// the store must apply. Applying a revocation twice or late is harmless.
type Revocation struct {
	ID      int64  `json:"-"`
	Subject string `json:"sub"`
	// RecordedAt is when the ledger recorded the revocation.
	RecordedAt time.Time `json:"-"`
	// Reason says why sessions ended. It is empty if none did, and in those that an earlier release recorded.
	Reason Reason `json:"reason,omitempty"`
	// SessionID names the one session that ended, or the session of the revoked token.
	SessionID string `json:"sid,omitempty"`
	// TokenID is set if one token was revoked and its session stays active.
	TokenID string `json:"jti,omitempty"`
	// Generation is set if sessions of a lower generation ended, or if the subject's attributes changed.
	// The ledger has then moved the subject's active sessions to Generation.
	Generation int64 `json:"gen,omitempty"`
	// Keep names the session that moved to Generation, because it stays active.
	Keep string `json:"keep,omitempty"`
	// Until is the expiry of the newest affected access token.
	Until time.Time `json:"until"`
}
