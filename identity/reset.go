package identity

import (
	"context"
	"errors"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/mail"
)

// RequestReset queues a mail with a link to set a new password. The user is looked up when the mail is
// sent, so neither the result nor its time reveals whether the address has an account. It returns
// FieldErrors or ErrMailDisabled.
func (s *Service) RequestReset(ctx context.Context, email string) error {
	if err := s.checkReset(email); err != nil {
		return err
	}
	return s.Store.Enqueue(ctx, mail.Envelope{Kind: mail.KindPasswordReset, To: email}, s.now())
}

// RequestKnownReset is RequestReset for callers who may learn whether the address has an account. It
// returns ErrNotFound if not.
func (s *Service) RequestKnownReset(ctx context.Context, email string) error {
	if err := s.checkReset(email); err != nil {
		return err
	}
	u, err := s.Store.ByEmail(ctx, email)
	if err != nil {
		return err
	}
	if registrationExpired(u, s.now()) {
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

// CheckReset returns the user whose password a mailed token may set. It does not use up the token. It
// returns ErrInvalidToken.
func (s *Service) CheckReset(ctx context.Context, token string) (User, error) {
	return s.Store.TokenUser(ctx, PurposeReset, hashToken(token), s.now())
}

// Reset is a completed password reset: its user, and the number of the revocation that ended all their
// sessions.
type Reset struct {
	User       User
	Revocation int64
}

// CompleteReset sets the password of a mailed token's user, uses up the token, ends all the user's
// sessions and clears the guesses at the old password. If username is given, it must be that user's:
// CompleteReset returns ErrNotFound if nobody has it, and ErrInvalidToken if somebody else does. It also
// returns FieldErrors.
func (s *Service) CompleteReset(ctx context.Context, username, token, password string, from Origin) (done Reset, err error) {
	if err := invalidField("password", s.checkNewPassword(password)); err != nil {
		return done, err
	}
	var named User
	var unknownName error // returned after the token's lookup; otherwise the time would reveal it
	switch {
	case username == "":
	case !storable(username):
		unknownName = ErrNotFound
	default:
		if named, unknownName = s.Store.ByUsername(ctx, username); unknownName != nil && !errors.Is(unknownName, ErrNotFound) {
			return done, unknownName
		}
	}
	// The token is checked before anything is hashed. Otherwise guessed tokens would cost us hashes.
	u, err := s.CheckReset(ctx, token)
	switch {
	case unknownName != nil && (err == nil || errors.Is(err, ErrInvalidToken)):
		return done, unknownName
	case err != nil:
		return done, err
	case username != "" && named.ID != u.ID:
		return done, ErrInvalidToken
	}
	if err := invalidField("password", s.checkNewPassword(password, contextWords(u.Username, u.Email)...)); err != nil {
		return done, err
	}
	if err := s.checkBreached(ctx, password); err != nil {
		return done, err
	}
	// The client reads the user's mail, so strangers who fill the queue must not delay it.
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
