package mail

import (
	"context"
	"errors"
	"time"
)

// Kind says what a mail is about. Each kind has its own template.
type Kind string

// These are the kinds of mail.
const (
	KindPasswordReset   Kind = "password_reset" // carries a link
	KindConfirmEmail    Kind = "confirm_email"  // carries a link
	KindInvitation      Kind = "invitation"     // an operator created the account; carries the link of a reset
	KindAddressTaken    Kind = "address_taken"
	KindPasswordChanged Kind = "password_changed"
	KindEmailChange     Kind = "email_change" // to the earlier address; carries a link
	KindAccountDeleted  Kind = "account_deleted"
	KindTokenTheft      Kind = "token_theft"
)

// Envelope is a mail in the outbox. The text and the link are made only when the mail is sent. Otherwise
// anybody with a copy of the database could use the secret token in the link.
type Envelope struct {
	ID       int64 // assigned by the store
	Kind     Kind
	UserID   string    // the user that the mail is about; empty for a reset that a client requested, which finds the user by To
	To       string    // email address; a notice without one is not sent
	QueuedAt time.Time // assigned by the store
	Attempts int       // how many times a replica claimed the mail to send it, including this time
}

// Outbox stores the mail that waits to be sent.
type Outbox interface {
	// DueMail claims at most limit mails that are due at now, oldest first. It does not return a claimed
	// mail to any replica before now plus lease.
	DueMail(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Envelope, error)

	// MailDone removes a mail that was sent or will never be sent. Removing it again is not an error.
	MailDone(ctx context.Context, id int64) error

	// MailRetry makes a claimed mail due again at the given time.
	MailRetry(ctx context.Context, id int64, at time.Time) error
}

// Clerk prepares each mail at the moment when it is sent.
type Clerk interface {
	// Prepare decides which address the mail goes to, and issues the token in its link. Its error wraps
	// [ErrUnwanted] if the mail should not be sent any more, for example because the user was deleted
	// or there were too many such mails.
	Prepare(ctx context.Context, e Envelope) (Prepared, error)
}

// Prepared is what a [Clerk] adds to a mail.
type Prepared struct {
	To       string        // email address, in its owner's own spelling
	Secret   string        // the token in the mail's link; empty for a mail without a link
	Lifetime time.Duration // how long the link works
}

// ErrUnwanted means that the mail should be dropped without an attempt to send it.
var ErrUnwanted = errors.New("the mail should not be sent any more")

// MaxAge returns how old a mail in the outbox may be before it is dropped instead of sent.
func MaxAge(kind Kind) time.Duration {
	if kind == KindPasswordReset {
		return time.Hour // after that, people have usually requested another reset
	}
	return 24 * time.Hour
}
