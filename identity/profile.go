package identity

import "context"

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
	ctx, leave, err := s.Hasher.enter(ctx, signedIn(id, from), nil)
	if err != nil {
		return 0, err
	}
	defer leave()
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return 0, err
	}
	return s.Store.SetPassword(ctx, id, u.PasswordVersion, hash, keep, s.now(), noticeTo(u, MailPasswordChanged))
}

// signedIn is a user in the queue whose token is good: no stranger is in their way.
func signedIn(id string, from Origin) visitor {
	return visitor{address: limitAddress(from.IP), account: id, known: true}
}

func (s *Service) confirmCurrent(ctx context.Context, u User, password string, from Origin) (err error) {
	g := s.guess(actionPassword, from, passwordSession.Of(from.Session))
	defer func() { g.settle(ctx, err) }()
	ctx, leave, err := s.Hasher.enter(ctx, signedIn(u.ID, from), g.take)
	if err != nil {
		return err
	}
	defer leave()
	_, err = s.confirm(ctx, u, password, from)
	return err
}

// Delete removes a user with all their personal data and ends all their
// sessions; it returns the number of that revocation. ErrNotFound.
func (s *Service) Delete(ctx context.Context, id string) (revocation int64, err error) {
	u, err := s.Store.ByID(ctx, id)
	if err != nil {
		return 0, err
	}
	return s.Store.Delete(ctx, id, s.now(), noticeTo(u, MailAccountDeleted))
}
