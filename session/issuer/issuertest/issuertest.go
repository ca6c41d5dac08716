// Package issuertest creates three replicas of an issuer on the same database and Redis for tests.
package issuertest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

// World has three replicas of an issuer on the same database and Redis, and one user.
type World struct {
	DB       *sqlstore.DB
	Replicas []*issuer.Manager
	User     issuer.Subject
}

// New returns a World on the database db and the Redis store.
func New(t *testing.T, db *sqlstore.DB, store *redisstore.Store) *World {
	t.Helper()
	key, err := session.GenerateKey(session.AlgEdDSA)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := session.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	w := &World{DB: db, User: AddUser(t, db)}
	for range 3 {
		w.Replicas = append(w.Replicas, &issuer.Manager{
			Verifier: session.Verifier{
				Keys: session.NewKeyring(keys), Issuer: "i", Audience: "a", Store: store, Now: time.Now,
				Fallback: &issuer.LedgerFallback{Store: store, Finder: db.Sessions(), Timeout: 10 * time.Second},
			},
			Store: store, Ledger: db.Sessions(), Log: slog.New(slog.DiscardHandler),
			AccessTTL: time.Hour, IdleTTL: 24 * time.Hour, MaxTTL: 48 * time.Hour, RefreshGrace: issuer.NoRefreshLimit,
		})
		w.Replicas[len(w.Replicas)-1].PollEpochs(t.Context())
	}
	return w
}

// AddUser creates a user whose password has version 1.
func AddUser(t *testing.T, db *sqlstore.DB) issuer.Subject {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	u := identity.User{
		ID: issuer.NewID(), Username: "u" + issuer.NewID(), Email: issuer.NewID() + "@example.com",
		PasswordVersion: 1, Status: identity.StatusActive, CreatedAt: now, UpdatedAt: now,
	}
	if err := db.Users().Create(t.Context(), u, now.Add(-time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	return issuer.Subject{ID: u.ID, CredentialVersion: u.PasswordVersion}
}

// Replica returns replica i modulo the number of replicas, so that a test can alternate between
// them.
func (w *World) Replica(i int) *issuer.Manager { return w.Replicas[i%len(w.Replicas)] }

// Start starts a session of the world's user at the first replica.
func (w *World) Start(t *testing.T) (issuer.TokenSet, issuer.Session) {
	t.Helper()
	set, s, err := w.Replicas[0].Start(t.Context(), w.User, issuer.Client{})
	if err != nil {
		t.Fatal(err)
	}
	return set, s
}
