package session_test

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// rounds is how often a race is run: few times, or as often as its promise is
// made for when SESSIOND_TEST_LONG is 1.
func rounds(few, all int) int {
	if os.Getenv("SESSIOND_TEST_LONG") == "1" {
		return all
	}
	return few
}

// world is a few replicas on the same stores, with one user.
type world struct {
	db       *sqlstore.DB
	replicas []*session.Manager
	user     session.Subject
}

func (w *world) replica(i int) *session.Manager { return w.replicas[i%len(w.replicas)] }

func eachWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Run("embedded", func(t *testing.T) { f(t, newWorld(t, sqlstoretest.New(t), redisstoretest.New(t))) })
	t.Run("real", func(t *testing.T) { f(t, newWorld(t, sqlstoretest.NewPostgres(t), redisstoretest.NewReal(t))) })
}

func newWorld(t *testing.T, db *sqlstore.DB, store *redisstore.Store) *world {
	t.Helper()
	key, err := session.GenerateKey(session.AlgEdDSA)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := session.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{db: db, user: session.Subject{ID: addUser(t, db), CredentialVersion: 1}}
	for range 3 {
		w.replicas = append(w.replicas, &session.Manager{
			Verifier: session.Verifier{
				Keys: session.NewKeyring(keys), Issuer: "i", Audience: "a", Store: store, Now: time.Now,
				Fallback: &session.LedgerFallback{Store: store, Finder: db.Sessions(), Timeout: 10 * time.Second},
			},
			Ledger: db.Sessions(), Log: slog.New(slog.DiscardHandler),
			AccessTTL: time.Hour, IdleTTL: 24 * time.Hour, MaxTTL: 48 * time.Hour, RefreshGrace: time.Minute,
		})
	}
	return w
}

func addUser(t *testing.T, db *sqlstore.DB) (id string) {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	u := identity.User{
		ID: session.NewID(), Username: "u" + session.NewID(), Email: session.NewID() + "@example.com",
		PasswordVersion: 1, Status: identity.StatusActive, CreatedAt: now, UpdatedAt: now,
	}
	if err := db.Users().Create(t.Context(), u, now.Add(-time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	return u.ID
}

func (w *world) start(t *testing.T) (session.TokenSet, session.Session) {
	t.Helper()
	set, s, err := w.replicas[0].Start(t.Context(), w.user, session.Client{})
	if err != nil {
		t.Fatal(err)
	}
	return set, s
}

// Many clients refresh with one token at once: two tabs, a retry, a lost answer.
// All get the same successor, and nobody is signed out. Then a grandparent is
// replayed, and the whole family is dead on every replica.
func TestRefreshRace(t *testing.T) {
	const parallel = 200
	eachWorld(t, func(t *testing.T, w *world) {
		for round := range rounds(3, 1000) {
			first, _ := w.start(t)
			var mu sync.Mutex
			successors := map[string]int{}
			access := ""
			var wg sync.WaitGroup
			for i := range parallel {
				wg.Go(func() {
					set, _, err := w.replica(i).Refresh(t.Context(), first.RefreshToken)
					for errors.Is(err, session.ErrUnavailable) {
						// 200 on few connections: some wait too long, and a 503 leaves the token usable.
						set, _, err = w.replica(i).Refresh(t.Context(), first.RefreshToken)
					}
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						t.Errorf("round %d: %v", round, err)
						return
					}
					successors[set.RefreshToken]++
					access = set.AccessToken
				})
			}
			wg.Wait()
			if len(successors) != 1 {
				t.Fatalf("round %d: %d successors of one token", round, len(successors))
			}
			for next := range successors {
				if _, _, err := w.replica(1).Refresh(t.Context(), next); err != nil {
					t.Fatalf("round %d: the successor is refused: %v", round, err)
				}
			}
			for i, m := range w.replicas {
				if _, err := m.Verify(t.Context(), access); err != nil {
					t.Fatalf("round %d: replica %d refuses an honest user: %v", round, i, err)
				}
			}
			if _, _, err := w.replica(2).Refresh(t.Context(), first.RefreshToken); !errors.Is(err, session.ErrInvalidToken) {
				t.Fatalf("round %d: a grandparent was taken: %v", round, err)
			}
			for i, m := range w.replicas {
				if _, err := m.Verify(t.Context(), access); !errors.Is(err, session.ErrRevoked) {
					t.Fatalf("round %d: replica %d accepts a token of a stolen family: %v", round, i, err)
				}
			}
		}
	})
}

// End-all has answered, and a refresh was under way: nothing of it is alive.
func TestRefreshRacesEndAll(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for round := range rounds(50, 10000) {
			set, _ := w.start(t)
			var refreshed session.TokenSet
			var refreshErr error
			var wg sync.WaitGroup
			wg.Go(func() { refreshed, _, refreshErr = w.replica(round).Refresh(t.Context(), set.RefreshToken) })
			wg.Go(func() { _, _ = w.replica(round+1).Verify(t.Context(), set.AccessToken) })
			if _, err := w.replica(round+2).RevokeAll(t.Context(), w.user.ID, "", session.ReasonRevokedAll); err != nil {
				t.Fatal(err)
			}
			if _, err := w.replica(round).Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrRevoked) {
				t.Fatalf("round %d: a session outlives end-all: %v", round, err)
			}
			wg.Wait()
			if refreshErr == nil {
				if _, err := w.replica(round+1).Verify(t.Context(), refreshed.AccessToken); !errors.Is(err, session.ErrRevoked) {
					t.Fatalf("round %d: a refresh slipped past end-all: %v", round, err)
				}
			}
			if active, err := w.replicas[0].Active(t.Context(), w.user.ID, session.Page{}); err != nil || len(active) > 0 {
				t.Fatalf("round %d: %d sessions after end-all: %v", round, len(active), err)
			}
		}
	})
}

// A check that began before a revocation must not put back what it read.
func TestCheckRacesRevoke(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for round := range rounds(100, 10000) {
			set, s := w.start(t)
			var wg sync.WaitGroup
			for i := range 3 {
				wg.Go(func() { _, _ = w.replica(i).Verify(t.Context(), set.AccessToken) })
			}
			if _, err := w.replica(round).Revoke(t.Context(), w.user.ID, s.ID, session.ReasonRevoked); err != nil {
				t.Fatal(err)
			}
			for i, m := range w.replicas {
				if _, err := m.Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrRevoked) {
					t.Fatalf("round %d: replica %d accepts a revoked token: %v", round, i, err)
				}
			}
			wg.Wait()
			if _, err := w.replica(round+1).Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrRevoked) {
				t.Fatalf("round %d: a check put a revoked session back: %v", round, err)
			}
		}
	})
}

// Ending the others while the kept session is being checked signs it out at no moment.
func TestKeptSessionIsNeverRefused(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		kept, s := w.start(t)
		done := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					if _, err := w.replica(i).Verify(t.Context(), kept.AccessToken); err != nil {
						t.Errorf("the kept session is refused: %v", err)
						return
					}
				}
			})
		}
		for range rounds(100, 2000) {
			other, _ := w.start(t)
			if _, err := w.replicas[1].RevokeAll(t.Context(), w.user.ID, s.ID, session.ReasonRevokedOthers); err != nil {
				t.Error(err)
				break
			}
			if _, err := w.replicas[2].Verify(t.Context(), other.AccessToken); !errors.Is(err, session.ErrRevoked) {
				t.Errorf("another session outlives end-others: %v", err)
				break
			}
		}
		close(done)
		wg.Wait()
	})
}

// A hundred logins at once never leave more sessions than are allowed, whether
// those beyond are refused or take the place of the oldest.
func TestSessionCapIsExact(t *testing.T) {
	const limit, parallel = 5, 100
	eachWorld(t, func(t *testing.T, w *world) {
		for round := range rounds(4, 100) {
			endOldest := round%2 == 0
			for _, m := range w.replicas {
				m.MaxSessions, m.EndOldest = limit, endOldest
			}
			var mu sync.Mutex
			var tokens []string
			var wg sync.WaitGroup
			for i := range parallel {
				wg.Go(func() {
					set, _, err := w.replica(i).Start(t.Context(), w.user, session.Client{})
					for errors.Is(err, session.ErrUnavailable) {
						set, _, err = w.replica(i).Start(t.Context(), w.user, session.Client{})
					}
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						tokens = append(tokens, set.AccessToken)
					case endOldest || !errors.Is(err, session.ErrTooManySessions):
						t.Errorf("round %d: %v", round, err)
					}
				})
			}
			wg.Wait()
			alive := 0
			for i, token := range tokens {
				if _, err := w.replica(i).Verify(t.Context(), token); err == nil {
					alive++
				} else if !errors.Is(err, session.ErrRevoked) {
					t.Fatal(err)
				}
			}
			opened := limit
			if endOldest {
				opened = parallel
			}
			if alive != limit || len(tokens) != opened {
				t.Fatalf("round %d: %d sessions are alive of %d that were opened, %d are allowed", round, alive, len(tokens), limit)
			}
			if _, err := w.replicas[0].RevokeAll(t.Context(), w.user.ID, "", session.ReasonRevokedAll); err != nil {
				t.Fatal(err)
			}
		}
	})
}
