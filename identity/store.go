package identity

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity/mail"
)

// Status is the state of an account.
type Status string

// The statuses of a user. Only an active user can sign in.
const (
	StatusPending Status = "pending" // registered; the address is not confirmed yet
	StatusActive  Status = "active"
	StatusDeleted Status = "deleted" // kept without personal data until the last token has expired
)

// User is an account. Times are in UTC with microseconds.
type User struct {
	ID              string // the tokens' sub; never reassigned
	Username        string // as its owner wrote it
	Email           string
	FirstName       string
	LastName        string
	PasswordHash    string // as package hashing makes it; it stays in this package and the store
	PasswordVersion int64  // grows with each change of the password, but not with a re-hash
	Status          Status
	EmailVerifiedAt time.Time // zero: not verified
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// Store stores users. Usernames and emails are unique in their folded form (see [Fold]). The store never
// returns deleted users. If the database fails, a method returns [ErrUnavailable] and leaves nothing half
// done.
//
// The methods that change a credential lock the user's row for update. A concurrent login that verified
// the old credential then fails. They end the user's sessions in the same transaction and return the
// number of the recorded revocation.
//
// Pending users created before stalePending do not block a name or an address: the store removes them.
type Store interface {
	// Create adds a user. It returns ErrUsernameTaken, which it checks first, or ErrEmailTaken. It queues
	// notice in the same transaction unless notice is nil.
	Create(ctx context.Context, u User, stalePending time.Time, notice *mail.Envelope) error

	// ByID, ByUsername and ByEmail return a user that is not deleted. The user may be pending. They
	// return ErrNotFound if there is none.
	ByID(ctx context.Context, id string) (User, error)
	ByUsername(ctx context.Context, username string) (User, error)
	ByEmail(ctx context.Context, email string) (User, error)

	// Update sets the fields that p gives and no others, so that concurrent changes of other fields stay.
	// It returns the updated user. A different email becomes unverified, open mailed tokens are deleted,
	// and mail.KindEmailChanged to the old address is queued in the same transaction. It returns
	// ErrEmailTaken or ErrNotFound.
	Update(ctx context.Context, id string, p Profile, stalePending, at time.Time) (User, error)

	// Rehash replaces a hash by another one of the same password. It does nothing if the stored hash is
	// not old.
	Rehash(ctx context.Context, id, old, hash string) error

	// SetPassword stores a new hash and raises the password version. It ends all sessions except keep
	// with reason "password_changed", deletes open resets and queues notice. It returns ErrNotFound, or
	// ErrPasswordChanged if the user's password version is not fromVersion.
	SetPassword(ctx context.Context, id string, fromVersion int64, hash, keep string, at time.Time, notice mail.Envelope) (revocation int64, err error)

	// ResetPassword uses up a reset token. It stores the new hash for the token's user, raises the
	// password version, ends all sessions with reason "password_reset", deletes open tokens and queues
	// notice. The user's address becomes verified, and a pending user becomes active. It returns
	// ErrInvalidToken if the token does not exist, has expired at the given time, or is not userID's.
	ResetPassword(ctx context.Context, token TokenHash, userID, hash string, at time.Time, notice mail.Envelope) (revocation int64, err error)

	// Delete ends all sessions with reason "account_deleted", removes the personal data from the user's
	// row, frees the username and the email, deletes open tokens and queues notice. It returns
	// ErrNotFound.
	Delete(ctx context.Context, id string, at time.Time, notice mail.Envelope) (revocation int64, err error)

	// IssueToken stores the hash of a secret that is about to be mailed to an address. It replaces the
	// user's earlier token for this purpose. It returns ErrNotFound if the user is gone or has another
	// address.
	IssueToken(ctx context.Context, userID, to string, purpose Purpose, hash TokenHash, expires, at time.Time) error

	// TokenUser returns the user of a mailed token. It returns ErrInvalidToken if the token does not
	// exist or has expired at the given time.
	TokenUser(ctx context.Context, purpose Purpose, hash TokenHash, at time.Time) (User, error)

	// VerifyEmail uses up a verification token. The user becomes active and the address verified. It
	// returns ErrInvalidToken.
	VerifyEmail(ctx context.Context, hash TokenHash, at time.Time) error

	// RecordAttempt records a failed login. It takes as long if a names no user. It returns ErrNotFound
	// if the user that a names is gone.
	RecordAttempt(ctx context.Context, a Attempt) error

	// ForgetAttempts removes at most limit failed logins from before a time, oldest first, and returns
	// how many it removed. Any number of replicas may call it.
	ForgetAttempts(ctx context.Context, before time.Time, limit int) (int, error)

	// ForgetPending removes at most limit pending users created before a time, oldest first, with their
	// tokens and failed logins. It returns how many it removed. Any number of replicas may call it.
	ForgetPending(ctx context.Context, before time.Time, limit int) (int, error)

	// Enqueue adds a mail to the outbox.
	Enqueue(ctx context.Context, notice mail.Envelope, at time.Time) error
}

// TokenHash is the SHA-256 of a mailed secret. The secret itself is not stored.
type TokenHash [32]byte

// Purpose says what a mailed token may be used for.
type Purpose string

// The purposes of mailed tokens.
const (
	PurposeReset  Purpose = "reset"
	PurposeVerify Purpose = "verify"
)

// Attempt is a failed login.
type Attempt struct {
	ID        string // sorts by time, together with session ids
	UserID    string // empty: there is no such account
	IP        string
	UserAgent string
	Device    string
	Reason    string // "wrong_password", "unverified" or "unknown_user"
	At        time.Time
}
