package identity

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// RequestReset queues a mail with a link to set a new password. It returns FieldErrors or ErrMailDisabled.
// Only the sending of the mail looks up the user. So neither the result of RequestReset nor the time
// that it takes reveals whether the email address has an account.
func (s *Service) RequestReset(ctx context.Context, email string) (err error) {
	defer func() { s.finished(actionResetRequest, err) }()
	email = strings.TrimSpace(email)
	if err := s.checkReset(email); err != nil {
		return err
	}
	return s.queueReset(ctx, email)
}

func (s *Service) queueReset(ctx context.Context, email string) error {
	return s.Store.Enqueue(ctx, mail.Envelope{Kind: mail.KindPasswordReset, To: email}, s.now())
}

// RequestKnownReset is like RequestReset, but returns ErrNotFound if the email address has no account. It
// is only for callers who may learn which addresses have an account.
func (s *Service) RequestKnownReset(ctx context.Context, email string) (err error) {
	defer func() { s.finished(actionResetRequest, err) }()
	email = strings.TrimSpace(email)
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
	return s.queueReset(ctx, email)
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

// CheckReset returns the user whose password may be reset with a mailed token, or ErrInvalidToken. It does
// not use up the token.
func (s *Service) CheckReset(ctx context.Context, token string) (User, error) {
	return s.Store.TokenUser(ctx, PurposeReset, hashToken(token), s.now())
}

// Reset is the result of a completed password reset.
type Reset struct {
	User       User  // as it is after the reset, but with the old password
	Revocation int64 // id of the revocation of all the user's sessions
}

// CompleteReset sets the password of the user who received the token by mail. It uses up the token, revokes
// all the user's sessions, ends the device tokens and clears the rate limits on guesses at the old password.
// If username is not empty, it must be that user's username or email address: CompleteReset returns ErrNotFound if
// no user has it, and ErrInvalidToken if another user has it. It also returns FieldErrors.
func (s *Service) CompleteReset(ctx context.Context, username, token, password string, from Origin) (done Reset, err error) {
	defer func() { s.finished(actionReset, err) }()
	if err := invalidField("password", s.checkNewPassword(password)); err != nil {
		return done, err
	}
	var named User
	var unknownName error // returned after the lookup of the token; an earlier return would reveal an unknown username
	if username != "" {
		if named, unknownName = s.userByLogin(ctx, username); unknownName != nil && !errors.Is(unknownName, ErrNotFound) {
			return done, unknownName
		}
	}
	// Check the token before hashing the password. Otherwise each guessed token would cost a hash.
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
	// The client can read the user's mail. So it counts as a known device, and the queue of password
	// hashes serves it before unknown devices.
	turn, err := s.Hasher.Enter(ctx, hashing.Visitor{Address: u.ID, Network: limit.Network(from.IP), Account: u.ID, KnownDevice: true}, nil)
	if err != nil {
		return done, err
	}
	defer turn.Leave()
	hash, err := turn.Hash(ctx, password)
	if err != nil {
		return done, err
	}
	now := s.now()
	revocation, err := s.Store.ResetPassword(ctx, hashToken(token), u.ID, hash, now, noticeTo(u, mail.KindPasswordChanged))
	if err != nil {
		return done, err
	}
	s.clearGuesses(ctx, u, from)
	u.EmailVerifiedAt, u.PendingEmail, u.PendingEmailAt, u.Status = now, "", time.Time{}, StatusActive
	u.DeviceGeneration++ // no other reset came in between, because each reset deletes the tokens of the others
	return Reset{User: u, Revocation: revocation}, nil
}
