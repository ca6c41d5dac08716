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
	mails := s.newCharge(limit.ActionConfirm, from, limit.EmailChange(id))
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
// ErrInvalidToken, ErrPasswordRequired or ErrWrongPassword.
func (s *Service) ConfirmEmail(ctx context.Context, token string, password *string, from Origin) error {
	hash := hashToken(token)
	if password != nil {
		u, err := s.Store.TokenUser(ctx, PurposeConfirm, hash, s.now())
		if err != nil {
			return err
		}
		// The client can read the mail, so it does not wait behind unknown devices.
		turn, err := s.Hasher.Enter(ctx, hashing.Visitor{Address: u.ID, Account: u.ID, KnownDevice: true}, nil)
		if err != nil {
			return err
		}
		defer turn.Leave()
		if _, err := s.verifyPassword(ctx, turn, u, *password, from); err != nil {
			return err
		}
	}
	return s.Store.ConfirmEmail(ctx, hash, password != nil, s.now())
}

// UndoEmailChange gives a user the email address back that received the token, revokes all the user's
// sessions, mails a link to choose a new password, and returns the id of the revocation. A password that
// was set after the change no longer works, because a thief may have set it. It returns ErrInvalidToken.
func (s *Service) UndoEmailChange(ctx context.Context, token string) (revocation int64, err error) {
	return s.Store.UndoEmailChange(ctx, hashToken(token), hashing.NoPassword, s.now())
}
