package identity

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// User returns the user with the given id, or ErrNotFound.
func (s *Service) User(ctx context.Context, id string) (User, error) {
	return s.Store.ByID(ctx, id)
}

// NewUser is a request to register. Only a hash of the password is stored.
type NewUser struct {
	Username, Email, Password, FirstName, LastName string
	IP                                             string // the address of the client
}

// checkTexts adds the problems of the first and last name to errs.
func (n *NewUser) checkTexts(errs *FieldErrors) {
	errs.check("first_name", checkText(n.FirstName))
	errs.check("last_name", checkText(n.LastName))
}

// user returns a User with the fields of n. The caller sets the other fields.
func (n *NewUser) user() User {
	return User{Username: n.Username, Email: n.Email, FirstName: n.FirstName, LastName: n.LastName}
}

// Profile is a change of a user's profile. Fields that are nil stay as they are.
type Profile struct {
	FirstName, LastName, Email *string
}

// check adds the problems of the names to errs.
func (p Profile) check(errs *FieldErrors) {
	if p.FirstName != nil {
		errs.check("first_name", checkText(*p.FirstName))
	}
	if p.LastName != nil {
		errs.check("last_name", checkText(*p.LastName))
	}
}

// String lists the fields that change.
func (p Profile) String() string {
	var names []string
	for name, field := range map[string]*string{"first_name": p.FirstName, "last_name": p.LastName, "email": p.Email} {
		if field != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// UpdateProfile changes a user's profile and returns the updated user. Another email address becomes the
// pending one: it gets a link that confirms it, and the present address one that undoes the change. It
// returns FieldErrors, ErrNotFound, ErrEmailTaken, or ErrLimited in a [RetryError].
func (s *Service) UpdateProfile(ctx context.Context, id string, p Profile, from Origin) (User, error) {
	var errs FieldErrors
	p.check(&errs)
	if p.Email != nil {
		p.Email = new(strings.TrimSpace(*p.Email))
		errs.check("email", s.checkNewEmail(*p.Email))
	}
	if err := errs.err(); err != nil {
		return User{}, err
	}
	mails := s.newCharge(limit.ActionConfirm, id, from, s.rules().EmailChange.Of(id))
	if p.Email != nil {
		u, err := s.Store.ByID(ctx, id)
		if err == nil && *p.Email != u.Email {
			err = mails.charge(ctx)
		}
		if err != nil {
			return User{}, err
		}
	}
	u, err := s.Store.Update(ctx, id, p, s.now())
	// ErrEmailTaken stays charged. Otherwise a user could find out about any number of addresses.
	if err != nil && !errors.Is(err, ErrEmailTaken) {
		mails.refund(ctx)
	}
	return u, err
}

// Delete removes a user with all personal data, revokes all sessions of the user and returns the id of the
// revocation. It returns ErrNotFound if there is no such user.
func (s *Service) Delete(ctx context.Context, id string) (revocation int64, err error) {
	u, err := s.Store.ByID(ctx, id)
	if err != nil {
		return 0, err
	}
	return s.Store.Delete(ctx, id, s.now(), noticeTo(u, mail.KindAccountDeleted))
}
