package clients

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/sessiond/sessiond/identity/hashing"
)

// Scope is what a client may do.
type Scope string

// These are the scopes.
const (
	Introspect Scope = "introspect"
	AdminRead  Scope = "admin:read"
	AdminWrite Scope = "admin:write" // includes AdminRead
)

// Scopes are all scopes.
var Scopes = []Scope{Introspect, AdminRead, AdminWrite}

// Hash is the SHA-256 of a secret. A fast hash is enough, because the secrets are random.
type Hash [sha256.Size]byte

// Client is a machine client. Times are in UTC. A zero time means never.
type Client struct {
	ID         string
	Scopes     []Scope
	SecretHash Hash
	// Previous is the hash of the secret before the last rotation, which is good until PreviousUntil.
	Previous      Hash
	PreviousUntil time.Time
	CreatedAt     time.Time
	RotatedAt     time.Time
	RevokedAt     time.Time
}

// May reports whether the client has a scope.
func (c *Client) May(s Scope) bool {
	return slices.Contains(c.Scopes, s) || s == AdminRead && slices.Contains(c.Scopes, AdminWrite)
}

// accepts reports whether a secret is the client's.
func (c *Client) accepts(h Hash, now time.Time) bool {
	current := subtle.ConstantTimeCompare(c.SecretHash[:], h[:]) == 1
	previous := subtle.ConstantTimeCompare(c.Previous[:], h[:]) == 1 && now.Before(c.PreviousUntil)
	return (current || previous) && c.RevokedAt.IsZero()
}

var (
	// ErrUnknown means that there is no such client, that its secret is another one, or that it was revoked.
	ErrUnknown = errors.New("no such client, or a wrong secret")
	// ErrNotFound means that no client has the id.
	ErrNotFound = errors.New("there is no such client")
	// ErrTaken means that another client has the id, or had it before it was revoked.
	ErrTaken = errors.New("a client has or had this id")
	// ErrUnavailable means that the database did not answer.
	ErrUnavailable = hashing.ErrUnavailable
)

// Store stores clients. If the database fails, a method returns [ErrUnavailable].
type Store interface {
	// Clients returns all clients in the order of their ids, revoked ones too.
	Clients(ctx context.Context) ([]Client, error)
	// AddClient adds a client, or returns ErrTaken.
	AddClient(ctx context.Context, c Client) error
	// RotateClient replaces the secret. It returns ErrNotFound if there is no such client or it was revoked.
	RotateClient(ctx context.Context, id string, secret Hash, previousUntil, at time.Time) error
	// RevokeClient revokes a client. It returns ErrNotFound if there is no such client or it was revoked.
	RevokeClient(ctx context.Context, id string, at time.Time) error
}

var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// CheckID returns an error if a text cannot be the id of a client.
func CheckID(id string) error {
	if !validID.MatchString(id) {
		return errors.New("an id has 1 to 64 letters, digits, dots, dashes or underscores")
	}
	return nil
}

// ParseScopes checks the names of scopes.
func ParseScopes(names []string) ([]Scope, error) {
	var scopes []Scope
	for _, name := range names {
		if !slices.Contains(Scopes, Scope(name)) {
			return nil, fmt.Errorf("unknown scope %q: want some of %v", name, Scopes)
		}
		scopes = append(scopes, Scope(name))
	}
	if len(scopes) == 0 {
		return nil, fmt.Errorf("want some of %v", Scopes)
	}
	return slices.Compact(slices.Sorted(slices.Values(scopes))), nil
}

// NewSecret returns a new secret of 52 letters and digits with 260 random bits.
func NewSecret() string { return rand.Text() + rand.Text() }

// HashOf returns the hash of a secret.
func HashOf(secret string) Hash { return sha256.Sum256([]byte(secret)) }
