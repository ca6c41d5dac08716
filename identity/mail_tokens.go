package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/identity/mail"
)

const defaultResetTTL = 10 * time.Minute

var _ mail.TokenIssuer = (*Service)(nil)

// IssueToken implements [mail.TokenIssuer]. It returns the token for a reset or for the confirmation of
// an address.
func (s *Service) IssueToken(ctx context.Context, e mail.Envelope) (mail.Token, error) {
	purpose, ttl, find := PurposeVerify, registrationTTL, s.verifyRecipient
	if e.Kind == mail.KindPasswordReset {
		purpose, ttl, find = PurposeReset, cmp.Or(s.ResetTTL, defaultResetTTL), s.resetRecipient
	}
	u, err := find(ctx, e)
	if err != nil {
		return mail.Token{}, err
	}
	if e.Kind == mail.KindPasswordReset {
		// Another spelling with the same folded form may be a different person to the mail server.
		e.To = u.Email
	}
	secret, now := newToken(), s.now()
	err = s.Store.IssueToken(ctx, u.ID, e.To, purpose, hashToken(secret), now.Add(ttl), now)
	if errors.Is(err, ErrNotFound) {
		err = unwanted("the user is gone or has another address now")
	}
	if err != nil {
		return mail.Token{}, err
	}
	return mail.Token{Secret: secret, Lifetime: ttl, To: e.To, Name: u.Username}, nil
}

// resetRecipient returns the user with the address of a reset. The user may be pending: the person who
// reads the mail confirms the address by that, and somebody else may have chosen the password.
func (s *Service) resetRecipient(ctx context.Context, e mail.Envelope) (User, error) {
	u, err := s.Store.ByEmail(ctx, e.To)
	if errors.Is(err, ErrNotFound) || err == nil && registrationExpired(u, s.now()) {
		return User{}, unwanted("nobody has the address")
	}
	return u, err
}

// verifyRecipient returns the user whose address is to be confirmed.
func (s *Service) verifyRecipient(ctx context.Context, e mail.Envelope) (User, error) {
	u, err := s.Store.ByID(ctx, e.UserID)
	switch {
	case errors.Is(err, ErrNotFound):
		return User{}, unwanted("the user is gone")
	case err != nil:
		return User{}, err
	case Fold(u.Email) != Fold(e.To):
		return User{}, unwanted("the user has another address now")
	case !u.EmailVerifiedAt.IsZero():
		return User{}, unwanted("the address is verified already")
	}
	return u, nil
}

func unwanted(why string) error { return fmt.Errorf("%w: %s", mail.ErrUnwanted, why) }

// newToken returns a secret to mail: 43 URL-safe characters with 256 random bits.
func newToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// hashToken returns the hash under which the store keeps a mailed secret.
func hashToken(token string) TokenHash { return sha256.Sum256([]byte(token)) }
