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

// Authenticate verifies a password. The parameter login is a username or, if it contains an @, an email
// address.
//
// It returns ErrWrongPassword if the password is wrong or the user's email address is not confirmed yet. A
// separate error would tell a person who registers somebody else's address whether its owner confirmed it.
// It returns ErrSuspended only if the password is right, because a stranger must not learn that the account
// exists. It returns ErrNotFound if there is no such user, after as much time as for a wrong password. Both
// failures are recorded. The login name of an unknown user is not recorded, because people type passwords
// into that field. After too many failures, Authenticate returns ErrLimited in a [RetryError].
func (s *Service) Authenticate(ctx context.Context, login, password string, from Origin) (_ User, err error) {
	account, device := foldLogin(login), s.recognizeDevice(from.DeviceToken, login)
	charge := s.newCharge(limit.ActionLogin, account, from)
	defer func() {
		charge.settle(ctx, err)
		s.finished(actionLogin, err)
	}()
	visitor := hashing.Visitor{Address: limit.Address(from.IP), Network: limit.Network(from.IP), Account: account, KnownDevice: device.id != ""}
	var u User
	turn, err := s.Hasher.Enter(ctx, visitor, func(ctx context.Context) (err error) {
		if device.id != "" { // only the user's row says whether a reset has ended the device token since
			if u, err = s.userByLogin(ctx, login); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			if u.ID == "" || u.DeviceGeneration != device.generation {
				device.id = ""
			}
		}
		charge.keys = s.rules().Login(account, device.id, from.IP)
		return charge.charge(ctx)
	})
	if err != nil {
		return User{}, err
	}
	defer turn.Leave()

	if u.ID == "" {
		u, err = s.userByLogin(ctx, login)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return User{}, s.refuseUnknown(ctx, turn, password, from)
	case err != nil:
		return User{}, err
	}
	return s.authenticate(ctx, turn, u, password, from)
}

// Reauthenticate verifies the password of a signed-in user. It returns ErrNotFound, ErrWrongPassword, or
// ErrLimited in a [RetryError].
func (s *Service) Reauthenticate(ctx context.Context, id, password string, from Origin) (_ User, err error) {
	charge := s.newCharge(limit.ActionPassword, id, from, s.rules().Password(from.Session)...)
	defer func() { charge.settle(ctx, err) }()
	turn, err := s.Hasher.Enter(ctx, signedIn(id, from), charge.charge)
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

// signedIn describes a signed-in user to the queue of password hashes. The user counts as a known device,
// so that a flood of requests from unknown devices does not delay the user.
func signedIn(id string, from Origin) hashing.Visitor {
	return hashing.Visitor{Address: limit.Address(from.IP), Network: limit.Network(from.IP), Account: id, KnownDevice: true}
}

func (s *Service) userByLogin(ctx context.Context, login string) (User, error) {
	switch {
	case !storable(login):
		return User{}, ErrNotFound
	case strings.ContainsRune(login, '@'):
		return s.Store.ByEmail(ctx, login)
	default:
		return s.Store.ByUsername(ctx, strings.TrimSpace(login))
	}
}

// authenticate verifies the password of the user u. If u may sign in, it also replaces an outdated hash.
func (s *Service) authenticate(ctx context.Context, turn *hashing.Turn, u User, password string, from Origin) (User, error) {
	rehash, err := s.verifyPassword(ctx, turn, u, password, from)
	if err != nil {
		return User{}, err
	}
	switch u.Status {
	case StatusActive:
	case StatusSuspended:
		return User{}, s.refuse(ctx, u.ID, "suspended", from, ErrSuspended)
	default:
		return User{}, s.refuse(ctx, u.ID, "unverified", from, ErrWrongPassword)
	}
	turn.Succeeded()
	if rehash {
		s.rehash(ctx, turn, &u, password)
	}
	return u, nil
}

// verifyPassword returns ErrWrongPassword and records a failed login if the password is not the user's. The
// result rehash reports whether the stored hash is outdated, for example because of its cost.
func (s *Service) verifyPassword(ctx context.Context, turn *hashing.Turn, u User, password string, from Origin) (rehash bool, err error) {
	ok := false
	if plausible(password) {
		ok, rehash, err = turn.Verify(ctx, u.PasswordHash, password)
	} else {
		err = turn.VerifyNobody(ctx, "")
	}
	if err == nil && !ok {
		err = s.refuse(ctx, u.ID, "wrong_password", from, ErrWrongPassword)
	}
	return rehash, err
}

// refuseUnknown returns ErrNotFound, after as much time as the check of a wrong password takes.
func (s *Service) refuseUnknown(ctx context.Context, turn *hashing.Turn, password string, from Origin) error {
	if !plausible(password) {
		password = ""
	}
	if err := turn.VerifyNobody(ctx, password); err != nil {
		return err
	}
	return s.refuse(ctx, "", "unknown_user", from, ErrNotFound)
}

// errUnrecorded means that a login failed and that the failure could not be recorded. The login is charged
// to the rate limits like any wrong password.
var errUnrecorded = errors.New("the failed login could not be recorded")

// refuse records a failed login and returns the given error refusal. If the login cannot be recorded, refuse
// returns errUnrecorded instead. Otherwise an attacker could learn the result of an unrecorded guess.
func (s *Service) refuse(ctx context.Context, userID, reason string, from Origin, refusal error) error {
	now := s.now()
	err := s.Store.RecordAttempt(ctx, Attempt{
		ID: s.NewTimedID(now), UserID: userID, IP: from.IP, UserAgent: from.UserAgent, Device: from.Device, Reason: reason, At: now,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errUnrecorded, err)
	}
	return refusal
}

// rehash replaces an outdated hash by a new hash of the same, verified password. If that fails, the login
// still succeeds.
func (s *Service) rehash(ctx context.Context, turn *hashing.Turn, u *User, password string) {
	hash, err := turn.Hash(ctx, password)
	if err == nil {
		err = s.Store.Rehash(ctx, u.ID, u.PasswordHash, hash)
	}
	if err != nil {
		s.Log.WarnContext(ctx, "the outdated password hash was not replaced; the next login tries again",
			slog.String("user", u.ID), slog.Any("error", err))
		return
	}
	u.PasswordHash = hash
}
