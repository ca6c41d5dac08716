package identity

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// Register creates a user who can sign in at once, and mails a link that confirms the email address. It
// returns FieldErrors, ErrUsernameTaken or ErrEmailTaken.
func (s *Service) Register(ctx context.Context, n NewUser) (_ User, err error) {
	defer func() { s.finished(actionRegistration, err) }()
	n.Email = strings.TrimSpace(n.Email)
	if err := s.checkNewUser(n); err != nil {
		return User{}, err
	}
	if err := s.checkBreached(ctx, n.Password); err != nil {
		return User{}, err
	}
	// Store.Create checks the names too. This earlier check saves the expensive hash if a name is taken.
	if u, err := s.Store.ByUsername(ctx, n.Username); err == nil && !registrationExpired(u, s.now()) {
		return User{}, ErrUsernameTaken
	} else if err != nil && !errors.Is(err, ErrNotFound) {
		return User{}, err
	}
	// A pending user does not have the email address yet. Otherwise a stranger could block the address.
	if u, err := s.Store.ByEmail(ctx, n.Email); err == nil && u.Status != StatusPending {
		return User{}, ErrEmailTaken
	} else if err != nil && !errors.Is(err, ErrNotFound) {
		return User{}, err
	}
	u, err := s.newUser(ctx, n, StatusActive)
	if err != nil {
		return User{}, err
	}
	var notice *mail.Envelope
	mails := s.newRegistrationCharge(n)
	if s.MailEnabled && mails.charge(ctx) == nil {
		notice = new(confirmation(u, u.Email))
	}
	if err := s.Store.Create(ctx, u, s.stalePending(), notice); err != nil {
		mails.refund(ctx)
		return User{}, err
	}
	return u, nil
}

// RegisterByMail creates a user who can sign in after following the link in a mail. A client whose mail was
// lost gets another link if it registers again with the same data. If another user has confirmed the email
// address, RegisterByMail also returns nil, after as much time. The address then gets a mail about the
// attempt instead of the link. Too many requests of one client send no mail. RegisterByMail returns
// FieldErrors, ErrUsernameTaken, ErrMailDisabled, or ErrLimited in a [RetryError].
func (s *Service) RegisterByMail(ctx context.Context, n NewUser) (err error) {
	defer func() { s.finished(actionRegistration, err) }()
	n.Email = strings.TrimSpace(n.Email)
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
	switch u, err := s.Store.ByUsername(ctx, n.Username); {
	case err == nil && !registrationExpired(u, s.now()):
		return s.registerAgain(ctx, n, u)
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	}
	u, err := s.newUser(ctx, n, StatusPending)
	if err != nil {
		return err
	}
	// Hashing, Create and the limit also run for a taken email address. Otherwise the response would be
	// quicker, or the remaining quota would reveal the address.
	mails, verify := s.newRegistrationCharge(n), confirmation(u, u.Email)
	refused := mails.charge(ctx) != nil
	if refused {
		verify.To = "" // this mail is queued and never sent
	}
	err = s.Store.Create(ctx, u, s.stalePending(), &verify)
	if errors.Is(err, ErrEmailTaken) {
		var owner User
		if owner, err = s.Store.ByEmail(ctx, n.Email); err == nil {
			notice := noticeTo(owner, mail.KindAddressTaken)
			if refused {
				notice.To = ""
			}
			err = s.Store.Enqueue(ctx, notice, s.now())
		}
	}
	if err != nil {
		mails.refund(ctx)
	}
	return err
}

// newRegistrationCharge returns the charge of a registration to the limit on mails that its client may
// request for the email address.
func (s *Service) newRegistrationCharge(n NewUser) *charge {
	email := FoldEmail(n.Email)
	return s.newCharge(limit.ActionConfirm, email, Origin{IP: n.IP}, s.rules().Confirm(n.IP, email))
}

// registerAgain mails another link to the user u, who has the username that n wants, if n is the
// registration of u, which waits for its confirmation. Otherwise it returns ErrUsernameTaken. A wrong
// password counts as a guess.
func (s *Service) registerAgain(ctx context.Context, n NewUser, u User) error {
	if u.Status != StatusPending {
		return ErrUsernameTaken
	}
	account := Fold(u.Username)
	guess := s.newCharge(limit.ActionLogin, account, Origin{IP: n.IP}, s.rules().Login(account, "", n.IP)...)
	turn, err := s.Hasher.Enter(ctx, hashing.Visitor{Address: limit.Address(n.IP), Network: limit.Network(n.IP)}, guess.charge)
	if err != nil {
		guess.refund(ctx)
		return err
	}
	defer turn.Leave()
	ok, _, err := turn.Verify(ctx, u.PasswordHash, n.Password)
	switch {
	case err != nil:
		guess.refund(ctx)
		return err
	case !ok:
		return ErrUsernameTaken
	}
	guess.refund(ctx)
	if FoldEmail(n.Email) != FoldEmail(u.Email) {
		return ErrUsernameTaken
	}
	mails := s.newRegistrationCharge(n)
	if mails.charge(ctx) != nil {
		return nil
	}
	if err := s.Store.Enqueue(ctx, confirmation(u, u.Email), s.now()); err != nil {
		mails.refund(ctx)
		return err
	}
	return nil
}

func (s *Service) checkNewUser(n NewUser) error {
	if s.RegistrationClosed {
		return ErrRegistrationClosed
	}
	var errs FieldErrors
	errs.check("username", s.checkNewUsername(n.Username))
	errs.check("email", s.checkNewEmail(n.Email))
	errs.check("password", s.checkNewPassword(n.Password, contextWords(n.Username, n.Email)...))
	n.checkTexts(&errs)
	return errs.err()
}

// checkNewEmail accepts the email addresses that a user may have.
func (s *Service) checkNewEmail(address string) *problem {
	if p := checkEmail(address); p != nil || len(s.Domains) == 0 {
		return p
	}
	domain := func(address string) string { _, d, _ := cutEmail(FoldEmail(address)); return d }
	if !slices.ContainsFunc(s.Domains, func(d string) bool { return domain("@"+d) == domain(address) }) {
		return &problem{CodeDomain, "addresses of this domain cannot be used here"}
	}
	return nil
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
