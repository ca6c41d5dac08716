package identity

import (
	"context"
	"errors"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// NewUser is what a person registers with. The password is not stored.
type NewUser struct {
	Username, Email, Password, FirstName, LastName string
	IP                                             string // the client's address
}

// Register creates a user who can sign in at once. It returns FieldErrors, ErrUsernameTaken or
// ErrEmailTaken.
func (s *Service) Register(ctx context.Context, n NewUser) (User, error) {
	if err := s.checkNewUser(n); err != nil {
		return User{}, err
	}
	if err := s.checkBreached(ctx, n.Password); err != nil {
		return User{}, err
	}
	// Store.Create decides in the end. Looking first saves the expensive hash if a name is taken.
	if free, err := s.available(s.Store.ByUsername(ctx, n.Username)); err != nil {
		return User{}, err
	} else if !free {
		return User{}, ErrUsernameTaken
	}
	if free, err := s.available(s.Store.ByEmail(ctx, n.Email)); err != nil {
		return User{}, err
	} else if !free {
		return User{}, ErrEmailTaken
	}
	u, err := s.newUser(ctx, n, StatusActive)
	if err != nil {
		return User{}, err
	}
	if err := s.Store.Create(ctx, u, s.stalePending(), nil); err != nil {
		return User{}, err
	}
	return u, nil
}

// RegisterByMail creates a user who can sign in after following the link in a mail. If the address has an
// account already, its owner gets a mail about the attempt, unless the address has had too many mails.
// The caller gets the same result after the same work. It returns FieldErrors, ErrUsernameTaken or
// ErrMailDisabled.
func (s *Service) RegisterByMail(ctx context.Context, n NewUser) error {
	if err := s.checkNewUser(n); err != nil {
		return err
	}
	if !s.MailEnabled {
		return ErrMailDisabled
	}
	// This comes before the lookups, so that its result reveals nothing about them.
	if err := s.checkBreached(ctx, n.Password); err != nil {
		return err
	}
	if free, err := s.available(s.Store.ByUsername(ctx, n.Username)); err != nil {
		return err
	} else if !free {
		return ErrUsernameTaken
	}
	u, err := s.newUser(ctx, n, StatusPending)
	if err != nil {
		return err
	}
	// This also runs if the address is taken, because that case must take as much work.
	verify := noticeTo(u, mail.KindVerifyEmail)
	err = s.Store.Create(ctx, u, s.stalePending(), &verify)
	if err != nil && !errors.Is(err, ErrEmailTaken) {
		return err
	}
	// A free address is charged too. Otherwise the quota would reveal which addresses are taken.
	mails := s.newCharge(limit.ActionReset, Origin{}, limit.MailTo(Fold(n.Email)))
	refused := mails.charge(ctx)
	if err == nil {
		return nil
	}
	if err = s.tellOwner(ctx, n.Email, refused == nil); err != nil {
		mails.refund(ctx)
	}
	return err
}

// tellOwner queues the mail about an attempt to register an address. If send is false, it queues the mail
// without a recipient, and the mail is dropped later. Queueing none would be quicker, which would reveal
// that the address is taken.
func (s *Service) tellOwner(ctx context.Context, email string, send bool) error {
	owner, err := s.Store.ByEmail(ctx, email)
	if err != nil {
		return err
	}
	notice := noticeTo(owner, mail.KindAddressTaken)
	if !send {
		notice.To = ""
	}
	return s.Store.Enqueue(ctx, notice, s.now())
}

func (s *Service) checkNewUser(n NewUser) error {
	var errs FieldErrors
	errs.check("username", checkUsername(n.Username))
	errs.check("email", checkEmail(n.Email))
	errs.check("password", s.checkNewPassword(n.Password, contextWords(n.Username, n.Email)...))
	errs.check("first_name", checkText(n.FirstName))
	errs.check("last_name", checkText(n.LastName))
	return errs.err()
}

func (s *Service) newUser(ctx context.Context, n NewUser, status Status) (User, error) {
	turn, err := s.Hasher.Enter(ctx, hashing.Visitor{Address: limit.Address(n.IP)}, nil)
	if err != nil {
		return User{}, err
	}
	defer turn.Leave()
	hash, err := turn.Hash(ctx, n.Password)
	if err != nil {
		return User{}, err
	}
	now := s.now()
	return User{
		ID:              s.NewID(),
		Username:        n.Username,
		Email:           n.Email,
		FirstName:       n.FirstName,
		LastName:        n.LastName,
		PasswordHash:    hash,
		PasswordVersion: 1,
		Status:          status,
		CreatedAt:       now,
		UpdatedAt:       now,
	}, nil
}

// VerifyEmail confirms the address of a mailed token and makes a pending user active. It returns
// ErrInvalidToken.
func (s *Service) VerifyEmail(ctx context.Context, token string) error {
	return s.Store.VerifyEmail(ctx, hashToken(token), s.now())
}
