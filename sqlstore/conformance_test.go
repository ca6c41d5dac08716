package sqlstore_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/identity/storetest"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/ledgertest"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// databases lists the databases that most tests run on.
var databases = []struct {
	name string
	open func(testing.TB) *sqlstore.DB
	url  func(testing.TB) string
}{
	{"SQLite", sqlstoretest.New, sqlstoretest.URL},
	{"Postgres", sqlstoretest.NewPostgres, sqlstoretest.PostgresURL},
}

func onEach(t *testing.T, run func(t *testing.T, db *sqlstore.DB)) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			run(t, d.open(t))
		})
	}
}

func TestSessions_PassLedgerContractTests(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			ledgertest.Run(t, func(t *testing.T) (issuer.Ledger, ledgertest.Users) {
				db := d.open(t)
				return db.Sessions(), ledgerUsers{db}
			})
		})
	}
}

// ledgerUsers implements [ledgertest.Users]: it changes users for the contract tests of the ledger.
type ledgerUsers struct{ db *sqlstore.DB }

func (u ledgerUsers) Add(ctx context.Context, username string) (string, error) {
	user := newUser(username)
	return user.ID, u.db.Users().Create(ctx, user, time.Time{}, nil)
}

func (u ledgerUsers) SetPassword(ctx context.Context, subject string, fromVersion int64, keep string, at time.Time) error {
	_, err := u.db.Users().SetPassword(ctx, subject, fromVersion, "another hash", keep, at, mail.Envelope{Kind: mail.KindPasswordChanged, UserID: subject})
	return err
}

func (u ledgerUsers) Delete(ctx context.Context, subject string, at time.Time) error {
	_, err := u.db.Users().Delete(ctx, subject, at, mail.Envelope{Kind: mail.KindAccountDeleted, UserID: subject})
	return err
}

func (u ledgerUsers) Fail(ctx context.Context, subject, id, reason string, client issuer.Client, at time.Time) error {
	return u.db.Users().RecordAttempt(ctx, identity.Attempt{
		ID: id, UserID: subject, IP: client.IP, UserAgent: client.UserAgent, Device: client.Device, Reason: reason, At: at,
	})
}

func (u ledgerUsers) Mails(ctx context.Context, subject string) ([]string, error) {
	mails, err := beside(u).Mails(ctx, subject)
	var kinds []string
	for _, m := range mails {
		kinds = append(kinds, string(m.Kind))
	}
	return kinds, err
}

func TestUsers_PassStoreContractTests(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) (storetest.Store, storetest.Beside) {
				db := d.open(t)
				return db.Users(), beside{db}
			})
		})
	}
}

// beside implements [storetest.Beside]: it changes sessions and reads tables for the contract tests
// of the user store.
type beside struct{ db *sqlstore.DB }

func (b beside) Login(ctx context.Context, userID string, passwordVersion int64, at time.Time) (string, error) {
	started, _, err := b.db.Sessions().Start(ctx, newStart(userID, passwordVersion, at))
	return started.ID, err
}

func (b beside) Endings(ctx context.Context, userID string) (map[string]string, error) {
	logins, err := b.db.Sessions().History(ctx, userID, issuer.Page{})
	endings := make(map[string]string)
	for _, l := range logins {
		endings[l.ID] = string(l.EndReason)
	}
	return endings, err
}

func (b beside) Attempts(ctx context.Context, userID string) ([]identity.Attempt, error) {
	logins, err := b.db.Sessions().History(ctx, userID, issuer.Page{})
	var attempts []identity.Attempt
	for _, l := range logins {
		if l.Failed {
			attempts = append(attempts, identity.Attempt{
				ID: l.ID, UserID: userID, IP: l.IP, UserAgent: l.UserAgent, Device: l.Device, Reason: string(l.EndReason), At: l.CreatedAt,
			})
		}
	}
	return attempts, err
}

func (b beside) Revocation(ctx context.Context, id int64) (userID, keep string, err error) {
	r, err := b.db.Sessions().Revocation(ctx, id)
	return r.Subject, r.Keep, err
}

func (b beside) Mails(ctx context.Context, userID string) ([]mail.Envelope, error) {
	var payloads []string
	query := b.db.SQL().Rebind(`SELECT payload FROM outbox WHERE topic = 'mail' AND user_id = ? ORDER BY id`)
	if err := b.db.SQL().SelectContext(ctx, &payloads, query, userID); err != nil {
		return nil, err
	}
	mails := make([]mail.Envelope, len(payloads))
	for i, text := range payloads {
		if err := json.Unmarshal([]byte(text), &mails[i]); err != nil {
			return nil, err
		}
	}
	return mails, nil
}

func (b beside) Row(ctx context.Context, userID string) (string, error) {
	row := make(map[string]any)
	err := b.db.SQL().QueryRowxContext(ctx, b.db.SQL().Rebind(`SELECT * FROM users WHERE id = ?`), userID).MapScan(row)
	return fmt.Sprint(row), err
}

// newStart returns a login for a user whose password has the version passwordVersion.
func newStart(userID string, passwordVersion int64, at time.Time) issuer.Start {
	id := issuer.NewTimedID(at)
	return issuer.Start{
		ID: id, Subject: userID, TokenID: issuer.NewID(), CredentialVersion: passwordVersion, AMR: "pwd", At: at,
		AccessExpiresAt: at.Add(time.Hour), ExpiresAt: at.Add(24 * time.Hour), MaxExpiresAt: at.Add(72 * time.Hour),
		RefreshFamily: sha256.Sum256([]byte(id)), RefreshCurrent: sha256.Sum256([]byte(id + "0")),
	}
}

var longAgo = time.Date(2001, 2, 3, 4, 5, 6, 789000, time.UTC)

// newUser returns an active user with a confirmed address, whose password has version 1.
func newUser(username string) identity.User {
	return identity.User{
		ID: issuer.NewID(), Username: username, Email: username + "@example.org", PasswordHash: "hash", PasswordVersion: 1,
		Status: identity.StatusActive, EmailVerifiedAt: longAgo, CreatedAt: longAgo, UpdatedAt: longAgo,
	}
}
