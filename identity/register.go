package identity

import (
	"context"
	"errors"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// NewUser is what somebody registers with. The password is kept nowhere.
type NewUser struct {
	Username, Email, Password, FirstName, LastName string
	IP                                             string // address of who registers
}

// Register makes a user who can sign in at once. FieldErrors, ErrUsernameTaken,
// ErrEmailTaken.
func (s *Service) Register(ctx context.Context, n NewUser) (User, error) {
	if err := s.checkNewUser(n); err != nil {
		return User{}, err
	}
	if err := s.checkBreached(ctx, n.Password); err != nil {
		return User{}, err
	}
	// Create has the last word; looking first keeps the hash, which is dear,
	// for names that are to be had.
	if free, err := s.free(s.Store.ByUsername(ctx, n.Username)); err != nil {
		return User{}, err
	} else if !free {
		return User{}, ErrUsernameTaken
	}
	if free, err := s.free(s.Store.ByEmail(ctx, n.Email)); err != nil {
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

// RegisterByMail makes a user who can sign in once they have followed the link
// mailed to them. If the address has an account already, its owner is told of
// the attempt by mail, as far as the limit of mails to an address allows, and the
// caller gets the same answer after the same work.
// FieldErrors, ErrUsernameTaken, ErrMailDisabled.
func (s *Service) RegisterByMail(ctx context.Context, n NewUser) error {
	if err := s.checkNewUser(n); err != nil {
		return err
	}
	if !s.MailEnabled {
		return ErrMailDisabled
	}
	// Asked before the names are looked at, so that it tells nothing of them.
	if err := s.checkBreached(ctx, n.Password); err != nil {
		return err
	}
	if free, err := s.free(s.Store.ByUsername(ctx, n.Username)); err != nil {
		return err
	} else if !free {
		return ErrUsernameTaken
	}
	u, err := s.newUser(ctx, n, StatusPending)
	if err != nil {
		return err
	}
	// Tried also for an address that is taken, which is as much work as a free one.
	verify := noticeTo(u, mail.KindVerifyEmail)
	err = s.Store.Create(ctx, u, s.stalePending(), &verify)
	if err != nil && !errors.Is(err, ErrEmailTaken) {
		return err
	}
	// Also for a free address, or how many mails are left to it would tell.
	notice := s.newCharge(limit.ActionReset, Origin{}, limit.MailTo(Fold(n.Email)))
	refused := notice.charge(ctx)
	if err == nil {
		return nil
	}
	if err = s.tellOwner(ctx, n.Email, refused == nil); err != nil {
		notice.refund(ctx)
	}
	return err
}

// tellOwner queues the mail that somebody tried to register an address. One that is
// not to be sent is queued to nobody, and dropped: to leave it out would be quicker,
// and tell that the address is taken.
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

// VerifyEmail confirms the address of a mailed token and makes a pending user
// active. ErrInvalidToken.
func (s *Service) VerifyEmail(ctx context.Context, token string) error {
	return s.Store.VerifyEmail(ctx, hashToken(token), s.now())
}
