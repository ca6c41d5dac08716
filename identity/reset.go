package identity

import (
	"context"
	"errors"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/mail"
)

// RequestReset queues a mail with a link that lets its reader set a new
// password. Whether anybody has the address is found out when it is sent, so that
// neither the answer nor its time tells. FieldErrors, ErrMailDisabled.
func (s *Service) RequestReset(ctx context.Context, email string) error {
	if err := s.checkReset(email); err != nil {
		return err
	}
	return s.Store.Enqueue(ctx, mail.Envelope{Kind: mail.KindPasswordReset, To: email}, s.now())
}

// RequestKnownReset is RequestReset for a caller who may be told: ErrNotFound when
// nobody has this address.
func (s *Service) RequestKnownReset(ctx context.Context, email string) error {
	if err := s.checkReset(email); err != nil {
		return err
	}
	u, err := s.Store.ByEmail(ctx, email)
	if err != nil {
		return err
	}
	if lapsed(u, s.now()) {
		return ErrNotFound
	}
	return s.RequestReset(ctx, email)
}

func (s *Service) checkReset(email string) error {
	if err := invalidField("email", checkEmail(email)); err != nil {
		return err
	}
	if !s.MailEnabled {
		return ErrMailDisabled
	}
	return nil
}

// CheckReset tells whose password a mailed token may set. It uses nothing up.
// ErrInvalidToken.
func (s *Service) CheckReset(ctx context.Context, token string) (User, error) {
	return s.Store.TokenUser(ctx, PurposeReset, hashToken(token), s.now())
}

// Reset is a password reset that was completed: whose, and the number of the
// revocation that ended all their sessions.
type Reset struct {
	User       User
	Revocation int64
}

// CompleteReset sets the password of the user of a mailed token, uses the token
// up and ends all the user's sessions. Guesses at the old password no longer
// count. username may be empty; if not it must be the user's: ErrNotFound when nobody
// has it, ErrInvalidToken when somebody else does. FieldErrors.
func (s *Service) CompleteReset(ctx context.Context, username, token, password string, from Origin) (done Reset, err error) {
	if err := invalidField("password", s.checkNewPassword(password)); err != nil {
		return done, err
	}
	var named User
	var nobody error // told only after the token was looked at, or the time would tell
	switch {
	case username == "":
	case !storable(username):
		nobody = ErrNotFound
	default:
		if named, nobody = s.Store.ByUsername(ctx, username); nobody != nil && !errors.Is(nobody, ErrNotFound) {
			return done, nobody
		}
	}
	// The token is looked at before the hash is made: hashing for whoever asks
	// would be a gift to a flood of guesses.
	u, err := s.CheckReset(ctx, token)
	if nobody != nil && (err == nil || errors.Is(err, ErrInvalidToken)) {
		return done, nobody
	}
	if err != nil {
		return done, err
	}
	if username != "" && named.ID != u.ID {
		return done, ErrInvalidToken
	}
	if err := invalidField("password", s.checkNewPassword(password, contextWords(u.Username, u.Email)...)); err != nil {
		return done, err
	}
	if err := s.checkBreached(ctx, password); err != nil {
		return done, err
	}
	// Whoever reads the user's mail gets in while strangers fill the queue.
	turn, err := s.Hasher.Enter(ctx, hashing.Visitor{Address: u.ID, Account: u.ID, KnownDevice: true}, nil)
	if err != nil {
		return done, err
	}
	defer turn.Leave()
	hash, err := turn.Hash(ctx, password)
	if err != nil {
		return done, err
	}
	revocation, err := s.Store.ResetPassword(ctx, hashToken(token), u.ID, hash, s.now(), noticeTo(u, mail.KindPasswordChanged))
	if err != nil {
		return done, err
	}
	s.clearGuesses(ctx, u, from)
	return Reset{User: u, Revocation: revocation}, nil
}
