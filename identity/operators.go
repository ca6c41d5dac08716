package identity

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/identity/mail"
)

// The functions in this file are for operators, who act on the accounts of others. The context says who
// does it; see package audit.

// Account is an account that an operator creates. Nobody knows its password.
type Account struct {
	Username, Email, FirstName, LastName string
	Roles                                []string
	Invite                               bool // mail a link to set a password
}

// CreateAccount creates an active user. Reserved names and other domains are allowed. It returns FieldErrors,
// ErrUsernameTaken, ErrEmailTaken, or ErrMailDisabled if it cannot send the invitation.
func (s *Service) CreateAccount(ctx context.Context, a Account) (User, error) {
	a.Email = strings.TrimSpace(a.Email)
	var errs FieldErrors
	errs.check("username", checkUsername(a.Username))
	errs.check("email", checkEmail(a.Email))
	errs.check("first_name", checkText(a.FirstName))
	errs.check("last_name", checkText(a.LastName))
	errs.check("roles", checkRoles(a.Roles))
	if err := errs.err(); err != nil {
		return User{}, err
	}
	if a.Invite && !s.MailEnabled {
		return User{}, ErrMailDisabled
	}
	// Without a hash, a login at this account would be refused sooner than at others.
	u, err := s.newUser(ctx, NewUser{Username: a.Username, Email: a.Email, Password: newToken(), FirstName: a.FirstName, LastName: a.LastName}, StatusActive)
	if err != nil {
		return User{}, err
	}
	u.Roles = joinRoles(a.Roles)
	var invitation *mail.Envelope
	if a.Invite {
		invitation = &mail.Envelope{Kind: mail.KindInvitation, UserID: u.ID, To: u.Email}
	}
	return u, s.Store.Create(ctx, u, s.stalePending(), invitation)
}

// joinRoles returns the names sorted, without duplicates, and separated by commas.
func joinRoles(names []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), ",")
}

// FindUsers returns users whose username or, if the text contains an @, whose email address begins with the
// text, or the user whose id the text is. It also returns the query, whose Key leads to the next page. It returns
// FieldErrors if there is no such status.
func (s *Service) FindUsers(ctx context.Context, text string, q UserQuery) ([]User, UserQuery, error) {
	switch q.Status {
	case "", StatusPending, StatusActive, StatusSuspended, StatusDeleted:
	default:
		return nil, q, invalidField("status", &problem{CodeInvalid, "must be pending, active, suspended or deleted"})
	}
	text = strings.TrimSpace(text)
	if q.Prefix = Fold(text); strings.Contains(text, "@") {
		q.Prefix = FoldEmail(text)
	}
	if text != "" && !storable(text) {
		return nil, q, nil
	}
	if text != "" && q.After == (UserKey{}) {
		u, err := s.Store.ByID(ctx, text)
		switch {
		case err == nil:
			hasRole := q.Role == "" || slices.Contains(strings.Split(u.Roles, ","), q.Role)
			if !hasRole || q.Status != "" && q.Status != u.Status {
				return nil, q, nil
			}
			return []User{u}, q, nil
		case !errors.Is(err, ErrNotFound):
			return nil, q, err
		}
	}
	users, err := s.Store.Find(ctx, q)
	return users, q, err
}

// UpdateAccount changes the names, roles and claims of a user. Once the caller has enforced the revocation,
// every check of the user's tokens returns the new roles and claims. The revocation is 0 if they have not
// changed. UpdateAccount returns FieldErrors or ErrNotFound.
func (s *Service) UpdateAccount(ctx context.Context, id string, p Profile, change AttributeChange) (revocation int64, err error) {
	var errs FieldErrors
	p.check(&errs)
	change.check(&errs)
	if err := errs.err(); err != nil {
		return 0, err
	}
	if p.FirstName != nil || p.LastName != nil {
		if _, err := s.Store.Update(ctx, id, Profile{FirstName: p.FirstName, LastName: p.LastName}, s.now()); err != nil {
			return 0, err
		}
	}
	return s.Store.SetAttributes(ctx, id, change, s.now())
}

// Suspend locks an account: its user cannot sign in, and all sessions end once the caller has enforced the
// revocation. It returns ErrNotFound, or ErrNotActive for a registration that is not confirmed.
func (s *Service) Suspend(ctx context.Context, id string) (revocation int64, err error) {
	return s.Store.Suspend(ctx, id, s.now())
}

// Reinstate lets a suspended user sign in again. It returns the errors of Suspend.
func (s *Service) Reinstate(ctx context.Context, id string) error {
	return s.Store.Reinstate(ctx, id, s.now())
}

// SendReset mails a user a link to set a new password, without regard to the rate limits. It returns
// ErrNotFound or ErrMailDisabled, or FieldErrors if the user has no email address.
func (s *Service) SendReset(ctx context.Context, id string) error {
	u, err := s.Store.ByID(ctx, id)
	if err != nil {
		return err
	}
	if !s.MailEnabled {
		return ErrMailDisabled
	}
	if u.Email == "" {
		return invalidField("email", &problem{CodeRequired, "the user has no email address"})
	}
	return s.Store.Enqueue(ctx, mail.Envelope{Kind: mail.KindPasswordReset, UserID: u.ID, To: u.Email}, s.now())
}

// CheckReason returns FieldErrors if the text is not fit to be the reason of an act.
func CheckReason(text string) error { return invalidField("reason", checkText(text)) }
