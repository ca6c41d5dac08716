package identity

import (
	"context"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// ResendConfirmation mails the link that confirms the user's email address again. It does nothing if no
// address waits for that. It returns ErrNotFound, ErrMailDisabled, or ErrLimited in a [RetryError].
func (s *Service) ResendConfirmation(ctx context.Context, id string, from Origin) error {
	if !s.MailEnabled {
		return ErrMailDisabled
	}
	u, err := s.Store.ByID(ctx, id)
	if err != nil {
		return err
	}
	to := u.Unconfirmed(s.now())
	if to == "" {
		return nil
	}
	mails := s.newCharge(limit.ActionConfirm, id, from, s.rules().ConfirmAgain.Of(id))
	if err := mails.charge(ctx); err != nil {
		return err
	}
	if err := s.Store.Enqueue(ctx, confirmation(u, to), s.now()); err != nil {
		mails.refund(ctx)
		return err
	}
	return nil
}

// confirmation returns the mail that lets the user confirm an email address.
func confirmation(u User, to string) mail.Envelope {
	return mail.Envelope{Kind: mail.KindConfirmEmail, UserID: u.ID, To: to}
}

// ConfirmEmail confirms the email address that received the token. A user who was waiting for this can
// sign in from now on. If the password is not nil, it must be that of the user who gave the address: the
// owner of the address may also have got the links of strangers, who gave it without asking. It returns
// ErrInvalidToken, ErrPasswordRequired, ErrWrongPassword, or ErrLimited in a [RetryError].
func (s *Service) ConfirmEmail(ctx context.Context, token string, password *string, from Origin) error {
	if password != nil {
		if err := s.checkTokenPassword(ctx, token, *password, from); err != nil {
			return err
		}
	}
	return s.Store.ConfirmEmail(ctx, hashToken(token), password != nil, s.now())
}

// checkTokenPassword verifies the password of the user whose email address a mailed token confirms. The
// holder of the token may be a stranger to that user. Wrong passwords therefore count, on a counter of the user.
func (s *Service) checkTokenPassword(ctx context.Context, token, password string, from Origin) error {
	u, err := s.Store.TokenUser(ctx, PurposeConfirm, hashToken(token), s.now())
	if err != nil {
		return err
	}
	from.Session = u.ID
	return s.confirmCurrent(ctx, u, password, from)
}

// UndoEmailChange gives a user the email address back that received the token, revokes all the user's
// sessions, mails a link to choose a new password, and returns the id of the revocation. The present password no
// longer works, because a thief may have set it. It returns ErrInvalidToken.
func (s *Service) UndoEmailChange(ctx context.Context, token string) (revocation int64, err error) {
	return s.Store.UndoEmailChange(ctx, hashToken(token), hashing.NoPassword, s.now())
}
