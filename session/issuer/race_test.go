package issuer_test

import (
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/issuertest"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// rounds returns how many times a test repeats a race. The environment variable SESSIOND_TEST_LONG
// selects the larger number.
func rounds(few, all int) int {
	if os.Getenv("SESSIOND_TEST_LONG") == "1" {
		return all
	}
	return few
}

// eachWorld runs a test twice: with SQLite and an embedded Redis, and with real servers of Postgres
// and Redis.
func eachWorld(t *testing.T, f func(t *testing.T, w *issuertest.World)) {
	t.Run("embedded", func(t *testing.T) { f(t, issuertest.New(t, sqlstoretest.New(t), redisstoretest.New(t))) })
	t.Run("real", func(t *testing.T) { f(t, issuertest.New(t, sqlstoretest.NewPostgres(t), redisstoretest.NewReal(t))) })
}

// Clients refresh with the same token at once because of two tabs, a retry or a lost reply. All of
// them get the same new refresh token, and nobody is signed out. Then the old token is used a
// second time, and every replica refuses the whole session.
func TestRefresh_RacingClientsGetTheSameNewToken_ASVS_V2_3_4(t *testing.T) {
	const parallel = 200
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		for round := range rounds(3, 1000) {
			first, _ := w.Start(t)
			var mu sync.Mutex
			successors := map[string]int{}
			access := ""
			var wg sync.WaitGroup
			for i := range parallel {
				wg.Go(func() {
					set, _, err := w.Replica(i).Refresh(t.Context(), first.RefreshToken)
					for errors.Is(err, session.ErrUnavailable) {
						// 200 clients share few database connections, so some requests get a 503.
						// The refresh token stays usable after a 503, so the client tries again.
						set, _, err = w.Replica(i).Refresh(t.Context(), first.RefreshToken)
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
				t.Fatalf("round %d: %d successors of one token, want 1", round, len(successors))
			}
			for next := range successors {
				if _, _, err := w.Replica(1).Refresh(t.Context(), next); err != nil {
					t.Fatalf("round %d: the successor was refused: %v", round, err)
				}
			}
			for i, m := range w.Replicas {
				if _, err := m.Verify(t.Context(), access); err != nil {
					t.Fatalf("round %d: replica %d refused an honest user: %v", round, i, err)
				}
			}
			if _, _, err := w.Replica(2).Refresh(t.Context(), first.RefreshToken); !errors.Is(err, session.ErrInvalidToken) {
				t.Fatalf("round %d: a token that was replaced twice was accepted: %v", round, err)
			}
			for i, m := range w.Replicas {
				if _, err := m.Verify(t.Context(), access); !errors.Is(err, session.ErrRevoked) {
					t.Fatalf("round %d: replica %d accepted a token of the stolen family: %v", round, i, err)
				}
			}
		}
	})
}

// A refresh that runs at the same time as RevokeAll must not leave an active session.
func TestRevokeAll_RacingRefreshLeavesNoActiveSession(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		for round := range rounds(50, 10000) {
			set, _ := w.Start(t)
			var refreshed issuer.TokenSet
			var refreshErr error
			var wg sync.WaitGroup
			wg.Go(func() { refreshed, _, refreshErr = w.Replica(round).Refresh(t.Context(), set.RefreshToken) })
			wg.Go(func() { _, _ = w.Replica(round+1).Verify(t.Context(), set.AccessToken) })
			if _, err := w.Replica(round+2).RevokeAll(t.Context(), w.User.ID, "", issuer.ReasonRevokedAll); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Replica(round).Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrRevoked) {
				t.Fatalf("round %d: a session outlived RevokeAll: %v", round, err)
			}
			wg.Wait()
			if refreshErr == nil {
				if _, err := w.Replica(round+1).Verify(t.Context(), refreshed.AccessToken); !errors.Is(err, session.ErrRevoked) {
					t.Fatalf("round %d: a refresh outlived RevokeAll: %v", round, err)
				}
			}
			if active, err := w.Replicas[0].Active(t.Context(), w.User.ID, issuer.Page{}); err != nil || len(active) > 0 {
				t.Fatalf("round %d: %d active sessions after RevokeAll: %v", round, len(active), err)
			}
		}
	})
}

// A check that read the ledger before a revocation must not write the session to the store as
// active.
func TestRevoke_RacingCheckDoesNotUndoRevocation(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		for round := range rounds(100, 10000) {
			set, s := w.Start(t)
			var wg sync.WaitGroup
			for i := range 3 {
				wg.Go(func() { _, _ = w.Replica(i).Verify(t.Context(), set.AccessToken) })
			}
			if _, err := w.Replica(round).Revoke(t.Context(), w.User.ID, s.ID, issuer.ReasonRevoked); err != nil {
				t.Fatal(err)
			}
			for i, m := range w.Replicas {
				if _, err := m.Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrRevoked) {
					t.Fatalf("round %d: replica %d accepted a revoked token: %v", round, i, err)
				}
			}
			wg.Wait()
			if _, err := w.Replica(round+1).Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrRevoked) {
				t.Fatalf("round %d: a check backfilled a revoked session: %v", round, err)
			}
		}
	})
}

// The kept session is checked all the time while RevokeAll revokes the user's other sessions.
func TestRevokeAll_KeptSessionIsNeverRefused(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		kept, s := w.Start(t)
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
					if _, err := w.Replica(i).Verify(t.Context(), kept.AccessToken); err != nil {
						t.Errorf("the kept session was refused: %v", err)
						return
					}
				}
			})
		}
		for range rounds(100, 2000) {
			other, _ := w.Start(t)
			if _, err := w.Replicas[1].RevokeAll(t.Context(), w.User.ID, s.ID, issuer.ReasonRevokedOthers); err != nil {
				t.Error(err)
				break
			}
			if _, err := w.Replicas[2].Verify(t.Context(), other.AccessToken); !errors.Is(err, session.ErrRevoked) {
				t.Errorf("another session outlived RevokeAll: %v", err)
				break
			}
		}
		close(done)
		wg.Wait()
	})
}

// A hundred logins at once never exceed the session limit, whether a login beyond the limit is
// refused or ends the oldest session.
func TestStart_RacingLoginsNeverExceedSessionLimit_ASVS_V2_3_4(t *testing.T) {
	const limit, parallel = 5, 100
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		for round := range rounds(4, 100) {
			endOldest := round%2 == 0
			for _, m := range w.Replicas {
				m.MaxSessions, m.EndOldest = limit, endOldest
			}
			var mu sync.Mutex
			var tokens []string
			var wg sync.WaitGroup
			for i := range parallel {
				wg.Go(func() {
					set, _, err := w.Replica(i).Start(t.Context(), w.User, issuer.Client{})
					for errors.Is(err, session.ErrUnavailable) {
						set, _, err = w.Replica(i).Start(t.Context(), w.User, issuer.Client{})
					}
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						tokens = append(tokens, set.AccessToken)
					case endOldest || !errors.Is(err, issuer.ErrTooManySessions):
						t.Errorf("round %d: %v", round, err)
					}
				})
			}
			wg.Wait()
			active := 0
			for i, token := range tokens {
				if _, err := w.Replica(i).Verify(t.Context(), token); err == nil {
					active++
				} else if !errors.Is(err, session.ErrRevoked) {
					t.Fatal(err)
				}
			}
			opened := limit
			if endOldest {
				opened = parallel
			}
			if active != limit || len(tokens) != opened {
				t.Fatalf("round %d: %d of %d opened sessions are active, want %d", round, active, len(tokens), limit)
			}
			if _, err := w.Replicas[0].RevokeAll(t.Context(), w.User.ID, "", issuer.ReasonRevokedAll); err != nil {
				t.Fatal(err)
			}
		}
	})
}
