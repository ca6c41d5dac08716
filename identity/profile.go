package identity

import (
	"context"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// User reads a user by id. ErrNotFound.
func (s *Service) User(ctx context.Context, id string) (User, error) {
	return s.Store.ByID(ctx, id)
}

// Profile is a change of what a user says about themselves; nil leaves a field
// as it is.
type Profile struct {
	FirstName, LastName, Email *string
}

// UpdateProfile changes what is given and returns the user as they are then.
// Another email is not verified, and the old address is told of it.
// FieldErrors, ErrNotFound, ErrEmailTaken.
func (s *Service) UpdateProfile(ctx context.Context, id string, p Profile) (User, error) {
	var errs FieldErrors
	if p.FirstName != nil {
		errs.check("first_name", checkText(*p.FirstName))
	}
	if p.LastName != nil {
		errs.check("last_name", checkText(*p.LastName))
	}
	if p.Email != nil {
		errs.check("email", checkEmail(*p.Email))
	}
	if err := errs.err(); err != nil {
		return User{}, err
	}
	return s.Store.Update(ctx, id, p, s.stalePending(), s.now())
}

// ChangePassword sets a new password and ends all sessions of the user but
// keep; it returns the number of that revocation. current, when given, must be
// the password so far: ErrWrongPassword, which is recorded as a failed login.
// FieldErrors (of the field "password"), ErrNotFound, ErrPasswordChanged, ErrLimited as a [RetryError].
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

// signedIn is a user in the queue whose token is good: no stranger is in their way.
func signedIn(id string, from Origin) hashing.Visitor {
	return hashing.Visitor{Address: limit.Address(from.IP), Account: id, KnownDevice: true}
}

func (s *Service) confirmCurrent(ctx context.Context, u User, password string, from Origin) (err error) {
	c := s.newCharge(limit.ActionPassword, from, limit.Password(from.Session)...)
	defer func() { c.settle(ctx, err) }()
	turn, err := s.Hasher.Enter(ctx, signedIn(u.ID, from), c.charge)
	if err != nil {
		return err
	}
	defer turn.Leave()
	_, err = s.confirm(ctx, turn, u, password, from)
	return err
}

// Delete removes a user with all their personal data and ends all their
// sessions; it returns the number of that revocation. ErrNotFound.
func (s *Service) Delete(ctx context.Context, id string) (revocation int64, err error) {
	u, err := s.Store.ByID(ctx, id)
	if err != nil {
		return 0, err
	}
	return s.Store.Delete(ctx, id, s.now(), noticeTo(u, mail.KindAccountDeleted))
}
