package identity

import (
	"context"
	"errors"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// Register creates a user who can sign in at once, without confirming the email address. It returns
// FieldErrors, ErrUsernameTaken or ErrEmailTaken.
func (s *Service) Register(ctx context.Context, n NewUser) (User, error) {
	if err := s.checkNewUser(n); err != nil {
		return User{}, err
	}
	if err := s.checkBreached(ctx, n.Password); err != nil {
		return User{}, err
	}
	// Store.Create checks the names too. This earlier check saves the expensive hash if a name is taken.
	if err := s.checkFree(ctx, s.Store.ByUsername, n.Username, ErrUsernameTaken); err != nil {
		return User{}, err
	}
	if err := s.checkFree(ctx, s.Store.ByEmail, n.Email, ErrEmailTaken); err != nil {
		return User{}, err
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

// RegisterByMail creates a user who can sign in after following the link in a mail. If the email address
// already has an account, RegisterByMail also returns nil, after as much time. The address then gets a mail
// about the attempt instead of the link, unless it got too many such mails recently. RegisterByMail returns
// FieldErrors, ErrUsernameTaken or ErrMailDisabled.
func (s *Service) RegisterByMail(ctx context.Context, n NewUser) error {
	if err := s.checkNewUser(n); err != nil {
		return err
	}
	if !s.MailEnabled {
		return ErrMailDisabled
	}
	// Check this before the lookups of the names. Otherwise the result could reveal which names are taken.
	if err := s.checkBreached(ctx, n.Password); err != nil {
		return err
	}
	if err := s.checkFree(ctx, s.Store.ByUsername, n.Username, ErrUsernameTaken); err != nil {
		return err
	}
	u, err := s.newUser(ctx, n, StatusPending)
	if err != nil {
		return err
	}
	// Hashing and Create also run for a taken email address. Otherwise the response would be quicker.
	verify := noticeTo(u, mail.KindVerifyEmail)
	err = s.Store.Create(ctx, u, s.stalePending(), &verify)
	if err != nil && !errors.Is(err, ErrEmailTaken) {
		return err
	}
	// Charge free email addresses too. Otherwise the remaining quota would reveal the taken addresses.
	mails := s.newCharge(limit.ActionReset, Fold(n.Email), Origin{IP: n.IP}, s.rules().MailTo(Fold(n.Email)))
	refused := mails.charge(ctx)
	if err == nil {
		return nil
	}
	owner, err := s.Store.ByEmail(ctx, n.Email)
	if err == nil {
		notice := noticeTo(owner, mail.KindAddressTaken)
		if refused != nil {
			// Queue a mail without a recipient, which is never sent. If no mail were queued, the quicker
			// response would reveal that the email address is taken.
			notice.To = ""
		}
		err = s.Store.Enqueue(ctx, notice, s.now())
	}
	if err != nil {
		mails.refund(ctx)
	}
	return err
}

// checkFree returns the given error taken if the function find returns a user with this name whose
// registration has not expired.
func (s *Service) checkFree(ctx context.Context, find func(context.Context, string) (User, error), name string, taken error) error {
	u, err := find(ctx, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err == nil && !registrationExpired(u, s.now()):
		return taken
	}
	return err
}

func (s *Service) checkNewUser(n NewUser) error {
	var errs FieldErrors
	errs.check("username", checkUsername(n.Username))
	errs.check("email", checkEmail(n.Email))
	errs.check("password", s.checkNewPassword(n.Password, contextWords(n.Username, n.Email)...))
	n.checkTexts(&errs)
	return errs.err()
}

func (s *Service) newUser(ctx context.Context, n NewUser, status Status) (User, error) {
	turn, err := s.Hasher.Enter(ctx, hashing.Visitor{Address: limit.Address(n.IP), Network: limit.Network(n.IP)}, nil)
	if err != nil {
		return User{}, err
	}
	defer turn.Leave()
	hash, err := turn.Hash(ctx, n.Password)
	if err != nil {
		return User{}, err
	}
	now := s.now()
	u := n.user()
	u.ID, u.Status, u.CreatedAt, u.UpdatedAt = s.NewID(), status, now, now
	u.PasswordHash, u.PasswordVersion = hash, 1
	return u, nil
}

// VerifyEmail confirms the email address that received the token. A user who was waiting for this
// confirmation can sign in from now on. It returns ErrInvalidToken if the token is unknown or expired.
func (s *Service) VerifyEmail(ctx context.Context, token string) error {
	return s.Store.VerifyEmail(ctx, hashToken(token), s.now())
}
