package mail

import (
	"context"
	"errors"
	"time"
)

// Kind names the template of a mail.
type Kind string

// The kinds of mail.
const (
	KindPasswordReset   Kind = "password_reset" // carries a link
	KindVerifyEmail     Kind = "verify_email"   // carries a link
	KindAddressTaken    Kind = "address_taken"
	KindPasswordChanged Kind = "password_changed"
	KindEmailChanged    Kind = "email_changed"
	KindAccountDeleted  Kind = "account_deleted"
	KindTokenTheft      Kind = "token_theft"
)

// Envelope is a mail in the outbox, which is written when it is sent. It holds no secret: a copy of the
// database must not open any account.
type Envelope struct {
	ID       int64 // assigned by the store
	Kind     Kind
	UserID   string    // the user concerned; empty for a reset, which finds its user by To when it is sent
	To       string    // email address
	Name     string    // the name in the greeting
	QueuedAt time.Time // assigned by the store
	Attempts int       // how often it was claimed, including this time
}

// Outbox stores the mail that waits to be sent.
type Outbox interface {
	// DueMail claims at most limit mails that are due at now, oldest first. No other replica claims them
	// before now plus lease.
	DueMail(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Envelope, error)

	// MailDone removes a mail that was sent or given up. It is idempotent.
	MailDone(ctx context.Context, id int64) error

	// MailRetry makes a claimed mail due again at the given time.
	MailRetry(ctx context.Context, id int64, at time.Time) error
}

// TokenIssuer issues the token in a mail's link at the moment when the mail is sent.
type TokenIssuer interface {
	// IssueToken returns an error that wraps [ErrUnwanted] if the mail should no longer be sent, for
	// example because its user is gone.
	IssueToken(ctx context.Context, e Envelope) (Token, error)
}

// Token is the secret in a mail's link, and the recipient.
type Token struct {
	Secret   string
	Lifetime time.Duration
	To, Name string // the address and the username as their owner wrote them
}

// ErrUnwanted: the mail should be dropped without an attempt to send it.
var ErrUnwanted = errors.New("unwanted")

// MaxAge returns for how long after its queueing a mail is worth sending.
func MaxAge(kind Kind) time.Duration {
	if kind == KindPasswordReset {
		return time.Hour // after that, the person has asked again
	}
	return 24 * time.Hour
}
