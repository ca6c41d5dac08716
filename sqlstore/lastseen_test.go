package sqlstore_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// startSessions adds a user and starts n sessions of this user.
func startSessions(t *testing.T, db *sqlstore.DB, n int) (subject string, list []issuer.Session) {
	t.Helper()
	subject = addUser(t, db)
	for range n {
		started, _, err := db.Sessions().Start(t.Context(), newStart(subject, 1, longAgo))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, started)
	}
	return subject, list
}

func usesOf(list []issuer.Session, at time.Time) []issuer.Use {
	uses := make([]issuer.Use, len(list))
	for i, s := range list {
		uses[i] = issuer.Use{SessionID: s.ID, At: at}
	}
	return uses
}

func lastSeen(t *testing.T, db *sqlstore.DB, s issuer.Session) time.Time {
	t.Helper()
	record, err := db.Sessions().Find(t.Context(), s.Subject, s.ID, longAgo)
	if err != nil {
		t.Fatal(err)
	}
	return record.LastSeenAt
}

// TestTouch_SkipsLockedSession touches five sessions while a refresh has locked one of them. Touch
// must not wait for the locked session. It must write a session that only a foreign key has locked.
func TestTouch_SkipsLockedSession(t *testing.T) {
	t.Parallel()
	db := sqlstoretest.NewPostgres(t)
	_, list := startSessions(t, db, 5)
	at := longAgo.Add(time.Hour)
	rotated, _, err := db.Sessions().Rotate(t.Context(), sha256.Sum256([]byte(list[2].ID)), func(r issuer.Rotatable) (issuer.Rotation, error) {
		// If Touch waited for the lock, it would time out, because this function holds the lock.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := db.Sessions().Touch(ctx, usesOf(list, at)); err != nil {
			t.Error(err)
		}
		for i, s := range list {
			want := at
			if i == 2 {
				want = longAgo
			}
			if got := lastSeen(t, db, s); !got.Equal(want) {
				t.Errorf("session %d was last seen at %v, want %v", i, got, want)
			}
		}
		return issuer.Rotation{At: at.Add(-time.Second), AccessExpiresAt: r.AccessExpiresAt, ExpiresAt: r.ExpiresAt, Current: r.Current}, nil
	})
	if err != nil || !rotated.LastSeenAt.Equal(at.Add(-time.Second)) {
		t.Errorf("the refreshed session was last seen at %v (%v)", rotated.LastSeenAt, err)
	}

	// Revoking a token locks its session FOR KEY SHARE, because of the foreign key. Touch must not
	// skip this session.
	tx, err := db.SQL().BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // the rollback only releases the lock
	if _, err := tx.ExecContext(t.Context(), `SELECT 1 FROM sessions WHERE id = $1 FOR KEY SHARE`, list[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := db.Sessions().Touch(t.Context(), usesOf(list[:1], at.Add(time.Hour))); err != nil {
		t.Error(err)
	}
	if got := lastSeen(t, db, list[0]); !got.Equal(at.Add(time.Hour)) {
		t.Errorf("a session that is locked FOR KEY SHARE was last seen at %v, want %v", got, at.Add(time.Hour))
	}
}

// guardTouches adds a database trigger that counts the writes of last_seen_at. The trigger refuses
// a write to an ended session, and a second write within a minute.
func guardTouches(t *testing.T, db *sqlstore.DB) {
	t.Helper()
	for _, text := range []string{
		`CREATE TABLE touches (session_id TEXT NOT NULL)`,
		`CREATE FUNCTION guard_touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF OLD.ended_at IS NOT NULL THEN RAISE EXCEPTION 'an ended session was touched'; END IF;
			IF NEW.last_seen_at < OLD.last_seen_at + interval '1 minute' THEN RAISE EXCEPTION 'touched twice in a minute'; END IF;
			INSERT INTO touches VALUES (OLD.id);
			RETURN NEW;
		END $$`,
		`CREATE TRIGGER guard_touch BEFORE UPDATE OF last_seen_at ON sessions
			FOR EACH ROW WHEN (OLD.token_id = NEW.token_id AND OLD.last_seen_at <> NEW.last_seen_at)
			EXECUTE FUNCTION guard_touch()`,
	} {
		if _, err := db.SQL().ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
}

func touches(t *testing.T, db *sqlstore.DB) (n int) {
	t.Helper()
	if err := db.SQL().GetContext(t.Context(), &n, `SELECT count(*) FROM touches`); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTouch_WritesEachSessionOncePerMinute calls Touch concurrently for the same sessions, as many
// replicas would. Each session must be written once per minute.
func TestTouch_WritesEachSessionOncePerMinute(t *testing.T) {
	t.Parallel()
	const sessions, replicas, minutes = 50, 8, 5
	db := sqlstoretest.NewPostgres(t)
	guardTouches(t, db)
	_, list := startSessions(t, db, sessions)
	for minute := 1; minute <= minutes; minute++ {
		var group sync.WaitGroup
		for i := range replicas {
			group.Go(func() {
				for round := range 5 {
					// All times of one iteration of the outer loop are within 20 seconds. The next
					// iteration begins two minutes later, so that Touch has to write again.
					at := longAgo.Add(time.Duration(2*minute)*time.Minute + time.Duration(5*i+round)*500*time.Millisecond)
					if err := db.Sessions().Touch(t.Context(), usesOf(list, at)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if got := touches(t, db); got != minute*sessions {
			t.Fatalf("%d sessions were written %d times in %d minutes, want %d", sessions, got, minute, minute*sessions)
		}
	}
}

// TestTouch_CausesNoDeadlock calls Touch with many sessions while the same sessions are refreshed,
// revoked one by one and revoked all together.
func TestTouch_CausesNoDeadlock(t *testing.T) {
	t.Parallel()
	const users, perUser, rounds = 3, 40, 3
	rawURL := sqlstoretest.PostgresURL(t)
	// In a deadlock, Postgres rolls back the transaction with the shortest deadlock_timeout. This
	// is Touch, because Touch does not retry. A deadlock therefore makes the test fail.
	others := open(t, withDeadlockTimeout(t, rawURL, "1min"), sqlstore.Options{QueryTimeout: time.Minute, MaxConns: 10})
	if err := others.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	guardTouches(t, others)
	toucher := open(t, withDeadlockTimeout(t, rawURL, "5ms"), sqlstore.Options{QueryTimeout: time.Minute, MaxConns: 5})

	var clock, touched, slowest atomic.Int64 // clock counts minutes since longAgo
	now := func() time.Time { return longAgo.Add(time.Duration(clock.Load()) * time.Minute) }
	for round := range rounds {
		var list []issuer.Session
		subjects := make([]string, users)
		for i := range subjects {
			var own []issuer.Session
			subjects[i], own = startSessions(t, others, perUser)
			list = append(list, own...)
		}
		clock.Store(1)
		ctx, stop := context.WithCancel(t.Context())
		var touching, group sync.WaitGroup
		for range 3 {
			touching.Go(func() {
				uses := usesOf(list, longAgo)
				for ctx.Err() == nil {
					rand.Shuffle(len(uses), func(i, j int) { uses[i], uses[j] = uses[j], uses[i] })
					at := longAgo.Add(time.Duration(clock.Add(1)) * time.Minute)
					for i := range uses {
						uses[i].At = at
					}
					began := time.Now()
					if err := toucher.Sessions().Touch(t.Context(), uses); err != nil {
						t.Errorf("round %d: %v", round, err)
						return
					}
					slowest.Store(max(slowest.Load(), int64(time.Since(began))))
					touched.Add(1)
				}
			})
		}
		for i, subject := range subjects {
			own := list[i*perUser : (i+1)*perUser]
			group.Go(func() {
				for _, s := range own[:perUser/2] {
					if err := refresh(t.Context(), others, s, now()); err != nil && !errors.Is(err, issuer.ErrNotFound) {
						t.Errorf("round %d: refresh: %v", round, err)
					}
				}
			})
			group.Go(func() {
				for _, s := range own[perUser/2 : perUser*3/4] {
					end := issuer.Ending{At: now(), Reason: issuer.ReasonLogout, By: issuer.ByUser}
					if _, _, err := others.Sessions().Revoke(t.Context(), subject, s.ID, end); err != nil {
						t.Errorf("round %d: revoke: %v", round, err)
					}
				}
				end := issuer.Ending{At: now(), Reason: issuer.ReasonRevokedAll, By: issuer.ByUser}
				if _, _, err := others.Sessions().RevokeAll(t.Context(), subject, "", end); err != nil {
					t.Errorf("round %d: revoke all: %v", round, err)
				}
			})
		}
		group.Wait()
		stop()
		touching.Wait()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d calls of Touch with %d sessions each made %d writes; the slowest took %v", touched.Load(), users*perUser, touches(t, others), time.Duration(slowest.Load()))
}

// refresh rotates the refresh token of a session. It fails if the session is not active at now.
func refresh(ctx context.Context, db *sqlstore.DB, s issuer.Session, now time.Time) error {
	_, _, err := db.Sessions().Rotate(ctx, sha256.Sum256([]byte(s.ID)), func(r issuer.Rotatable) (issuer.Rotation, error) {
		if r.StatusAt(now) != issuer.StatusActive {
			return issuer.Rotation{}, issuer.ErrNotFound
		}
		return issuer.Rotation{
			TokenID: issuer.NewID(), At: now, AccessExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(24 * time.Hour),
			Current: sha256.Sum256(r.Current[:]), Previous: r.Current, RotatedAt: now,
		}, nil
	})
	return err
}

func withDeadlockTimeout(t *testing.T, rawURL, timeout string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("deadlock_timeout", timeout)
	u.RawQuery = query.Encode()
	return u.String()
}

func BenchmarkTouch(b *testing.B) {
	for _, size := range []int{1, 100, 500} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			db := sqlstoretest.NewPostgres(b)
			u := newUser("user-" + issuer.NewID())
			if err := db.Users().Create(b.Context(), u, time.Time{}, nil); err != nil {
				b.Fatal(err)
			}
			uses := make([]issuer.Use, size)
			for i := range uses {
				start := newStart(u.ID, 1, longAgo)
				start.ExpiresAt = longAgo.AddDate(100, 0, 0)
				if _, _, err := db.Sessions().Start(b.Context(), start); err != nil {
					b.Fatal(err)
				}
				uses[i].SessionID = start.ID
			}
			at := longAgo
			for b.Loop() {
				at = at.Add(time.Minute)
				for i := range uses {
					uses[i].At = at
				}
				if err := db.Sessions().Touch(b.Context(), uses); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
