package mail

import (
	"context"
	"errors"
	"time"
)

// Kind names a mail's template.
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

// Envelope is one mail in the outbox. It holds no secret: the link of a reset is made when the mail
// is sent, so that a copy of the database opens no account.
type Envelope struct {
	ID       int64 // given by the store
	Kind     Kind
	UserID   string    // the user whom it concerns; empty for a reset, whose user is found by To when it is sent
	To       string    // address
	Name     string    // how to greet, as its owner wrote it
	QueuedAt time.Time // given by the store
	Attempts int       // how often it was claimed, this time included
}

// Outbox holds the mail that waits to be sent.
type Outbox interface {
	// DueMail claims at most limit mails that are due at now, oldest first. No other replica claims
	// them before now plus lease.
	DueMail(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Envelope, error)

	// MailDone removes a mail that was sent or given up. It is idempotent.
	MailDone(ctx context.Context, id int64) error

	// MailRetry makes a claimed mail due again at that time.
	MailRetry(ctx context.Context, id int64, at time.Time) error
}

// TokenIssuer issues the token in the link of a mail. It is called when the mail is sent.
type TokenIssuer interface {
	// IssueToken returns an error that wraps ErrUnwanted if the mail should not be sent any more,
	// for example because its user is gone.
	IssueToken(ctx context.Context, e Envelope) (Token, error)
}

// Token is the secret in the link of a mail, and whom the mail goes to.
type Token struct {
	Secret   string
	Lifetime time.Duration
	To, Name string // the address and the username as their owner spells them
}

// ErrUnwanted: the mail should be dropped without an attempt to send it.
var ErrUnwanted = errors.New("unwanted")

// MaxAge returns how long after its queueing a mail is still worth sending.
func MaxAge(kind Kind) time.Duration {
	if kind == KindPasswordReset {
		return time.Hour // a person who still waits has asked again
	}
	return 24 * time.Hour
}
