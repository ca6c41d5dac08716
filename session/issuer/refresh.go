package issuer

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// A refresh token is the secret of its session's family, followed by a secret
// of its own. The ledger keeps the hashes of the family, of the current token
// and of the one before. Whoever knows the family's secret has held a token of
// it: a token of the family that is neither of the two is an older one, used
// again. So every older token is recognised at a constant cost in storage, and
// nobody who merely knows the session's id can pretend to one.
const (
	familyBytes  = 16
	secretBytes  = 32
	refreshBytes = familyBytes + secretBytes
)

type refreshToken [refreshBytes]byte

func newRefreshToken() refreshToken {
	var t refreshToken
	rand.Read(t[:])
	return t
}

func parseRefreshToken(s string) (refreshToken, bool) {
	var t refreshToken
	if len(s) != base64.RawURLEncoding.EncodedLen(refreshBytes) {
		return t, false // decoding would skip line breaks
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != refreshBytes {
		return t, false
	}
	return refreshToken(b), true
}

func (t refreshToken) String() string { return base64.RawURLEncoding.EncodeToString(t[:]) }
func (t refreshToken) hash() Hash     { return sha256.Sum256(t[:]) }
func (t refreshToken) family() Hash   { return sha256.Sum256(t[:familyBytes]) }

// successor makes the next token of the family.
func (t refreshToken) successor() refreshToken {
	next := newRefreshToken()
	copy(next[:familyBytes], t[:familyBytes])
	return next
}

// aead seals under a key that only the holder of t can make. The nonce is fixed
// since the key seals one message: t has one successor.
func (t refreshToken) aead() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, t[:], nil, "sessiond refresh successor", 32)
	if err != nil {
		return nil, fmt.Errorf("session: derive successor key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("session: successor cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

func (t refreshToken) seal(next refreshToken) ([]byte, error) {
	aead, err := t.aead()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, make([]byte, aead.NonceSize()), next[familyBytes:], nil), nil //nolint:gosec // G407: see aead
}

func (t refreshToken) open(sealed []byte) (refreshToken, error) {
	aead, err := t.aead()
	if err != nil {
		return t, err
	}
	secret, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed, nil)
	if err != nil || len(secret) != secretBytes {
		return t, errors.New("session: sealed successor does not open")
	}
	return refreshToken(bytes.Join([][]byte{t[:familyBytes], secret}, nil)), nil
}

// theftMail is the kind of the mail that tells a user of a stolen token.
const theftMail = "token_theft"

// Refresh exchanges a refresh token for a new token set (RFC 6749 section 6,
// rotated as RFC 9700 section 4.14 asks). The token that was just replaced gets
// the same successor again for RefreshGrace, while that one is unused, and time in
// which the ledger was away does not count; any older token ends the session.
// session.ErrInvalidToken for a token that is unknown, expired, ended or too old;
// session.ErrUnavailable leaves the token usable.
func (m *Manager) Refresh(ctx context.Context, token string) (TokenSet, Session, error) {
	presented, ok := parseRefreshToken(token)
	if !ok {
		return TokenSet{}, Session{}, invalid("refresh token is malformed")
	}
	now := m.Now()
	next := presented.successor()
	stolen := false

	s, revocation, err := m.Ledger.Rotate(ctx, presented.family(), func(r Rotatable) (Rotation, error) {
		stolen = false
		if r.StatusAt(now) != StatusActive {
			return Rotation{}, invalid("session has ended")
		}
		rotation := Rotation{
			TokenID: NewID(), At: now, ExpiresAt: earlier(now.Add(m.IdleTTL), r.MaxExpiresAt),
			Current: r.Current, Previous: r.Previous, Sealed: r.Sealed, RotatedAt: r.RotatedAt,
		}
		switch hash := presented.hash(); {
		case hash == r.Current:
			next = presented.successor()
			sealed, err := presented.seal(next)
			if err != nil {
				return Rotation{}, err
			}
			rotation.Current, rotation.Previous = next.hash(), hash
			rotation.Sealed, rotation.RotatedAt = sealed, now
		case hash == r.Previous && m.inGrace(r.RotatedAt, now):
			again, err := presented.open(r.Sealed)
			if err != nil {
				return Rotation{}, err
			}
			next = again
		default:
			stolen = true
			return Rotation{End: &Ending{At: now, Reason: ReasonTokenTheft, By: BySystem}, Notify: theftMail}, nil
		}
		rotation.AccessExpiresAt = m.accessExpiry(now, rotation.ExpiresAt)
		return rotation, nil
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return TokenSet{}, Session{}, invalid("refresh token is unknown")
	case err != nil:
		return TokenSet{}, Session{}, fmt.Errorf("issuer.Refresh: %w", err)
	case stolen:
		m.Log.WarnContext(ctx, "refresh token used after its successor; session ended", "session", s.ID, "subject", s.Subject)
		if err := m.enforce(ctx, *revocation); err != nil {
			return TokenSet{}, Session{}, err
		}
		return TokenSet{}, Session{}, invalid("refresh token was used before")
	}
	set, err := m.tokens(&s, now)
	if err != nil {
		return TokenSet{}, Session{}, err
	}
	set.RefreshToken = next.String()
	return set, s, nil
}

// inGrace tells whether an answer of that time may be had again. While the ledger
// is away nobody can ask, and that must not make a thief of who lost the answer to
// it: then the grace begins when it is back.
func (m *Manager) inGrace(rotated, now time.Time) bool {
	return now.Before(rotated.Add(m.RefreshGrace)) || m.outage.hid(rotated, now, m.RefreshGrace)
}

// RevokeRefresh ends the session of a refresh token (RFC 7009). A token of no
// session is no error; found tells whether there was one.
func (m *Manager) RevokeRefresh(ctx context.Context, token string) (found bool, err error) {
	presented, ok := parseRefreshToken(token)
	if !ok {
		return false, nil
	}
	end := Ending{At: m.Now(), Reason: ReasonLogout, By: ByUser}
	_, revocation, err := m.Ledger.Rotate(ctx, presented.family(), func(Rotatable) (Rotation, error) {
		return Rotation{End: &end}, nil
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return true, fmt.Errorf("issuer.RevokeRefresh: %w", err)
	}
	return true, m.enforce(ctx, *revocation)
}
