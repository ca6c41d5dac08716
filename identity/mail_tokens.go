package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

var _ mail.Clerk = (*Service)(nil)

// Prepare implements [mail.Clerk].
func (s *Service) Prepare(ctx context.Context, e mail.Envelope) (mail.Prepared, error) {
	switch e.Kind {
	case mail.KindPasswordReset, mail.KindConfirmEmail, mail.KindInvitation:
	case mail.KindEmailChange:
		return s.prepareUndo(ctx, e)
	default:
		return mail.Prepared{To: e.To}, s.chargeMail(ctx, e, e.UserID)
	}
	u, err := s.recipient(ctx, e)
	if err == nil {
		err = s.chargeMail(ctx, e, u.ID)
	}
	if err != nil {
		return mail.Prepared{}, err
	}
	now := s.now()
	to, purpose, ttl := e.To, PurposeConfirm, confirmTTL
	switch { // a link that is mailed again works no longer than the first one; see undoTTL and removeStale
	case u.Pending(now) != "":
		ttl = u.PendingEmailAt.Add(confirmTTL).Sub(now)
	case u.Status == StatusPending && !registrationExpired(u, now):
		ttl = u.CreatedAt.Add(confirmTTL).Sub(now)
	}
	switch e.Kind {
	case mail.KindInvitation:
		purpose, ttl = PurposeReset, confirmTTL
	case mail.KindPasswordReset:
		// Send the mail to the address as its owner wrote it. To a mail server, another spelling of the
		// address may be the address of another person.
		to, purpose, ttl = u.Email, PurposeReset, cmp.Or(s.ResetTTL, 10*time.Minute)
	}
	secret := newToken()
	err = s.Store.IssueToken(ctx, u.ID, to, purpose, hashToken(secret), now.Add(ttl), now)
	if errors.Is(err, ErrNotFound) {
		err = unwanted("the user was deleted or changed the email address")
	}
	if err != nil {
		return mail.Prepared{}, err
	}
	return mail.Prepared{To: to, Secret: secret, Lifetime: ttl}, nil
}

// chargeMail charges a mail that is about to be sent to the limits of its recipient and of the account
// that it is about. Later attempts to send the same mail are not charged. Neither is the mail to reset the
// password after an undone change of address: each undo uses up a mailed link, and somebody who uses up the
// limit on resets must not keep the owner from getting this mail.
func (s *Service) chargeMail(ctx context.Context, e mail.Envelope, account string) error {
	if e.Attempts > 1 || e.Kind == mail.KindPasswordReset && e.UserID != "" {
		return nil
	}
	email := FoldEmail(e.To)
	keys := s.rules().Mail(string(e.Kind), account, email)
	if err := s.newCharge(limit.ActionMail, email, Origin{}, keys...).charge(ctx); err != nil {
		return unwanted("there were too many mails of this kind")
	}
	return nil
}

// recipient returns the user that a mail is for. The email address need not be confirmed for a password
// reset, because somebody else may have registered it. By using the link, the owner confirms the address.
func (s *Service) recipient(ctx context.Context, e mail.Envelope) (User, error) {
	reset, find, key := e.Kind == mail.KindPasswordReset, s.Store.ByID, e.UserID
	if reset {
		find, key = s.Store.ByEmail, e.To
	}
	u, err := find(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && reset && registrationExpired(u, s.now()):
		return User{}, unwanted("there is no such user")
	case err != nil || reset:
		return u, err
	case e.Kind == mail.KindInvitation && (!u.EmailVerifiedAt.IsZero() || u.Email != e.To):
		return User{}, unwanted("the user has set a password already, or the address changed")
	case e.Kind == mail.KindConfirmEmail && FoldEmail(u.Unconfirmed(s.now())) != FoldEmail(e.To):
		return User{}, unwanted("the email address is confirmed already, or the user changed it")
	}
	return u, nil
}

// prepareUndo issues the token by which the owner of an email address can undo that an account leaves it.
func (s *Service) prepareUndo(ctx context.Context, e mail.Envelope) (mail.Prepared, error) {
	if err := s.chargeMail(ctx, e, e.UserID); err != nil {
		return mail.Prepared{}, err
	}
	secret := newToken()
	err := s.Store.IssueUndo(ctx, hashToken(secret), Undo{
		UserID: e.UserID, Email: e.To, ChangedAt: e.QueuedAt, ExpiresAt: s.now().Add(undoTTL),
	})
	if errors.Is(err, ErrNotFound) {
		err = unwanted("the user was deleted, or the change was undone")
	}
	return mail.Prepared{To: e.To, Secret: secret, Lifetime: undoTTL}, err
}

func unwanted(why string) error { return fmt.Errorf("%w: %s", mail.ErrUnwanted, why) }

// newToken returns a new secret for a mailed link: 43 URL-safe characters with 256 random bits.
func newToken() string {
	var b [32]byte
	rand.Read(b[:]) // Read never returns an error; if it fails, the program ends
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// hashToken returns the hash by which the store finds a mailed token.
func hashToken(token string) TokenHash { return sha256.Sum256([]byte(token)) }
