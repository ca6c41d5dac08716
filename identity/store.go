package identity

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity/mail"
)

// Status of a user.
type Status string

// The statuses of a user. Only an active user can sign in.
const (
	StatusPending Status = "pending" // registered, address not confirmed yet
	StatusActive  Status = "active"
	StatusDeleted Status = "deleted" // kept without personal data until the last token expired
)

// User is one account. Times are UTC with microseconds.
type User struct {
	ID              string // sub; never reassigned
	Username        string // as written by its owner
	Email           string
	FirstName       string
	LastName        string
	PasswordHash    string // as [hashing.Hasher] makes it; never leaves this package and the store
	PasswordVersion int64  // raised by every change of password, not by a re-hash
	Status          Status
	EmailVerifiedAt time.Time // zero: not verified
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// Store is where users live. Usernames and emails are unique without regard to
// case: the store compares [Fold] of them. Deleted users are never returned. A
// failure of the database is [ErrUnavailable] and leaves nothing half done.
//
// The methods that change a credential lock the user's row for update, so that
// a login that verified the old one fails instead of slipping past. They end the user's
// sessions in the same transaction and return the number of the recorded
// revocation.
type Store interface {
	// Create adds a user. ErrUsernameTaken (looked at first) or ErrEmailTaken.
	// Pending users created before stalePending do not count: they are removed. mail, when not nil, is queued in
	// the same transaction.
	Create(ctx context.Context, u User, stalePending time.Time, notice *mail.Envelope) error

	// ByID, ByUsername and ByEmail read one user that is not deleted, pending
	// ones too. ErrNotFound.
	ByID(ctx context.Context, id string) (User, error)
	ByUsername(ctx context.Context, username string) (User, error)
	ByEmail(ctx context.Context, email string) (User, error)

	// Update sets what p gives, and no other field, and returns the user as they
	// are then: changes of other fields at the same time stay. Another email is not
	// verified, open mailed tokens are forgotten, and [mail.KindEmailChanged] to the old
	// address is queued in the same transaction. Pending users created before
	// stalePending do not count, as in Create. ErrEmailTaken, ErrNotFound.
	Update(ctx context.Context, id string, p Profile, stalePending, at time.Time) (User, error)

	// Rehash replaces a hash by another one of the same password. It does nothing
	// when the stored hash is no longer old.
	Rehash(ctx context.Context, id, old, hash string) error

	// SetPassword stores a new hash for a user whose password version is still
	// fromVersion (else ErrPasswordChanged), raises the version, ends all sessions but keep
	// with reason "password_changed", forgets open resets, and queues mail. ErrNotFound.
	SetPassword(ctx context.Context, id string, fromVersion int64, hash, keep string, at time.Time, notice mail.Envelope) (revocation int64, err error)

	// ResetPassword uses up the reset token with this hash: it stores the new
	// password hash for the token's user, raises the version, ends all
	// sessions with reason "password_reset", forgets open tokens and queues mail. The address is verified by it, and
	// a pending user becomes active.
	// ErrInvalidToken when the token is not there, has expired at at, or is not userID's.
	ResetPassword(ctx context.Context, token TokenHash, userID, hash string, at time.Time, notice mail.Envelope) (revocation int64, err error)

	// Delete ends all sessions with reason "account_deleted", takes the
	// personal data out of the user's row, frees the names, forgets open
	// tokens, and queues mail. ErrNotFound.
	Delete(ctx context.Context, id string, at time.Time, notice mail.Envelope) (revocation int64, err error)

	// IssueToken stores the hash of a secret that is about to be mailed to an address.
	// Earlier ones of this user and purpose are dead from then on. ErrNotFound when the
	// user is gone or has another address.
	IssueToken(ctx context.Context, userID, to string, purpose Purpose, hash TokenHash, expires, at time.Time) error

	// TokenUser reads the user of a mailed token that has not expired at at.
	// ErrInvalidToken.
	TokenUser(ctx context.Context, purpose Purpose, hash TokenHash, at time.Time) (User, error)

	// VerifyEmail uses up a verification token: the user becomes active and the
	// address verified. ErrInvalidToken.
	VerifyEmail(ctx context.Context, hash TokenHash, at time.Time) error

	// RecordAttempt records a login that failed. ErrNotFound when the user that
	// it names is gone. It takes as long when it names none.
	RecordAttempt(ctx context.Context, a Attempt) error

	// ForgetAttempts removes at most limit logins that failed before a time, the
	// oldest, and returns how many. Any number of replicas may call it.
	ForgetAttempts(ctx context.Context, before time.Time, limit int) (int, error)

	// ForgetPending removes at most limit pending users created before a time, the
	// oldest, with their tokens and failed logins, and returns how many. Any number of
	// replicas may call it.
	ForgetPending(ctx context.Context, before time.Time, limit int) (int, error)

	// Enqueue puts a mail in the outbox.
	Enqueue(ctx context.Context, notice mail.Envelope, at time.Time) error
}

// TokenHash is the SHA-256 of a mailed secret, which is kept as nothing else.
type TokenHash [32]byte

// Purpose says what a mailed token may be used for.
type Purpose string

// The purposes of mailed tokens.
const (
	PurposeReset  Purpose = "reset"
	PurposeVerify Purpose = "verify"
)

// Attempt is a login that failed.
type Attempt struct {
	ID        string // sorts by time among session ids
	UserID    string // empty: there is no such account
	IP        string
	UserAgent string
	Device    string
	Reason    string // "wrong_password", "unverified", "unknown_user"
	At        time.Time
}
