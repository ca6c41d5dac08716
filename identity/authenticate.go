package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
)

// Why a login failed, as the history tells it.
const (
	reasonWrongPassword = "wrong_password"
	reasonUnverified    = "unverified"
	reasonUnknownUser   = "unknown_user"
)

// Authenticate verifies the password of the user of that username, or of that
// email when there is an @ in it. ErrNotFound when there is none, after the
// time of a verification and recorded like one: people type passwords into the
// field of the name, so without it. ErrWrongPassword, which is recorded; also for a user
// whose address is not confirmed yet, so that the answer tells nothing to whoever
// registered somebody else's address. ErrLimited, as a [RetryError], when there
// were too many of those.
func (s *Service) Authenticate(ctx context.Context, login, password string, from Origin) (_ User, err error) {
	device := s.knownDevice(from.DeviceToken, login)
	c := s.newCharge(limit.ActionLogin, from, limit.Login(Fold(login), device, from.IP)...)
	defer func() { c.settle(ctx, err) }()
	visitor := hashing.Visitor{Address: limit.Address(from.IP), Account: Fold(login), KnownDevice: device != ""}
	turn, err := s.Hasher.Enter(ctx, visitor, c.charge)
	if err != nil {
		return User{}, err
	}
	defer turn.Leave()
	u, err := s.lookUp(ctx, login)
	if errors.Is(err, ErrNotFound) {
		if err := verifyNobody(ctx, turn, password); err != nil {
			return User{}, err
		}
		if err := s.recordAttempt(ctx, "", reasonUnknownUser, from); err != nil {
			return User{}, err
		}
		return User{}, ErrNotFound
	}
	if err != nil {
		return User{}, err
	}
	return s.authenticate(ctx, turn, u, password, from)
}

// Reauthenticate verifies the password of a user who is signed in. ErrNotFound,
// ErrWrongPassword, ErrLimited as a [RetryError].
func (s *Service) Reauthenticate(ctx context.Context, id, password string, from Origin) (_ User, err error) {
	c := s.newCharge(limit.ActionPassword, from, limit.Password(from.Session)...)
	defer func() { c.settle(ctx, err) }()
	turn, err := s.Hasher.Enter(ctx, signedIn(id, from), c.charge)
	if err != nil {
		return User{}, err
	}
	defer turn.Leave()
	u, err := s.Store.ByID(ctx, id)
	if err != nil {
		return User{}, err
	}
	return s.authenticate(ctx, turn, u, password, from)
}

func (s *Service) lookUp(ctx context.Context, login string) (User, error) {
	switch {
	case !storable(login):
		return User{}, ErrNotFound
	case strings.ContainsRune(login, '@'):
		return s.Store.ByEmail(ctx, login)
	default:
		return s.Store.ByUsername(ctx, login)
	}
}

func (s *Service) authenticate(ctx context.Context, turn *hashing.Turn, u User, password string, from Origin) (User, error) {
	rehash, err := s.confirm(ctx, turn, u, password, from)
	if err != nil {
		return User{}, err
	}
	if u.Status != StatusActive {
		return User{}, s.refuse(ctx, u, reasonUnverified, from)
	}
	if rehash {
		s.rehash(ctx, turn, &u, password)
	}
	return u, nil
}

// confirm verifies that the password is the user's. ErrWrongPassword, which is
// recorded.
func (s *Service) confirm(ctx context.Context, turn *hashing.Turn, u User, password string, from Origin) (rehash bool, err error) {
	ok := false
	if plausible(password) {
		ok, rehash, err = turn.Verify(ctx, u.PasswordHash, password)
	} else {
		err = verifyNobody(ctx, turn, password)
	}
	switch {
	case err != nil:
		return false, err
	case !ok:
		return false, s.refuse(ctx, u, reasonWrongPassword, from)
	}
	return rehash, nil
}

// verifyNobody spends the time of a verification on a password that is not
// hashed when no user can have it.
func verifyNobody(ctx context.Context, turn *hashing.Turn, password string) error {
	if !plausible(password) {
		password = ""
	}
	return turn.VerifyNobody(ctx, password)
}

// errUnrecorded comes with the error that kept a wrong password from being
// recorded. It was a guess all the same.
var errUnrecorded = errors.New("wrong password, not recorded")

// refuse records a failed login and returns ErrWrongPassword. What cannot be
// recorded is not answered: guesses would go unseen.
func (s *Service) refuse(ctx context.Context, u User, reason string, from Origin) error {
	if err := s.recordAttempt(ctx, u.ID, reason, from); err != nil {
		return err
	}
	return ErrWrongPassword
}

func (s *Service) recordAttempt(ctx context.Context, userID, reason string, from Origin) error {
	now := s.now()
	err := s.Store.RecordAttempt(ctx, Attempt{
		ID:        s.NewTimedID(now),
		UserID:    userID,
		IP:        from.IP,
		UserAgent: from.UserAgent,
		Device:    from.Device,
		Reason:    reason,
		At:        now,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errUnrecorded, err)
	}
	return nil
}

// rehash replaces the hash of a password that was just verified by one of the
// current form. The login succeeds without it, too.
func (s *Service) rehash(ctx context.Context, turn *hashing.Turn, u *User, password string) {
	hash, err := turn.Hash(ctx, password)
	if err == nil {
		err = s.Store.Rehash(ctx, u.ID, u.PasswordHash, hash)
	}
	if err != nil {
		s.Log.WarnContext(ctx, "the password was not re-hashed; the next login tries again",
			slog.String("user", u.ID), slog.Any("error", err))
		return
	}
	u.PasswordHash = hash
}
