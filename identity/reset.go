package identity

import "context"

// RequestReset queues a mail with a link that lets its reader set a new
// password. FieldErrors, ErrMailDisabled, ErrNotFound when no user who can sign
// in has this address.
func (s *Service) RequestReset(ctx context.Context, email string) error {
	if err := invalidField("email", checkEmail(email)); err != nil {
		return err
	}
	if !s.MailEnabled {
		return ErrMailDisabled
	}
	u, err := s.Store.ByEmail(ctx, email)
	if err != nil {
		return err
	}
	if u.Status != StatusActive {
		return ErrNotFound
	}
	return s.Store.Enqueue(ctx, noticeTo(u, MailReset), s.now())
}

// CheckReset tells whose password a mailed token may set. It uses nothing up.
// ErrInvalidToken.
func (s *Service) CheckReset(ctx context.Context, token string) (User, error) {
	return s.Store.TokenUser(ctx, PurposeReset, hashToken(token), s.now())
}

// CompleteReset sets the password of the user of a mailed token, uses the token
// up and ends all the user's sessions; it returns the number of that revocation.
// Guesses at the old password no longer count. username may be empty; if not it must be the user's: ErrNotFound when nobody
// has it, ErrInvalidToken when somebody else does. FieldErrors.
func (s *Service) CompleteReset(ctx context.Context, username, token, password string, from Origin) (revocation int64, err error) {
	if err := invalidField("password", s.checkNewPassword(password)); err != nil {
		return 0, err
	}
	var named User
	if username != "" {
		if !storable(username) {
			return 0, ErrNotFound
		}
		if named, err = s.Store.ByUsername(ctx, username); err != nil {
			return 0, err
		}
	}
	// The token is looked at before the hash is made: hashing for whoever asks
	// would be a gift to a flood of guesses.
	u, err := s.CheckReset(ctx, token)
	if err != nil {
		return 0, err
	}
	if username != "" && named.ID != u.ID {
		return 0, ErrInvalidToken
	}
	if err := invalidField("password", s.checkNewPassword(password, contextWords(u.Username, u.Email)...)); err != nil {
		return 0, err
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return 0, err
	}
	revocation, err = s.Store.ResetPassword(ctx, hashToken(token), u.ID, hash, s.now(), noticeTo(u, MailPasswordChanged))
	if err == nil {
		s.forgive(ctx, u, from)
	}
	return revocation, err
}
