package sqlstore_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// calls returns functions by name. Each function calls one method of Sessions, Users or DB.
// Together they call every method that uses the database.
func calls(db *sqlstore.DB, subject string) (sessions, users map[string]func(context.Context) error) {
	s, u := db.Sessions(), db.Users()
	end := issuer.Ending{At: longAgo, Reason: issuer.ReasonLogout, By: issuer.ByUser}
	user := newUser("caller")
	sessions = map[string]func(context.Context) error{
		"Start": func(ctx context.Context) error { _, _, err := s.Start(ctx, newStart(subject, 1, longAgo)); return err },
		"Find":  func(ctx context.Context) error { _, err := s.Find(ctx, subject, "id", longAgo); return err },
		"Rotate": func(ctx context.Context) error {
			_, _, err := s.Rotate(ctx, issuer.Hash{1}, nil)
			return err
		},
		"Reauthenticate": func(ctx context.Context) error {
			_, _, err := s.Reauthenticate(ctx, issuer.Reauthentication{Subject: subject, ID: "id", At: longAgo})
			return err
		},
		"Touch": func(ctx context.Context) error {
			return s.Touch(ctx, []issuer.Use{{SessionID: "id", At: longAgo}})
		},
		"Active":  func(ctx context.Context) error { _, err := s.Active(ctx, subject, longAgo, issuer.Page{}); return err },
		"History": func(ctx context.Context) error { _, err := s.History(ctx, subject, issuer.Page{}); return err },
		"Revoke":  func(ctx context.Context) error { _, _, err := s.Revoke(ctx, subject, "id", end); return err },
		"RevokeAll": func(ctx context.Context) error {
			_, _, err := s.RevokeAll(ctx, subject, "", end)
			return err
		},
		"Numbers":   func(ctx context.Context) error { _, err := db.Numbers(ctx, longAgo); return err },
		"SubjectOf": func(ctx context.Context) error { _, err := s.SubjectOf(ctx, "id"); return err },
		"Search": func(ctx context.Context) error {
			_, _, err := s.Search(ctx, issuer.Filter{}, longAgo, issuer.Page{Limit: 1})
			return err
		},
		"Count": func(ctx context.Context) error { _, _, err := s.Count(ctx, issuer.Filter{}, longAgo, ""); return err },
		"StartBulk": func(ctx context.Context) error {
			return s.StartBulk(ctx, issuer.Bulk{ID: subject, StartedAt: longAgo}, "", 0)
		},
		"Bulk": func(ctx context.Context) error { _, err := s.Bulk(ctx, "id"); return err },
		"ClaimBulk": func(ctx context.Context) error {
			_, err := s.ClaimBulk(ctx, "id", "owner", longAgo, time.Second)
			return err
		},
		"StepBulk": func(ctx context.Context) error { _, _, err := s.StepBulk(ctx, "id", longAgo, 1); return err },
		"RevokeToken": func(ctx context.Context) error {
			_, err := s.RevokeToken(ctx, subject, "id", "jti", longAgo, longAgo)
			return err
		},
		"Revocation":     func(ctx context.Context) error { _, err := s.Revocation(ctx, 1); return err },
		"DueRevocations": func(ctx context.Context) error { _, err := s.DueRevocations(ctx, longAgo, time.Minute, 1); return err },
		"RevocationDone": func(ctx context.Context) error { return s.RevocationDone(ctx, 1, 2) },
		"Ping":           db.Ping,
		"Clock":          func(ctx context.Context) error { _, err := db.Clock(ctx); return err },
		"MigrationStatus": func(ctx context.Context) error {
			_, _, err := db.MigrationStatus(ctx)
			return err
		},
	}
	users = map[string]func(context.Context) error{
		"Create":     func(ctx context.Context) error { return u.Create(ctx, user, longAgo, nil) },
		"ByID":       func(ctx context.Context) error { _, err := u.ByID(ctx, subject); return err },
		"ByUsername": func(ctx context.Context) error { _, err := u.ByUsername(ctx, "name"); return err },
		"ByEmail":    func(ctx context.Context) error { _, err := u.ByEmail(ctx, "name"); return err },
		"Update": func(ctx context.Context) error {
			_, err := u.Update(ctx, subject, identity.Profile{}, longAgo)
			return err
		},
		"SetAttributes": func(ctx context.Context) error {
			_, err := u.SetAttributes(ctx, subject, identity.AttributeChange{Claims: new("{}")}, longAgo)
			return err
		},
		"Suspend":   func(ctx context.Context) error { _, err := u.Suspend(ctx, subject, longAgo); return err },
		"Reinstate": func(ctx context.Context) error { return u.Reinstate(ctx, subject, longAgo) },
		"Find":      func(ctx context.Context) error { _, err := u.Find(ctx, identity.UserQuery{Limit: 1}); return err },
		"Events":    func(ctx context.Context) error { _, err := db.Events().Events(ctx, audit.Query{Limit: 1}); return err },
		"Head":      func(ctx context.Context) error { _, err := db.Events().Head(ctx); return err },
		"Seal":      func(ctx context.Context) error { _, err := db.Events().Seal(ctx, 1); return err },
		"Record":    func(ctx context.Context) error { return db.Events().Record(ctx, audit.Event{At: longAgo}) },
		"Clients":   func(ctx context.Context) error { _, err := db.Clients().Clients(ctx); return err },
		"AddClient": func(ctx context.Context) error {
			return db.Clients().AddClient(ctx, clients.Client{ID: subject, CreatedAt: longAgo})
		},
		"RotateClient": func(ctx context.Context) error {
			return db.Clients().RotateClient(ctx, subject, clients.Hash{}, longAgo, longAgo)
		},
		"RevokeClient": func(ctx context.Context) error { return db.Clients().RevokeClient(ctx, subject, longAgo) },
		"Rehash":       func(ctx context.Context) error { return u.Rehash(ctx, subject, "old", "new") },
		"SetPassword": func(ctx context.Context) error {
			_, err := u.SetPassword(ctx, subject, 1, "hash", "", longAgo, mail.Envelope{})
			return err
		},
		"ResetPassword": func(ctx context.Context) error {
			_, err := u.ResetPassword(ctx, identity.TokenHash{}, subject, "hash", longAgo, mail.Envelope{})
			return err
		},
		"Delete": func(ctx context.Context) error {
			_, err := u.Delete(ctx, subject, longAgo, mail.Envelope{})
			return err
		},
		"IssueToken": func(ctx context.Context) error {
			return u.IssueToken(ctx, subject, "name@example.org", identity.PurposeReset, identity.TokenHash{}, longAgo, longAgo)
		},
		"TokenUser": func(ctx context.Context) error {
			_, err := u.TokenUser(ctx, identity.PurposeReset, identity.TokenHash{}, longAgo)
			return err
		},
		"ConfirmEmail": func(ctx context.Context) error { return u.ConfirmEmail(ctx, identity.TokenHash{}, true, longAgo) },
		"IssueUndo": func(ctx context.Context) error {
			return u.IssueUndo(ctx, identity.TokenHash{}, identity.Undo{UserID: subject})
		},
		"UndoEmailChange": func(ctx context.Context) error {
			_, err := u.UndoEmailChange(ctx, identity.TokenHash{}, "hash", longAgo)
			return err
		},
		"ForgetUndos": func(ctx context.Context) error {
			_, err := u.ForgetUndos(ctx, longAgo, 1)
			return err
		},
		"RecordAttempt": func(ctx context.Context) error {
			return u.RecordAttempt(ctx, identity.Attempt{ID: "id", UserID: subject, At: longAgo})
		},
		"Prune": func(ctx context.Context) error {
			_, err := u.Prune(ctx, identity.ForgetEvents, longAgo, longAgo, 1)
			return err
		},
		"ForgetPending": func(ctx context.Context) error {
			_, err := u.ForgetPending(ctx, longAgo, 1)
			return err
		},
		"EventsOf":  func(ctx context.Context) error { _, err := u.EventsOf(ctx, subject, 0, 1); return err },
		"UndosOf":   func(ctx context.Context) error { _, err := u.UndosOf(ctx, subject); return err },
		"MailsOf":   func(ctx context.Context) error { _, _, err := u.MailsOf(ctx, subject); return err },
		"Enqueue":   func(ctx context.Context) error { return u.Enqueue(ctx, mail.Envelope{}, longAgo) },
		"DueMail":   func(ctx context.Context) error { _, err := u.DueMail(ctx, longAgo, time.Minute, 1); return err },
		"MailDone":  func(ctx context.Context) error { return u.MailDone(ctx, 1) },
		"MailRetry": func(ctx context.Context) error { return u.MailRetry(ctx, 1, longAgo) },
	}
	return sessions, users
}

// wantUnavailable calls all methods concurrently and checks that each returns the ErrUnavailable of
// its package.
func wantUnavailable(t *testing.T, db *sqlstore.DB) {
	t.Helper()
	sessions, users := calls(db, "nobody")
	began := time.Now()
	var group sync.WaitGroup
	check := func(name string, call func(context.Context) error, want, not error) {
		group.Go(func() {
			err := call(t.Context())
			if !errors.Is(err, want) || errors.Is(err, not) {
				t.Errorf("%s = %v", name, err)
			}
		})
	}
	for name, call := range sessions {
		check(name, call, session.ErrUnavailable, identity.ErrUnavailable)
	}
	for name, call := range users {
		check(name, call, identity.ErrUnavailable, session.ErrUnavailable)
	}
	group.Wait()
	if took := time.Since(began); took > time.Minute { // a minute is much longer than the timeouts, because a test machine may be busy
		t.Errorf("the calls took %v", took)
	}
}

func TestDB_ReturnsUnavailableAfterClose(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db, err := sqlstore.Open(t.Context(), d.url(t), sqlstore.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if d.name == "SQLite" {
				// With SQLite, the clock is the machine's clock, which is never unavailable.
				if _, err := db.Clock(t.Context()); err != nil {
					t.Error(err)
				}
				return
			}
			wantUnavailable(t, db)
		})
	}
}

func TestDB_ReconnectsAfterClosedConnectionsAndReturnsUnavailableWithoutServer(t *testing.T) {
	t.Parallel()
	p, rawURL := throughProxy(t, sqlstoretest.PostgresURL(t))
	db := open(t, rawURL, sqlstore.Options{})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	subject := addUser(t, db)
	p.cut() // cut closes the connections, as a restart of Postgres does
	if _, err := db.Users().ByID(t.Context(), subject); err != nil {
		t.Errorf("the first call after the connections were closed: %v", err)
	}
	p.cut()
	if _, _, err := db.Sessions().Start(t.Context(), newStart(subject, 1, longAgo)); err != nil {
		t.Errorf("the first call after the connections were closed: %v", err)
	}
	p.stop()
	wantUnavailable(t, db)
}

// TestDB_EndsCallsAtTheirTimeoutsWhenServerHangs checks that calls end at their timeouts if
// Postgres accepts bytes and never answers.
func TestDB_EndsCallsAtTheirTimeoutsWhenServerHangs(t *testing.T) {
	t.Parallel()
	p, rawURL := throughProxy(t, sqlstoretest.PostgresURL(t))
	const timeout = time.Second
	db := open(t, rawURL, sqlstore.Options{MaxConns: 40, QueryTimeout: timeout})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Sessions().Find(t.Context(), "nobody", "nothing", longAgo); !errors.Is(err, issuer.ErrNotFound) {
		t.Fatal(err)
	}
	p.freeze()
	wantUnavailable(t, db)

	// A call ends at its caller's deadline if that is earlier than QueryTimeout. Only one of five
	// calls has to end before QueryTimeout, because a test machine may be busy.
	var took time.Duration
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		began := time.Now()
		_, err := db.Sessions().Find(ctx, "nobody", "nothing", longAgo)
		took = time.Since(began)
		cancel()
		if !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Find = %v, want ErrUnavailable", err)
		}
		if took < timeout {
			return
		}
	}
	t.Errorf("Find gave up after %v, want 50ms", took)
}

func TestDB_ReturnsCanceledForCanceledContext(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		sessions, users := calls(db, "nobody")
		delete(sessions, "Clock") // with SQLite, Clock does not use the database
		for _, methods := range []map[string]func(context.Context) error{sessions, users} {
			for name, call := range methods {
				err := call(ctx)
				if !errors.Is(err, context.Canceled) || errors.Is(err, session.ErrUnavailable) || errors.Is(err, identity.ErrUnavailable) {
					t.Errorf("%s = %v", name, err)
				}
			}
		}
	})
}

func TestDB_ReturnsUnavailableAfterDeadline(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		if _, err := db.Sessions().Find(ctx, "nobody", "nothing", longAgo); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Find after the deadline = %v, want ErrUnavailable", err)
		}
		if err := db.Users().ConfirmEmail(ctx, identity.TokenHash{}, true, longAgo); !errors.Is(err, identity.ErrUnavailable) {
			t.Errorf("ConfirmEmail after the deadline = %v, want ErrUnavailable", err)
		}
	})
}

// TestDB_DoesNotReturnUnavailableForMissingTables checks an error that a retry cannot repair. The
// service must not answer with status 503, because that tells clients to retry.
func TestDB_DoesNotReturnUnavailableForMissingTables(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, d.url(t), sqlstore.Options{}) // this database has no tables
			sessions, users := calls(db, "nobody")
			for _, name := range []string{"Ping", "Clock", "MigrationStatus"} {
				delete(sessions, name)
			}
			for _, methods := range []map[string]func(context.Context) error{sessions, users} {
				for name, call := range methods {
					err := call(t.Context())
					if err == nil || errors.Is(err, session.ErrUnavailable) || errors.Is(err, identity.ErrUnavailable) {
						t.Errorf("%s = %v", name, err)
					}
				}
			}
		})
	}
}

// TestStart_ReturnsUnavailableWhileUserRowIsLocked starts a session while another transaction has locked
// the user's row and does not end.
func TestStart_ReturnsUnavailableWhileUserRowIsLocked(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			rawURL := d.url(t)
			holder := open(t, rawURL, sqlstore.Options{QueryTimeout: time.Minute})
			if err := holder.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			subject := addUser(t, holder)
			held, release := make(chan struct{}), make(chan struct{})
			var group sync.WaitGroup
			group.Go(func() {
				err := holder.LockUsers(t.Context(), func(i int) {
					if i == 1 { // now the transaction holds the lock on the user's row
						close(held)
						<-release
					}
				}, subject, subject)
				if err != nil {
					t.Error(err)
				}
			})
			<-held
			db := open(t, rawURL, sqlstore.Options{QueryTimeout: 2 * time.Second})
			began := time.Now()
			if _, _, err := db.Sessions().Start(t.Context(), newStart(subject, 1, longAgo)); !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("Start on a locked user = %v, want ErrUnavailable", err)
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("Start gave up only after %v", took)
			}
			close(release)
			group.Wait()
			if _, _, err := db.Sessions().Start(t.Context(), newStart(subject, 1, longAgo)); err != nil {
				t.Errorf("Start after the row was released: %v", err)
			}
		})
	}
}

// TestDB_ReturnsUnavailableSoonWhileAllConnectionsAreInUse calls methods while every connection belongs
// to a transaction that waits. The calls must not wait until their own time limit.
func TestDB_ReturnsUnavailableSoonWhileAllConnectionsAreInUse(t *testing.T) {
	t.Parallel()
	const conns, timeout = 2, 20 * time.Second
	db := open(t, sqlstoretest.PostgresURL(t), sqlstore.Options{MaxConns: conns, QueryTimeout: timeout})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	subject := addUser(t, db)
	release := make(chan struct{})
	var held, group sync.WaitGroup
	held.Add(conns)
	for range conns {
		group.Go(func() {
			if err := db.LockUsers(t.Context(), func(int) { held.Done(); <-release }, subject); err != nil {
				t.Error(err)
			}
		})
	}
	held.Wait()
	sessions, users := calls(db, subject)
	var slowest time.Duration
	for name, call := range map[string]func(context.Context) error{
		"Start": sessions["Start"], "Rotate": sessions["Rotate"], "Revoke": sessions["Revoke"],
		"Find": sessions["Find"], "ByUsername": users["ByUsername"], "Create": users["Create"], "MailDone": users["MailDone"],
	} {
		began := time.Now()
		if err := call(t.Context()); !errors.Is(err, session.ErrUnavailable) && !errors.Is(err, identity.ErrUnavailable) {
			t.Errorf("%s = %v", name, err)
		}
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("the slowest of the calls took %v", slowest)
	if slowest > timeout/4 { // about 200 ms, but a test machine may be busy
		t.Errorf("a call took %v", slowest)
	}
	close(release)
	group.Wait()
	if err := sessions["Start"](t.Context()); err != nil {
		t.Errorf("Start after the connections were free again: %v", err)
	}
}

func TestInTx_RetriesAfterDeadlock(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(sqlstoretest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("deadlock_timeout", "20ms") // by default, Postgres detects a deadlock only after a second
	u.RawQuery = query.Encode()
	db := open(t, u.String(), sqlstore.Options{QueryTimeout: time.Minute})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, b := addUser(t, db), addUser(t, db)
	// To cause a deadlock, both transactions lock their first user before either locks its second.
	var both, group sync.WaitGroup
	both.Add(2)
	runs := make(chan struct{}, 10)
	for _, order := range [][]string{{a, b}, {b, a}} {
		first := true
		group.Go(func() {
			err := db.LockUsers(t.Context(), func(i int) {
				if i == 0 {
					runs <- struct{}{}
				}
				if i == 1 && first {
					first = false
					both.Done()
					both.Wait()
				}
			}, order...)
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(runs) < 3 {
		t.Errorf("two transactions in a deadlock ran %d times in all, want at least 3", len(runs))
	}
}

func TestDB_ReturnsUnavailableForWritesOnReadOnlyServer(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(sqlstoretest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := open(t, u.String(), sqlstore.Options{}).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("default_transaction_read_only", "on")
	u.RawQuery = query.Encode()
	db := open(t, u.String(), sqlstore.Options{})
	if err := db.Sessions().RevocationDone(t.Context(), 1); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("RevocationDone on a read-only server = %v, want ErrUnavailable", err)
	}
	if _, err := db.Sessions().Find(t.Context(), "nobody", "nothing", longAgo); !errors.Is(err, issuer.ErrNotFound) {
		t.Errorf("Find on a read-only server = %v, want ErrNotFound", err)
	}
}

func TestOpen_SetsQueryTimeoutOnPostgresServer(t *testing.T) {
	t.Parallel()
	db := open(t, sqlstoretest.PostgresURL(t), sqlstore.Options{QueryTimeout: 1234 * time.Millisecond})
	for name, want := range map[string]string{
		"statement_timeout": "1234ms", "lock_timeout": "1234ms", "idle_in_transaction_session_timeout": "1234ms",
		"transaction_isolation": "read committed", "application_name": "sessiond",
	} {
		var got string
		if err := db.SQL().GetContext(t.Context(), &got, "SHOW "+name); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", name, got, err, want)
		}
	}
}

func TestOpen_ErrorForInvalidURLDoesNotQuotePassword(t *testing.T) {
	t.Parallel()
	for _, rawURL := range []string{
		"", "mysql://user:sesame@127.0.0.1/db", "127.0.0.1:5432", "sqlite",
		"sqlite:/no/such/directory/file.db",
		"postgres://user:sesame@127.0.0.1:port/db",
		"postgres://user:ses/ame@127.0.0.1/db", // an unescaped slash in the password
		"postgres://user:sesame@127.0.0.1:1/db?sslmode=perhaps",
		"postgres://user:sesame@127.0.0.1:1/db?sslmode=disable",
	} {
		db, err := sqlstore.Open(t.Context(), rawURL, sqlstore.Options{})
		if err == nil {
			t.Errorf("Open accepted %q", rawURL)
			_ = db.Close()
			continue
		}
		if strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), ":ses") {
			t.Errorf("the error quotes a part of the password: %v", err)
		}
	}
	if _, err := sqlstore.Open(t.Context(), "postgres://127.0.0.1:1/db?sslmode=disable", sqlstore.Options{}); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Open without a server = %v, want ErrUnavailable", err)
	}
}

// TestOpen_RefusesPostgresWithoutVerifiedCertificateByDefault_ASVS_V12_3_1_V12_3_2 connects to the Postgres of the
// tests, which has no TLS or no trusted certificate.
func TestOpen_RefusesPostgresWithoutVerifiedCertificateByDefault_ASVS_V12_3_1_V12_3_2(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(sqlstoretest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Del("sslmode")
	u.RawQuery = query.Encode()
	db, err := sqlstore.Open(t.Context(), u.String(), sqlstore.Options{})
	if err == nil {
		_ = db.Close()
		t.Error("Open connected without a verified certificate")
	}
}

func addUser(t *testing.T, db *sqlstore.DB) string {
	t.Helper()
	u := newUser("user-" + issuer.NewID())
	if err := db.Users().Create(t.Context(), u, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	return u.ID
}
