package identity

import (
	"context"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/identity/mail"
)

// UserQuery selects users for operators.
type UserQuery struct {
	// Prefix is the beginning of a username or, if it contains an @, of an email address, in folded form. If
	// it is not empty, the users come in the order of their folded names, otherwise in the order of their ids.
	Prefix string
	Status Status // if empty, all users but deleted ones
	Role   string // if empty, users of any role or none
	After  UserKey
	Limit  int
}

// UserKey is the place of a user in the results of a query: first by the folded name, then by the id, because
// several pending users may claim one address.
type UserKey struct{ Name, ID string }

// Key returns the place of a user. Without a prefix, the name is empty.
func (q *UserQuery) Key(u *User) UserKey {
	switch {
	case q.Prefix == "":
		return UserKey{ID: u.ID}
	case strings.Contains(q.Prefix, "@"):
		return UserKey{FoldEmail(u.Email), u.ID}
	default:
		return UserKey{Fold(u.Username), u.ID}
	}
}

// Status is the state of an account.
type Status string

// These are the statuses of a user. Only an active user can sign in.
const (
	StatusPending   Status = "pending" // registered, but the email address is not confirmed yet
	StatusActive    Status = "active"
	StatusSuspended Status = "suspended" // an operator has locked the account
	StatusDeleted   Status = "deleted"   // kept without personal data until the user's last token has expired
)

// User is an account. Times are in UTC with microseconds.
type User struct {
	ID              string // the claim sub of the user's tokens; never reused for another user
	Username        string // in the user's own spelling
	Email           string // empty if the user who confirmed this address is another one
	PendingEmail    string // a new email address that is not confirmed yet; see [User.Pending]
	FirstName       string
	LastName        string
	Roles           string // sorted names, separated by commas
	Claims          string // a JSON object of at most 1024 bytes, or empty
	PasswordHash    string // made by package hashing; used only by this package and the store
	PasswordVersion int64  // grows with each new password, but not with a new hash of the same password
	Status          Status
	// DeviceGeneration grows with each password reset. Device tokens of an earlier generation have ended.
	DeviceGeneration int64
	EmailVerifiedAt  time.Time // zero if the email address is not confirmed
	PendingEmailAt   time.Time // when PendingEmail was set
	CreatedAt        time.Time
	UpdatedAt        time.Time
}

// Pending returns PendingEmail, unless the time to confirm it is over.
func (u *User) Pending(now time.Time) string {
	if now.Before(u.PendingEmailAt.Add(confirmTTL)) {
		return u.PendingEmail
	}
	return ""
}

// Unconfirmed returns the email address that a mailed link can confirm now, or an empty string.
func (u *User) Unconfirmed(now time.Time) string {
	if pending := u.Pending(now); pending != "" || !u.EmailVerifiedAt.IsZero() {
		return pending
	}
	return u.Email
}

// Store stores users. Usernames are unique in their folded form (see [Fold]), and so are the emails of
// active users. Pending users and pending emails may name any address, because the user who confirms it gets
// it. Only Find returns deleted users. If the database fails, a method returns [ErrUnavailable] and changes nothing.
//
// A method that changes the password or deletes the user holds the lock on the user's row. A concurrent
// login that verified the old password then fails. The method revokes the user's sessions in the same
// transaction and returns the id of the revocation.
//
// Create removes a pending user who was created before stalePending, if it needs that user's name. The mail
// in a parameter notice enters the outbox in the same transaction, unless it has no recipient.
type Store interface {
	// Create adds a user, and queues the mail notice unless it is nil, even without a recipient. It
	// returns ErrEmailTaken, or ErrUsernameTaken if the username or both are taken. For a pending user,
	// an email is taken only if another user has confirmed it.
	Create(ctx context.Context, u User, stalePending time.Time, notice *mail.Envelope) error

	// ByID, ByUsername and ByEmail return a user, or ErrNotFound for a deleted or unknown user. ByEmail
	// returns an active user before a pending one, and the newest pending one.
	ByID(ctx context.Context, id string) (User, error)
	ByUsername(ctx context.Context, username string) (User, error)
	ByEmail(ctx context.Context, email string) (User, error)

	// Update sets only the fields that p gives, and returns the updated user. Another email address
	// becomes the pending one. Mails of the kinds mail.KindConfirmEmail, to the new address, and
	// mail.KindEmailChange, to the present one if it is confirmed, are put into the outbox. The present
	// address, in any spelling, removes a pending one. Update returns ErrEmailTaken if another user has
	// confirmed the address, or ErrNotFound.
	Update(ctx context.Context, id string, p Profile, at time.Time) (User, error)

	// SetAttributes changes roles and claims of a user. It raises the user's generation, and moves all
	// active sessions of the user to the new one. It returns the id of the revocation that makes checks
	// read the new attributes. If nothing changes, it returns a revocation of the user that waits, because an
	// earlier call may have made the same change, or 0. It returns ErrNotFound.
	SetAttributes(ctx context.Context, id string, change AttributeChange, at time.Time) (revocation int64, err error)

	// Suspend makes an active user suspended, and revokes all sessions for the reason "suspended". It does the
	// same again for a suspended user. It returns ErrNotFound, or ErrNotActive if the user is pending.
	Suspend(ctx context.Context, id string, at time.Time) (revocation int64, err error)

	// Reinstate makes a suspended user active. It does nothing for an active user. It returns ErrNotFound, or
	// ErrNotActive if the user is pending.
	Reinstate(ctx context.Context, id string, at time.Time) error

	// Find returns users for operators, see [UserQuery].
	Find(ctx context.Context, q UserQuery) ([]User, error)

	// Rehash replaces the stored hash of a password by another hash of the same password. If the stored
	// hash is not equal to the parameter old, Rehash does nothing.
	Rehash(ctx context.Context, id, old, hash string) error

	// SetPassword stores the hash of a new password and raises the password version. For the reason
	// "password_changed", it revokes all sessions except the one with the id keep. It deletes mailed reset
	// tokens and a pending email address, which a thief may have set. It returns ErrNotFound, or ErrPasswordChanged if the password version is not fromVersion.
	SetPassword(ctx context.Context, id string, fromVersion int64, hash, keep string, at time.Time, notice mail.Envelope) (revocation int64, err error)

	// ResetPassword uses up a reset token. It stores the hash of the new password, raises the password
	// version and the device generation, revokes all sessions for the reason "password_reset" and deletes
	// the user's mailed tokens and a pending email address. The email address becomes confirmed, as in
	// ConfirmEmail, and the user active. ResetPassword returns ErrInvalidToken if
	// the token does not exist, has expired at the given time, or belongs to another user than userID.
	ResetPassword(ctx context.Context, token TokenHash, userID, hash string, at time.Time, notice mail.Envelope) (revocation int64, err error)

	// Delete revokes all sessions for the reason "account_deleted", removes the personal data from the
	// user's row, frees the username and email, and deletes mailed tokens. It erases the address, user
	// agent and device of each login and failed login. It returns ErrNotFound.
	Delete(ctx context.Context, id string, at time.Time, notice mail.Envelope) (revocation int64, err error)

	// IssueToken stores the hash of a token for a mail, and replaces the user's earlier token for this
	// purpose. It returns ErrNotFound if the parameter to is neither the email address nor the pending
	// one of that user. The token is invalid once that is so.
	IssueToken(ctx context.Context, userID, to string, purpose Purpose, hash TokenHash, expires, at time.Time) error

	// TokenUser returns the user of a mailed token. It returns ErrInvalidToken if the token does not
	// exist or has expired at the given time.
	TokenUser(ctx context.Context, purpose Purpose, hash TokenHash, at time.Time) (User, error)

	// ConfirmEmail uses up a mailed token, confirms the address that the token was mailed to, makes it the
	// user's email address and the user active. Another user who has that address unconfirmed loses it.
	// ConfirmEmail returns ErrInvalidToken if the token does not exist or has expired at the given time,
	// or if another user has confirmed the address. Unless proven is set, it returns ErrPasswordRequired
	// if somebody has asked for a later token for that address.
	ConfirmEmail(ctx context.Context, hash TokenHash, proven bool, at time.Time) error

	// IssueUndo stores the hash of a token that undoes a change of the user's email address. It returns
	// ErrNotFound if there is no such user, or if the holder of another address has undone the change.
	IssueUndo(ctx context.Context, hash TokenHash, u Undo) error

	// UndoEmailChange uses up a token of IssueUndo and deletes those of later changes. The address that
	// received the token becomes the user's confirmed email address. The hash of the password is replaced
	// by the given one. UndoEmailChange deletes mailed tokens and a pending email address, revokes all sessions for the reason "email_change_undone" and queues a mail to reset the
	// password. It returns ErrInvalidToken if the token does not exist or has expired at the given time,
	// or if another user has confirmed the address since.
	UndoEmailChange(ctx context.Context, hash TokenHash, passwordHash string, at time.Time) (revocation int64, err error)

	// ForgetUndos is like ForgetAttempts, but removes tokens of IssueUndo that expired before the given
	// time.
	ForgetUndos(ctx context.Context, before time.Time, limit int) (int, error)

	// ForgetPendingEmails is like ForgetAttempts, but removes pending emails that were set before the given
	// time.
	ForgetPendingEmails(ctx context.Context, before time.Time, limit int) (int, error)

	// RecordAttempt records a failed login, in the same time whether or not a.UserID is empty. It returns
	// ErrNotFound if no user has the id a.UserID.
	RecordAttempt(ctx context.Context, a Attempt) error

	// EventsOf returns audit events of a user whose numbers are above the parameter after, in the order of
	// their numbers, but not more than limit.
	EventsOf(ctx context.Context, userID string, after int64, limit int) ([]audit.Event, error)

	// UndosOf returns the changes of the user's email address that can still be undone, or were undone lately,
	// oldest first.
	UndosOf(ctx context.Context, userID string) ([]Undo, error)

	// MailsOf returns the mailed tokens of a user that were not used yet, and the mails to the user that
	// are in the outbox. It does not claim them.
	MailsOf(ctx context.Context, userID string) ([]MailedToken, []mail.Envelope, error)

	// Prune does a batch of at most limit rows of a chore, for rows from before the given time, the oldest
	// first. It reports whether there may be more. If another replica is doing a batch of the same chore,
	// Prune does nothing.
	Prune(ctx context.Context, chore Chore, before, now time.Time, limit int) (more bool, err error)

	// ForgetPending removes users who did not confirm the email address and were created before the given
	// time, with their tokens and failed logins, the oldest first, but not more than limit. It returns how
	// many it removed. Several replicas may call it at the same time.
	ForgetPending(ctx context.Context, before time.Time, limit int) (int, error)

	// Enqueue adds a mail to the outbox.
	Enqueue(ctx context.Context, notice mail.Envelope, at time.Time) error
}

// MailedToken is what the store knows about a mailed token, besides its hash.
type MailedToken struct {
	Purpose             Purpose
	IssuedAt, ExpiresAt time.Time
}

// Chore is work on old data that [Store.Prune] does.
type Chore string

// These are the chores.
const (
	ForgetSessions Chore = "forget sessions"      // delete sessions that are over, by the time of the login
	ForgetAttempts Chore = "forget failed logins" // delete failed logins
	ForgetEvents   Chore = "forget events"        // delete entries of the audit trail
	CutSessions    Chore = "cut sessions"         // cut the addresses of sessions to /24 and /48, and user agents to the device
	CutAttempts    Chore = "cut failed logins"    // the same for failed logins
)

// TokenHash is the SHA-256 of a mailed token. The token itself is not stored.
type TokenHash [32]byte

// Purpose says what a mailed token may be used for.
type Purpose string

// These are the purposes of mailed tokens.
const (
	PurposeReset   Purpose = "reset"
	PurposeConfirm Purpose = "confirm"
)

// Undo describes a change of an email address that the holder of the earlier address may undo.
type Undo struct {
	UserID    string
	Email     string // the address before the change
	ChangedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // zero until the change was undone
}

// Attempt is a failed login.
type Attempt struct {
	ID        string // the ids of failed logins and of sessions sort by time in one order
	UserID    string // empty if the login named no existing user
	IP        string
	UserAgent string
	Device    string
	Reason    string // "wrong_password", "unverified" or "unknown_user"
	At        time.Time
}
