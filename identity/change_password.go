package identity

import (
	"context"

	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// ChangePassword sets a new password, revokes the user's sessions and returns the id of the revocation. The
// parameter keep is the id of a session that stays active. If current is not nil and not the user's present
// password, ChangePassword records a failed login and returns ErrWrongPassword. Other errors are FieldErrors for the
// field "password", ErrNotFound, ErrPasswordChanged, and ErrLimited in a [RetryError].
func (s *Service) ChangePassword(ctx context.Context, id string, current *string, password, keep string, from Origin) (revocation int64, err error) {
	u, err := s.Store.ByID(ctx, id)
	if err != nil {
		return 0, err
	}
	if err := invalidField("password", s.checkNewPassword(password, contextWords(u.Username, u.Email)...)); err != nil {
		return 0, err
	}
	if current != nil {
		if err := s.confirmCurrent(ctx, u, *current, from); err != nil {
			return 0, err
		}
	}
	if err := s.checkBreached(ctx, password); err != nil {
		return 0, err
	}
	turn, err := s.Hasher.Enter(ctx, signedIn(id, from), nil)
	if err != nil {
		return 0, err
	}
	defer turn.Leave()
	hash, err := turn.Hash(ctx, password)
	if err != nil {
		return 0, err
	}
	return s.Store.SetPassword(ctx, id, u.PasswordVersion, hash, keep, s.now(), noticeTo(u, mail.KindPasswordChanged))
}

// confirmCurrent verifies the present password of a user. Wrong passwords count for the session in from.
func (s *Service) confirmCurrent(ctx context.Context, u User, password string, from Origin) (err error) {
	charge := s.newCharge(limit.ActionPassword, u.ID, from, s.rules().Password(from.Session)...)
	defer func() { charge.settle(ctx, err) }()
	turn, err := s.Hasher.Enter(ctx, signedIn(u.ID, from), charge.charge)
	if err != nil {
		return err
	}
	defer turn.Leave()
	_, err = s.verifyPassword(ctx, turn, u, password, from)
	return err
}
