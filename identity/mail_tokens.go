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

// IssueToken implements [mail.TokenIssuer].
func (s *Service) IssueToken(ctx context.Context, e mail.Envelope) (mail.Token, error) {
	if e.Kind == mail.KindPasswordReset {
		u, err := s.resetRecipient(ctx, e.To)
		if err != nil {
			return mail.Token{}, err
		}
		// To the mail server, another spelling that folds to the same address may be a different person.
		return s.issueToken(ctx, u, u.Email, PurposeReset, cmp.Or(s.ResetTTL, defaultResetTTL))
	}
	u, err := s.verifyRecipient(ctx, e)
	if err != nil {
		return mail.Token{}, err
	}
	return s.issueToken(ctx, u, e.To, PurposeVerify, pendingTTL)
}

// resetRecipient returns the user who has the address. The user may be pending: the person who
// reads the mail confirms the address by it, and somebody else may have chosen the password.
func (s *Service) resetRecipient(ctx context.Context, address string) (User, error) {
	u, err := s.Store.ByEmail(ctx, address)
	if errors.Is(err, ErrNotFound) || err == nil && lapsed(u, s.now()) {
		return User{}, unwanted("nobody has the address")
	}
	return u, err
}

// verifyRecipient returns the user whose address the mail asks to confirm.
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

// issueToken makes a token for a mail to that address and stores its hash.
func (s *Service) issueToken(ctx context.Context, u User, to string, purpose Purpose, ttl time.Duration) (mail.Token, error) {
	secret, now := newToken(), s.now()
	err := s.Store.IssueToken(ctx, u.ID, to, purpose, hashToken(secret), now.Add(ttl), now)
	if errors.Is(err, ErrNotFound) {
		err = unwanted("the user is gone or has another address now")
	}
	if err != nil {
		return mail.Token{}, err
	}
	return mail.Token{Secret: secret, Lifetime: ttl, To: to, Name: u.Username}, nil
}

func unwanted(why string) error { return fmt.Errorf("%w: %s", mail.ErrUnwanted, why) }

// newToken returns a secret to mail: 43 URL-safe characters, 256 random bits.
func newToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// hashToken returns the hash by which the store knows a mailed secret.
func hashToken(token string) TokenHash { return sha256.Sum256([]byte(token)) }
